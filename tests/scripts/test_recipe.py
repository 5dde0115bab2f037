"""scripts.recipe: every patient is judged once, by a model that has not seen it."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import yaml

from scripts import recipe
from xr2text.config import ConfigError, load_config
from xr2text.training.data import load_split_studies

NAMES = ["cardiomegaly", "right pleural effusion"]


@pytest.fixture
def config_file(tiny_training, tmp_path):
    tiny_training["model"]["findings"] = NAMES
    tiny_training["data"]["phantoms"] = 60
    tiny_training["training"]["losses"] = {"findings": 1.0}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_training | {"output": "none"}))
    return str(file)


def test_the_folds_share_no_patient_and_leave_none_out(config_file):
    everyone = load_split_studies(load_config(config_file))["train"]
    judged = []
    for fold in range(3):
        overrides = [f"data.tuning_fraction={1 / 3}", f"data.tuning_fold={fold}"]
        studies = load_split_studies(load_config(config_file, overrides))
        trained, judged_here = (set(studies[split].column("patient").to_pylist()) for split in ("train", "val"))
        assert judged_here and not trained & judged_here
        judged += judged_here
    assert sorted(judged) == sorted(set(everyone.column("patient").to_pylist()))


def test_it_writes_what_all_folds_say_and_leaves_the_weights(config_file, make_tiny, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "checkpoint"
    make_tiny(tuple(NAMES)).save_pretrained(folder, card="# tiny")
    before, weights = json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()
    asked = []
    monkeypatch.setattr(recipe, "trained", lambda *call: asked.append(call) or folder)
    recipe.main([config_file, "--runs", str(tmp_path / "runs")])
    no_reports = {run.name: "training.losses.ce=0" in overrides for _, overrides, run, _ in asked}
    assert no_reports == {"runs": False, "1-of-3": True, "2-of-3": True, "3-of-3": True}
    after = json.loads((folder / "config.json").read_text())
    measures = after.pop("calibration")["measures"]
    before.pop("calibration")
    assert after == before and (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "README.md").read_text() == "# tiny"
    positives = (np.abs(load_split_studies(load_config(config_file))["train"].labels(NAMES)) == 1).sum(0).tolist()
    assert any(positives) and [measures[name]["positives"] for name in NAMES] == positives
    assert "| cardiomegaly |" in capsys.readouterr().out


STAND_IN = """
import os, signal, sys, time
from pathlib import Path
run = Path(sys.argv[-1].removeprefix("output="))
name = run.parent.name
def stop(*_):
    Path(name + ".stopped").touch()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
Path(name + ".started").write_text(" ".join(os.environ[key] for key in ("OMP_NUM_THREADS", "TQDM_POSITION")))
Path(name + ".bar").write_text(os.environ["TQDM_BAR_FORMAT"])
if name == "fails":
    while not Path("waits.started").is_file():
        time.sleep(0.02)
    sys.exit(1)
if name == "waits":
    time.sleep(60)
(run / "checkpoint").mkdir(parents=True)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """For train.py: it says what it was started with, fails or waits to be stopped."""
    file = tmp_path / "stand_in.py"
    file.write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe.train, "__file__", str(file))
    monkeypatch.setattr(recipe, "usable_cores", lambda: 6)


def test_trainings_share_the_cores_and_the_terminal(stand_in, tmp_path):
    names = ("a", "b", "{c}")
    recipe.train_together("tiny.yaml", {tmp_path / name: [] for name in names}, 2)
    assert all((tmp_path / name / "tiny" / "checkpoint").is_dir() for name in names)
    started = [(tmp_path / f"{name}.started").read_text() for name in names]
    assert sorted(started[:2]) == ["3 0", "3 1"] and started[2] in started[:2]
    for name in names:
        bar = (tmp_path / f"{name}.bar").read_text().format(l_bar="epoch 1/5 ", bar="", r_bar="")
        assert bar == f"{tmp_path / name / 'tiny'}: epoch 1/5 "


def test_where_one_training_fails_the_others_save_and_stop(stand_in, tmp_path):
    with pytest.raises(SystemExit, match=r"fails.*the same call goes on"):
        recipe.train_together("tiny.yaml", {tmp_path / name: [] for name in ("fails", "waits", "later")}, 2)
    assert (tmp_path / "waits.stopped").is_file() and not (tmp_path / "later.started").exists()


def test_after_a_failure_no_training_waits_for_its_turn(tmp_path, monkeypatch):
    file = tmp_path / "fails.py"
    file.write_text("raise SystemExit(1)")
    monkeypatch.setattr(recipe.train, "__file__", str(file))
    for turn in range(10):
        with pytest.raises(SystemExit, match="goes on"):
            recipe.train_together("tiny.yaml", {tmp_path / f"{turn}-{run}": [] for run in range(4)}, 1)


def test_a_stopped_recipe_stops_its_trainings(stand_in, tmp_path):
    def ask():
        while not (tmp_path / "waits.started").is_file():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(SystemExit, match="goes on from there"):
        recipe.train_together("tiny.yaml", {tmp_path / "waits": []}, 1)
    asking.join()
    assert (tmp_path / "waits.stopped").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "0"], "at least 1"),
        (["--folds", "1"], "at least 2"),
        (["--set", "training.losses.findings=0", "training.losses.ce=1"], "teaches no finding head"),
        (["--set", "model.finding=[]"], "model.findings"),
    ],
)
def test_what_cannot_work_is_said_before_any_training(config_file, monkeypatch, capsys, options, words):
    monkeypatch.setattr(recipe, "trained", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        recipe.main([config_file, *options])
    assert words in capsys.readouterr().err


def test_there_is_no_fold_beyond_the_last(config_file):
    for overrides in (["data.tuning_fold=1"], ["data.tuning_fraction=0.3334", "data.tuning_fold=2"]):
        with pytest.raises(ConfigError, match="below 1 / tuning_fraction"):
            load_config(config_file, overrides)
