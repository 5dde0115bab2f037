"""A whole evaluation of a tiny model on a folder of drawn radiographs in R2Gen's layout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from xr2text.cli.main import main
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.data.study import DataError
from xr2text.evaluation.evaluate import dataset_of, evaluate, has_published_split, read_predictions_file
from xr2text.phantom.drawing import draw_phantom

ROOT = Path(__file__).parents[2]
FILES = {"metrics.json", "table.md", "predictions.csv", "findings.png", "examples.html", "work"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """24 train, 6 validation and 7 test studies, their reports numbered and dotted as real ones are."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "images").mkdir()
    annotation: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for number in range(37):
        split = "train" if number < 24 else "val" if number < 30 else "test"
        phantom = draw_phantom(number, 64)
        pixels = np.round(phantom.radiograph.pixels * 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
        annotation[split].append(
            {"id": f"CXR{number}_IM-{number}", "report": phantom.findings_text, "image_path": [f"{number}.png"]}
        )
    (folder / "annotation.json").write_text(json.dumps(annotation))
    return folder


def arguments(root, out, checkpoint) -> list[str]:
    command = ["evaluate", "--checkpoint", str(checkpoint), "--source", "r2gen", "--root", str(root), "--out", str(out)]
    return [*command, "--batch-size", "3", "--no-meteor"]


def run(root, out, checkpoint, *options: str) -> int:
    return main([*arguments(root, out, checkpoint), *options])


@pytest.fixture(scope="module")
def evaluated(root, tiny_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluations") / "tiny"
    assert run(root, out, tiny_checkpoint) == 0
    return out


def read(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def test_everything_is_written(evaluated):
    assert {file.name for file in evaluated.iterdir()} == FILES
    assert min(cv2.imread(str(evaluated / "findings.png")).shape[:2]) > 200
    page = (evaluated / "examples.html").read_text()
    assert page.count("<article>") == 7 and page.count("<img") == 14


def test_metrics_stand_under_their_names_for_the_model_and_both_baselines(evaluated):
    metrics = read(evaluated)
    assert (metrics["dataset"], metrics["split"], metrics["studies"]) == ("iu_xray", "test", 7)
    for scores in (metrics, metrics["baselines"]["constant"], metrics["baselines"]["retrieval"]):
        for protocol in ("r2gen", "full", "cased"):
            assert 0 <= scores["language"][protocol]["bleu_4"] <= 1
            low, high = scores["intervals"]["language"][protocol]["rouge_l"]
            assert low <= scores["language"][protocol]["rouge_l"] <= high
        assert scores["clinical"]["micro_14"].keys() == {"precision", "recall", "f1"}
        assert "f1" in scores["clinical"]["micro_5"] and scores["clinical"]["contradictions"] >= 0
    assert metrics["baselines"]["constant"]["distinct_findings"] == 1
    assert set(metrics["degeneration"].values()) <= set(range(8)) and len(metrics["degeneration"]) == 7
    # Phantoms' reports repeat, and the constant one is the commonest kind: it cannot be worthless.
    assert metrics["baselines"]["constant"]["language"]["r2gen"]["bleu_1"] > 0.2


def test_a_model_of_both_views_has_a_row_from_frontal_views_alone(root, make_tiny, tmp_path):
    checkpoint = make_tiny(("right pleural effusion", "cardiomegaly"), lateral_queries=2)
    data = DataConfig(source="r2gen", root=str(root))
    metrics = evaluate(checkpoint, data, tmp_path / "both", batch_size=4, meteor=False)
    # No study of this folder has a lateral view: both ways are the same.
    assert metrics["frontal_alone"]["language"] == metrics["language"]
    assert "xr2text-tiny 0.1.0, frontal views alone" in (tmp_path / "both" / "table.md").read_text()
    assert {"seen", "asserted", "denied"} == metrics["head_agreement"].keys()


def test_the_table_shows_the_model_the_baselines_and_the_published_systems(evaluated):
    table = (evaluated / "table.md").read_text()
    for row in ("xr2text-tiny", "constant", "retrieval", "R2Gen", "CMN", "METransformer", "ORGAN"):
        assert row in table, row


def test_predictions_hold_every_study_once(evaluated, root):
    table = pd.read_csv(evaluated / "predictions.csv", keep_default_na=False)
    test = json.loads((root / "annotation.json").read_text())["test"]
    assert list(table.columns) == ["id", "reference", "generated", "findings"]
    assert list(table["id"]) == [item["id"] for item in test]
    assert list(table["reference"]) == [item["report"] for item in test]


def test_scoring_the_predictions_alone_gives_the_same_scores(evaluated, root, tiny_checkpoint, tmp_path):
    table = pd.read_csv(evaluated / "predictions.csv", keep_default_na=False)
    others = pd.DataFrame({"id": table["id"], "findings": table["generated"]}).sample(frac=1, random_state=1)
    others.to_csv(tmp_path / "theirs.csv", index=False)
    assert run(root, tmp_path / "out", tiny_checkpoint, "--predictions", str(tmp_path / "theirs.csv")) == 0
    ours, theirs = read(evaluated), read(tmp_path / "out")
    assert theirs["model"] == "theirs"
    for part in ("language", "clinical", "intervals", "baselines"):
        assert ours[part] == theirs[part], part


def test_perfect_predictions_of_a_folder_with_test_studies_alone(root, tiny_checkpoint, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "images").symlink_to(root / "images")
    test = json.loads((root / "annotation.json").read_text())["test"]
    (alone / "annotation.json").write_text(json.dumps({"test": test}))
    perfect = pd.DataFrame(test).rename(columns={"report": "findings"})
    perfect.to_csv(tmp_path / "perfect.csv", index=False)
    options = ["--predictions", str(tmp_path / "perfect.csv")]
    assert run(alone, tmp_path / "out", tiny_checkpoint, *options) == 2
    assert "no study with findings in split 'train'" in capsys.readouterr().err
    assert run(alone, tmp_path / "out", tiny_checkpoint, *options, "--train-root", str(root)) == 0
    metrics = read(tmp_path / "out")
    assert metrics["language"]["full"]["bleu_4"] == pytest.approx(1)
    assert metrics["language"]["cased"]["rouge_l"] == pytest.approx(1)
    assert metrics["clinical"]["micro_14"]["f1"] == 1 and metrics["clinical"]["contradictions"] == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="files are compared byte by byte with those of the CPU")
def test_two_processes_finish_what_one_began_and_write_its_metrics(evaluated, root, tiny_checkpoint, tmp_path):
    shutil.copytree(evaluated / "work", tmp_path / "two" / "work")
    for file in ("predictions/batch-00001.npz", "predictions/batch-00002.npz", "features-train/batch-00003.npz"):
        (tmp_path / "two" / "work" / file).unlink()
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
            "-m", "xr2text", *arguments(root, tmp_path / "two", tiny_checkpoint),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    for name in ("metrics.json", "predictions.csv", "work/predictions/batch-00002.npz"):
        assert (tmp_path / "two" / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_another_models_work_is_not_mixed_in(evaluated, root, make_tiny, tmp_path, capsys):
    changed = make_tiny()
    changed.generation.num_beams = 1
    changed.save_pretrained(tmp_path / "changed")
    before = (evaluated / "metrics.json").read_bytes()
    assert run(root, evaluated, tmp_path / "changed") == 2
    assert "another model" in capsys.readouterr().err
    assert (evaluated / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id,findings\nCXR30_IM-30,Clear.\n", "study 'CXR31_IM-31' 0 times (6 such)"),
        ("id,findings\nCXR30_IM-30,Clear.\nCXR30_IM-30,Clear.\n", "study 'CXR30_IM-30' 2 times"),
        ("id,report\nCXR30_IM-30,Clear.\n", "no column 'findings'; it has id, report"),
        ("", "is not a CSV file"),
        ("id,findings\nCXR30_IM-30,Clear.,\nCXR31_IM-31,Clear.,\n", "line 2: 3 cells"),
    ],
)
def test_a_file_of_predictions_must_hold_each_study_once(root, tmp_path, rows, message):
    studies = load_studies(DataConfig(source="r2gen", root=str(root)))["test"]
    (tmp_path / "theirs.csv").write_text(rows)
    with pytest.raises(DataError) as refused:
        read_predictions_file(tmp_path / "theirs.csv", studies)
    assert message in str(refused.value)


def test_the_findings_are_scored_whatever_other_columns_there_are(evaluated, root, tmp_path):
    studies = load_studies(DataConfig(source="r2gen", root=str(root)))["test"]
    table = pd.DataFrame({"id": studies.ids(), "findings": "Clear.", "generated": "Edema."})
    table.to_csv(tmp_path / "theirs.csv", index=False, sep=";")
    assert read_predictions_file(tmp_path / "theirs.csv", studies).findings == ["Clear."] * 7
    written = pd.read_csv(evaluated / "predictions.csv", keep_default_na=False)
    assert read_predictions_file(evaluated / "predictions.csv", studies).findings == written["generated"].tolist()


def test_a_prediction_for_a_study_of_another_split_is_refused(root, tmp_path):
    studies = load_studies(DataConfig(source="r2gen", root=str(root)))
    ids = [study.id for study in (*studies["test"], *studies["val"])]
    pd.DataFrame({"id": ids, "findings": "Clear."}).to_csv(tmp_path / "theirs.csv", index=False)
    with pytest.raises(DataError, match="study 'CXR24_IM-24' 1 times"):
        read_predictions_file(tmp_path / "theirs.csv", studies["test"])


def test_a_checkpoint_that_is_not_there_is_named(root, tmp_path, capsys):
    assert run(root, tmp_path / "out", tmp_path / "none") == 2
    assert "no checkpoint folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_phantoms_can_be_evaluated_and_their_finding_head_is_scored(make_tiny, tmp_path):
    checkpoint = make_tiny(findings=("cardiomegaly", "right pneumothorax"))
    data = DataConfig(source="phantom", phantoms=40)
    metrics = evaluate(checkpoint, data, tmp_path / "out", "val", batch_size=8, meteor=False)
    assert metrics["dataset"] is None
    assert set(metrics["finding_head"]["findings"]) == {"cardiomegaly", "right pneumothorax"}
    assert 0 <= metrics["finding_head"]["ece"] <= 1
    assert (tmp_path / "out" / "calibration.png").is_file()
    assert "R2Gen (" not in (tmp_path / "out" / "table.md").read_text()


def test_data_sets_are_recognised_by_their_layout_or_in_r2gens_by_their_ids(root):
    r2gen = DataConfig(source="r2gen", root=str(root))
    studies = load_studies(r2gen)["test"]
    found = {source: dataset_of(DataConfig(source=source), studies) for source in ("openi", "mimic_cxr", "manifest")}
    assert dataset_of(r2gen, studies) == "iu_xray"
    assert found == {"openi": "iu_xray", "mimic_cxr": "mimic_cxr", "manifest": None}


def test_published_figures_are_comparable_on_their_own_split_alone(root):
    assert has_published_split(DataConfig(source="r2gen")) and has_published_split(DataConfig(source="mimic_cxr"))
    assert has_published_split(DataConfig(source="indiana", split_file="annotation.json"))
    assert not has_published_split(DataConfig(source="indiana"))
