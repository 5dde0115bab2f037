"""scripts.recipe: every patient is judged once, by a model that has not seen it."""

import json

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
    recipe.main([config_file, "configs/phantom.yaml", "--runs", str(tmp_path / "runs")])
    assert asked[0] == ([config_file, "configs/phantom.yaml"], [], tmp_path / "runs")
    assert [(configs, run.name) for configs, _, run in asked[1:]] == [
        ([config_file], name) for name in ("1-of-3", "2-of-3", "3-of-3")
    ]
    after = json.loads((folder / "config.json").read_text())
    measures = after.pop("calibration")["measures"]
    before.pop("calibration")
    assert after == before and (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "README.md").read_text() == "# tiny"
    positives = (np.abs(load_split_studies(load_config(config_file))["train"].labels(NAMES)) == 1).sum(0).tolist()
    assert any(positives) and [measures[name]["positives"] for name in NAMES] == positives
    assert "| cardiomegaly |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
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
