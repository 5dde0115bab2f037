"""Trainings with radiographs that cannot be read and studies without a report."""

import csv
import json

import pytest
import yaml
from mimic_tree import make_tree

import train as train_script
from xr2text.cli.main import main


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "mimic", 40)


@pytest.fixture
def config(tree, tiny_training, tmp_path):
    path = tmp_path / "config.yaml"
    data = {"source": "mimic_cxr", "root": str(tree), "workers": 0}
    path.write_text(yaml.safe_dump(tiny_training | {"output": str(tmp_path / "run"), "data": data}))
    return path


def run(config, *overrides, resume=False):
    train_script.main(["--config", str(config), "--set", *overrides, *(["--resume"] if resume else [])])


def film(tree, study):
    return next(tree.glob(f"files/*/*/s{study}/*.jpg"))  # of an even study, its only one


def plant(tree):
    """Two films and a report of the 32 for training."""
    film(tree, 50000020).write_bytes(film(tree, 50000020).read_bytes()[:300])
    film(tree, 50000030).unlink()
    next(tree.glob("files/*/*/s50000024.txt")).write_text("FINDINGS: ___")


def left_out(folder):
    return {row["study"]: row["reason"] for row in csv.DictReader((folder / "left_out.csv").open())}


def test_a_mimic_tree_trains_and_evaluates_with_its_path_alone(config, tree, tmp_path):
    run(config, "training.epochs=1", "data.cache=" + str(tmp_path / "cache"))
    assert not (tmp_path / "run" / "left_out.csv").exists()
    assert len(list((tmp_path / "cache").glob("images-64px/*/*.png"))) == 36  # all but the test studies
    options = ["--source", "mimic_cxr", "--root", str(tree), "--out", str(tmp_path / "scores"), "--no-meteor"]
    assert main(["evaluate", "--checkpoint", str(tmp_path / "run" / "checkpoint"), *options]) == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert (metrics["dataset"], metrics["studies"]) == ("mimic_cxr", 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_bad_is_left_out_and_listed(config, tree, tmp_path, capsys, workers):
    plant(tree)
    run(config, "data.max_bad_share=0.1", f"data.workers={workers}")
    told = left_out(tmp_path / "run")
    assert set(told) == {"50000020", "50000030", "50000024"}
    assert "This JPEG file is damaged" in told["50000020"] and "does not exist" in told["50000030"]
    assert told["50000024"] == "study 50000024 has no report"
    printed = capsys.readouterr().out
    for name in told:
        assert printed.count(f"left out: study {name}") == 1  # in two epochs
    assert "3 of 32 training radiographs were left out: " in printed


def test_too_much_that_is_bad_stops_the_run(config, tree, tmp_path):
    plant(tree)
    with pytest.raises(SystemExit, match=r"3 of 32 training radiographs cannot be read or have no report, more than"):
        run(config, "data.max_bad_share=0.07")
    for number in range(8, 30, 2):
        film(tree, 50000000 + number).write_bytes(b"")
    with pytest.raises(SystemExit, match=r"training radiographs"):
        run(config, f"output={tmp_path / 'other'}", "data.max_bad_share=0.1")


def test_a_resumed_run_knows_what_is_bad_already(config, tree, tmp_path, capsys):
    plant(tree)
    run(config, "data.max_bad_share=0.1", "data.keep_in_memory=true")
    run(config, "data.max_bad_share=0.1", "training.epochs=1", f"output={tmp_path / 'other'}")
    capsys.readouterr()
    run(config, "data.max_bad_share=0.1", f"output={tmp_path / 'other'}", resume=True)
    assert "left out: study" not in capsys.readouterr().out
    assert left_out(tmp_path / "other") == left_out(tmp_path / "run")


def test_a_validation_film_that_cannot_be_read_is_not_passed_over(config, tree):
    film(tree, 50000002).write_bytes(b"")
    with pytest.raises(SystemExit, match=r"s50000002/.*\.jpg: The file is empty"):
        run(config, "training.epochs=1")


def test_evaluation_names_a_film_that_it_cannot_read(tree, tiny_checkpoint, tmp_path, capsys):
    film(tree, 50000004).unlink()
    options = ["--source", "mimic_cxr", "--root", str(tree), "--out", str(tmp_path / "scores"), "--no-meteor"]
    assert main(["evaluate", "--checkpoint", str(tiny_checkpoint), *options]) == 2
    assert "does not exist" in capsys.readouterr().err
