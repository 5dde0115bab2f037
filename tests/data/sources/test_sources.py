"""The index in the cache gives the same studies as the source, and follows it."""

import pickle

import pandas as pd
import pytest

from xr2text.config import DataConfig
from xr2text.data import sources
from xr2text.data.sources import load_studies
from xr2text.data.study import DataError, UnreadableImageError


@pytest.fixture
def configs(tree, tmp_path):
    """Without a cache, and with one."""
    given = {"source": "mimic_cxr", "root": str(tree)}
    return DataConfig(**given), DataConfig(**given, cache=str(tmp_path / "cache"))


@pytest.fixture
def readings(monkeypatch):
    """Counts how often the source itself is read."""
    calls, read = [], sources.READERS["mimic_cxr"]
    monkeypatch.setitem(sources.READERS, "mimic_cxr", lambda *args: calls.append(1) or read(*args))
    return calls


def test_the_index_gives_the_same_studies(configs, readings):
    plain, mapped = (load_studies(config) for config in configs)
    again = load_studies(configs[1])
    assert len(readings) == 2
    for split, studies in plain.items():
        assert list(mapped[split]) == list(again[split]) == list(studies) and len(studies) > 0
        assert mapped[split].label_names == studies.label_names


def test_the_index_travels_by_its_place(configs):
    table = load_studies(configs[1])["train"]
    packed = pickle.dumps(table)
    assert len(packed) < 10_000 and list(pickle.loads(packed)) == list(table)


def test_the_index_is_made_anew_when_a_table_or_a_setting_changes(configs, readings, tree):
    config = configs[1]
    before = load_studies(config)["test"]
    split = tree / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(split, dtype=str)
    table.to_csv(split, index=False)
    load_studies(config)
    assert len(readings) == 2
    load_studies(config, anew=True)
    assert len(readings) == 3 and len(before) == 6
    config.tuning_fraction, config.augmentation, config.workers = 0.3, 0.5, 0
    load_studies(config)
    assert len(readings) == 3, "these change nothing that the index holds"
    config.split_file = "unused.json"
    load_studies(config)
    load_studies(config, findings=["edema"])
    assert len(readings) == 4


def test_the_index_is_made_anew_when_reports_come_later(configs, readings, tree):
    def reported():
        return sum((studies.text_lengths("findings") > 0).sum() for studies in load_studies(configs[1]).values())

    patient = next(tree.glob("files/p*/p*/*.txt")).parent
    patient.rename(tree / "elsewhere")  # not unpacked yet
    before = reported()
    (tree / "elsewhere").rename(patient)
    assert reported() == reported() > before and len(readings) == 2


def test_the_index_is_made_anew_when_reports_are_read_by_other_rules(configs, readings, monkeypatch, tmp_path):
    load_studies(configs[1])
    (tmp_path / "rules.py").write_text("NO = ['no']")
    monkeypatch.setattr(sources, "_RULES", [tmp_path / "rules.py"])
    load_studies(configs[1])
    load_studies(configs[1])
    assert len(readings) == 2


def test_a_damaged_index_is_named_and_an_unfinished_one_is_not_there(configs, tmp_path, tree):
    load_studies(configs[1])
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"index-.*\.arrow is damaged"):
        load_studies(configs[1])
    path.unlink()
    table = pd.read_csv(tree / "mimic-cxr-2.0.0-split.csv.gz", dtype=str)
    table.loc[table.index[-1], "split"] = "test"
    table.to_csv(tree / "mimic-cxr-2.0.0-split.csv.gz", index=False)
    with pytest.raises(DataError, match="stands in test and in train"):
        load_studies(configs[1])
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_image_that_is_not_there_is_left_to_be_skipped_in_every_layout(indiana, load_by_id, tmp_path):
    (indiana / "images" / "1_front.png").unlink()
    (indiana / "manifest.csv").write_text("id,image,findings\n1,images/1_front.png,Clear.\n2,images/2_a.png,Clear.\n")
    (indiana / "1.xml").write_text('<a><uId id="CXR1"/><parentImage id="1_front"/><parentImage id="1_lat"/></a>')
    for source, study in (("indiana", "1"), ("r2gen", "CXR1_IM-1"), ("manifest", "1"), ("openi", "1")):
        (image,) = load_by_id(source, indiana)[study].frontal_images
        with pytest.raises(UnreadableImageError, match=r"1_front\.png: The file cannot be opened"):
            image.read()
