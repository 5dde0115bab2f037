"""benchmarks.training_speed and estimate_memory at tiny size on the CPU."""

import re
from functools import partial

import pytest
import torch
import yaml

from benchmarks import estimate_memory, finding_head, plain_classifier, training_speed
from benchmarks.models import sized_config
from xr2text.evaluation.clinical import score_head


@pytest.mark.parametrize(
    ("gpu", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40", 181),
        ("NVIDIA L4", 121), ("NVIDIA GeForce RTX 4060", None),
    ],
)  # fmt: skip
def test_a_gpus_peak_is_known_by_its_name(gpu, peak):
    assert training_speed.known_peak(gpu) == peak


@pytest.mark.slow
def test_training_is_timed_against_the_stock_model(tmp_path):
    out = tmp_path / "table.md"
    training_speed.main(["--size", "tiny", "--device", "cpu", "--steps", "1", "--out", str(out)])
    text = out.read_text()
    assert float(re.search(r"\*\*([\d.]+) times the studies", text)[1]) > 0
    assert re.findall(r"^\| ([a-z].*?) \|", text, re.MULTILINE) == ["ours", "ours with R-Drop", "stock"]


@pytest.mark.slow
def test_the_estimate_is_within_a_tenth_of_what_is_measured():
    config = sized_config("tiny")
    estimated = estimate_memory.estimate_memory(config)
    training = training_speed.our_training(config, "cpu")
    training.update()
    assert tuple(estimated) == estimate_memory.PARTS
    assert sum(estimated.values()) == pytest.approx(training_speed.peak_memory(training), rel=0.1)


@pytest.mark.slow
def test_each_point_has_a_row(capsys):
    estimate_memory.main(["--size", "tiny", "--images", "64", "--batches", "4", "--tokens", "40", "60"])
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|.* ([\d,]+) \|$", capsys.readouterr().out, re.M)
    assert [row[:3] for row in rows] == [("64", "4", "40"), ("64", "4", "60")]


@pytest.mark.slow
def test_a_plain_classifier_is_trained_and_scored(tiny_training, tmp_path, monkeypatch):
    config, out = tmp_path / "config.yaml", tmp_path / "table.md"
    config.write_text(yaml.safe_dump(tiny_training | {"output": "none"}))
    options = [str(config), "--set", "data.phantoms=70", "model.findings=[cardiomegaly]", "--out", str(out)]
    with pytest.raises(SystemExit, match="no finding has 15 positives"):
        plain_classifier.main(options)
    monkeypatch.setattr(plain_classifier, "score_head", partial(score_head, min_positives=1))
    plain_classifier.main([*options, "--uncertain", "unknown", "--repeat", "0.9"])
    assert re.search(r"^\| mean \| \| 0\.\d{3} \| 0\.\d{3} \|$", out.read_text(), re.MULTILINE)


def test_each_classifier_of_the_finding_head_is_scored_on_patients_left_out(
    tiny_training, make_tiny, tmp_path, monkeypatch
):
    config, out = tmp_path / "config.yaml", tmp_path / "table.md"
    tiny_training["model"]["haqt"]["lateral_queries"] = 2
    tiny_training["model"]["findings"] = ["cardiomegaly"]
    tiny_training["data"]["phantoms"] = 60
    tiny_training["training"]["losses"] = {"findings": 1.0}
    config.write_text(yaml.safe_dump(tiny_training | {"output": "none"}))
    for fold in (1, 2):
        folder = tmp_path / "folds" / f"{fold}-of-2" / "config" / "checkpoint"
        make_tiny(("cardiomegaly",), lateral_queries=2).save_pretrained(folder)
    options = [str(config), "--runs", str(tmp_path), "--folds", "2", "--out", str(out)]
    with pytest.raises(SystemExit, match="no finding has 15 cases in each fold"):
        finding_head.main(options)
    monkeypatch.setattr(finding_head, "LEAST_CASES", 1)
    finding_head.main(options)
    text = out.read_text()
    assert "60 studies with a lateral view, 2 folds" in text
    areas = re.search(r"^\| mean \| \| (.*) \|$", text, re.MULTILINE)[1].split(" | ")
    assert len(areas) == 5 and all(0 <= float(area) <= 1 for area in areas)


def test_studies_with_rare_findings_are_shown_more_often():
    labels = torch.tensor([[1, 1], [1, 0], [-1, 0], [1, torch.nan]])  # the second finding in a quarter of the studies
    assert plain_classifier.repeat_factors(labels, 1.0).tolist() == [2.0, 1.0, 1.0, 1.0]
    assert plain_classifier.repeat_factors(labels, 0.0).tolist() == [1.0] * 4
