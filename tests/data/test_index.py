"""The index on disk gives the same studies and examples as the source itself."""

import pickle

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from mimic_tree import make_tree

from xr2text.config import DataConfig, layout_config
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.examples import examples_of, finding_rows, label_names, report_lengths
from xr2text.data.index import StudyTable, open_studies, write_index
from xr2text.data.sources import DataError, load_studies
from xr2text.data.sources.labelled import MASK_FOLDERS
from xr2text.imaging.transform import ImageTransform
from xr2text.text.findings.table import FINDING_NAMES
from xr2text.text.tokenizer import train_tokenizer
from xr2text.training.data import build_curriculum

STAGES = "training.curriculum=[{name: normal, epochs: 1, normal_only: true}, {name: all, epochs: 1}]"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """40 studies of all kinds: without views, laterals alone, without a report or with one section."""
    folder = tmp_path_factory.mktemp("studies")
    tree = make_tree(folder / "mimic", 40)
    views = pd.read_csv(tree / "mimic-cxr-2.0.0-metadata.csv.gz", dtype=str)
    views.loc[views.index % 4 == 0, "ViewPosition"] = ""
    views.loc[views.index % 7 == 3, "ViewPosition"] = "LL"
    views.to_csv(tree / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    for number, path in enumerate(sorted(tree.rglob("*.txt"))):
        if number % 5 == 1:
            path.write_text("FINDINGS: ___")
        if number % 5 == 2:
            path.write_text("IMPRESSION: Moderate cardiomegaly.")
    masks = folder / "masks"
    for part in (masks / "images", *(masks / "masks" / name for name in MASK_FOLDERS)):
        part.mkdir(parents=True)
        for name in ("x", "y"):
            cv2.imwrite(str(part / f"{name}.png"), np.full((80, 70), 255, np.uint8))
    return folder


@pytest.fixture
def configs(root, tmp_path):
    """Without an index, and with one."""
    given = {"root": str(root / "mimic"), "region_masks": str(root / "masks")}
    return DataConfig("mimic_cxr", **given), DataConfig("mimic_cxr", cache=str(tmp_path / "cache"), **given)


def test_the_index_gives_the_same_studies(configs):
    plain, mapped = (open_studies(config, 64) for config in configs)
    assert plain.keys() == mapped.keys()
    for split, studies in plain.items():
        assert isinstance(mapped[split], StudyTable) and len(mapped[split]) == len(studies)
        assert list(mapped[split]) == studies and [mapped[split][row] for row in range(len(studies))] == studies
    assert mapped["train"][-1] == plain["train"][-1] and label_names(mapped["train"]) == label_names(plain["train"])
    with pytest.raises(IndexError):
        mapped["val"][len(plain["val"])]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("impression", [True, False])
def test_the_index_gives_the_same_examples(configs, split, training, impression):
    ours, theirs = (
        examples_of(open_studies(config, 64)[split], training, impression, mask_repeats=3) for config in configs
    )
    assert len(ours) > 0 and list(theirs) == list(ours) and sorted(theirs.empty) == sorted(ours.empty)
    names = [*FINDING_NAMES[:5], "nonsense"]
    torch.testing.assert_close(finding_rows(theirs, names), finding_rows(ours, names), equal_nan=True)
    assert report_lengths(theirs, impression).tolist() == report_lengths(ours, impression).tolist()


def test_the_index_gives_the_same_stages_and_batches(configs, root, tmp_path):
    tokenizer = train_tokenizer(["The heart is normal. No disease. Clear lungs."] * 4, 300)
    batches, tables, longest = [], [], []
    for config in configs:
        studies = open_studies(config, 64)["train"]
        data = ReportDataset(
            studies, ImageTransform(64, (0.5,) * 3, (0.5,) * 3), tokenizer, 60, findings=FINDING_NAMES, grounded=True,
            placed=True, training=True, grid=(4, 4),
        )  # fmt: skip
        batches.append(collate([data[index] for index in (0, 5, len(data) - 1)]))
        settings = layout_config([f"data.source={config.source}", f"data.root={config.root}", STAGES])
        settings.data = config
        tables.append(build_curriculum(settings, studies))
        longest.append(data.longest(3))
    assert batches[0].keys() == batches[1].keys()
    for name, value in batches[0].items():
        torch.testing.assert_close(batches[1][name], value, equal_nan=True)
    assert tables[0].table() == tables[1].table() and longest[0] == longest[1]
    assert [one.indices for one in tables[0].stages] == [one.indices for one in tables[1].stages]


def test_the_index_travels_by_its_place(configs):
    table = open_studies(configs[1], 64)["train"]
    packed = pickle.dumps(table)
    assert len(packed) < 400 and list(pickle.loads(packed)) == list(table)


def test_the_index_is_made_once_and_anew_when_a_table_or_a_setting_changes(configs, monkeypatch, root):
    config = configs[1]
    open_studies(config, 64)
    import xr2text.data.index as module

    calls = []
    monkeypatch.setattr(module, "load_studies", lambda *args: calls.append(1) or load_studies(*args))
    open_studies(config, 64)
    assert calls == []
    split = root / "mimic" / "mimic-cxr-2.0.0-split.csv.gz"
    pd.read_csv(split, dtype=str).iloc[:-1].to_csv(split, index=False)
    open_studies(config, 64)
    assert calls == [1]
    config.labels = "indexed"
    assert label_names(open_studies(config, 64)["train"]) == frozenset() and calls == [1, 1]
    open_studies(config, 64, anew=True)
    assert calls == [1, 1, 1]


def test_a_damaged_index_is_named_and_an_unfinished_one_is_not_there(configs, tmp_path):
    config = configs[1]
    open_studies(config, 64)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"index-.*\.arrow is damaged"):
        open_studies(config, 64)
    studies = load_studies(configs[0], 64)
    with pytest.raises(AttributeError):
        write_index(tmp_path / "new.arrow", studies | {"test": [None]}, names=[])
    assert not (tmp_path / "new.arrow").exists()
