"""Trainings with radiographs that cannot be read and studies without a report."""

import csv
import json

import cv2
import numpy as np
import pytest
import yaml
from mimic_tree import make_tree

from xr2text.phantom.drawing import draw_phantom

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "mimic", 40)


@pytest.fixture
def config(tree, write_config):
    path = write_config()
    settings = yaml.safe_load(path.read_text())
    settings["data"] = {"source": "mimic_cxr", "root": str(tree), "workers": 0}
    path.write_text(yaml.safe_dump(settings))
    return path


def radiograph(tree, study):
    return next(tree.glob(f"files/*/*/s{study}/*.jpg"))  # of an even study, its only one


def damage(tree):
    """Two radiographs and a report of the 32 for training."""
    radiograph(tree, 50000020).write_bytes(radiograph(tree, 50000020).read_bytes()[:300])
    radiograph(tree, 50000030).unlink()
    next(tree.glob("files/*/*/s50000024.txt")).write_text("FINDINGS: ___")


def listed(folder):
    return {row["study"]: row["reason"] for row in csv.DictReader((folder / "skipped.csv").open())}


def test_what_cannot_be_used_is_skipped_listed_and_known_to_a_resumed_run(run, config, tree, tmp_path, capsys):
    damage(tree)
    run(config, "data.max_skip_fraction=0.1", "training.epochs=1")
    skipped = listed(tmp_path / "run")
    assert set(skipped) == {"50000020", "50000030", "50000024"}
    assert "This JPEG file is damaged" in skipped["50000020"] and "No such file" in skipped["50000030"]
    assert skipped["50000024"] == "it has no report"
    printed = capsys.readouterr().out
    assert all(printed.count(f"skipped: study {name}") == 1 for name in skipped)
    assert "3 of 32 training radiographs were skipped: " in printed
    run(config, "data.max_skip_fraction=0.1", "training.epochs=2", resume=True)
    assert "skipped: study" not in capsys.readouterr().out and listed(tmp_path / "run") == skipped


def test_too_much_that_cannot_be_used_stops_the_run(run, config, tree):
    damage(tree)
    with pytest.raises(SystemExit, match=r"3 of 32 training radiographs cannot be read or have no report, more than"):
        run(config, "data.max_skip_fraction=0.07")


def test_a_validation_radiograph_that_cannot_be_read_is_not_passed_over(run, config, tree):
    radiograph(tree, 50000002).write_bytes(b"")
    with pytest.raises(SystemExit, match=r"s50000002/.*\.jpg: The file is empty"):
        run(config, "training.epochs=1")


@pytest.mark.slow
def test_worker_processes_skip_the_same(run, config, tree, tmp_path):
    damage(tree)
    run(config, "data.max_skip_fraction=0.1", "data.workers=2", "training.epochs=1")
    assert len(listed(tmp_path / "run")) == 3


@pytest.mark.parametrize("missing", [(3, 5), (25,)])
def test_images_that_an_annotation_lists_and_that_are_missing(run, config, tmp_path, missing):
    """Of 24 for training and 8 for validation."""
    root = tmp_path / "r2gen"
    (root / "images").mkdir(parents=True)
    splits = {"train": [], "val": []}
    for number in range(32):
        phantom = draw_phantom(number, 64)
        if number not in missing:
            cv2.imwrite(str(root / "images" / f"{number}.png"), np.round(phantom.radiograph.pixels * 255))
        study = {"id": f"s{number}", "report": phantom.findings_text, "image_path": [f"{number}.png"]}
        splits["train" if number < 24 else "val"].append(study)
    (root / "annotation.json").write_text(json.dumps(splits))
    settings = yaml.safe_load(config.read_text())
    settings["data"] = {"source": "r2gen", "root": str(root), "workers": 0, "max_skip_fraction": 0.3}
    settings["generation"] = settings.get("generation", {}) | {"impression": False}
    config.write_text(yaml.safe_dump(settings))
    if max(missing) < 24:
        run(config, "training.epochs=1")
        assert set(listed(tmp_path / "run")) == {"s3", "s5"}
        return
    with pytest.raises(SystemExit, match=r"25\.png: The file cannot be opened"):  # before anything is trained
        run(config, "training.epochs=1")
    assert not list((tmp_path / "run").glob("states/*"))
