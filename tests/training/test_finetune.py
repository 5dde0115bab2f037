"""Training that goes on from a checkpoint, also on ten radiographs of one's own."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import train as train_script
from xr2text.config import IMAGE_TERMS, ConfigError, load_config
from xr2text.phantom.drawing import draw_phantom

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "checkpoints" / "xr2text-iu"
CONFIG = ROOT / "configs" / "finetune.yaml"
FROZEN = ("training.lr_encoder=0", "training.lr_projection=0")


def test_its_config_is_of_the_shipped_checkpoint():
    config, shipped = load_config(CONFIG), json.loads((SHIPPED / "config.json").read_text())
    assert config.model.model_dump() == shipped["model"]
    assert config.generation.model_dump() == shipped["generation"]


def test_a_training_of_the_decoder_alone_leaves_the_rest_as_it_was(run, write_config, tmp_path):
    first, second = write_config("first", everything=True), write_config("second", everything=True)
    run(first)
    terms = [f"training.losses.{term}=0" for term in IMAGE_TERMS]
    run(second, f"training.init_from={tmp_path / 'first' / 'checkpoint'}", *FROZEN, *terms)
    before, after = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("first", "second"))
    weights = [name for name, value in before.items() if value.is_floating_point()]  # the average of counts is no count
    changed = {name.split(".")[0] for name in weights if not torch.allclose(before[name], after[name])}
    assert changed == {"decoder", "finding_tokens"}
    calibrations = [
        json.loads((tmp_path / name / "checkpoint" / "config.json").read_text())["calibration"]
        for name in ("first", "second")
    ]
    assert calibrations[0] == calibrations[1]
    assert "train occlusion" not in pd.read_csv(tmp_path / "second" / "history.csv")


@pytest.mark.parametrize("term", ["load_balance", "findings", "occlusion"])
def test_a_loss_of_what_is_frozen_is_an_error(write_config, term):
    others = [f"training.losses.{name}=0" for name in IMAGE_TERMS if name != term]
    with pytest.raises(ConfigError, match=f"training.losses.{term} has a weight, but lr_encoder and lr_projection"):
        load_config(write_config(everything=True), [*FROZEN, *others])


@pytest.mark.slow
def test_ten_radiographs_in_a_table_of_three_columns_are_enough(tmp_path, monkeypatch, no_report):
    monkeypatch.chdir(ROOT)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "findings"])
        for seed in range(10):
            phantom = draw_phantom(seed, 300)
            cv2.imwrite(str(tmp_path / f"{seed}.png"), np.round(phantom.pixels * 255).astype(np.uint8))
            table.writerow([f"case{seed}", f"{seed}.png", phantom.findings_text])
    places = [f"data.root={tmp_path / 'mine.csv'}", f"output={tmp_path / 'run'}", f"data.cache={tmp_path / 'cache'}"]
    train_script.main(["--config", str(CONFIG), "--set", *places, "training.epochs=1", "training.report_to=[]"])
    mine = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    shipped = json.loads((SHIPPED / "config.json").read_text())
    assert mine["name"] == "xr2text-finetuned"
    assert all(mine[part] == shipped[part] for part in ("model", "generation", "calibration"))
    for folder in ("best", "checkpoint"):
        card = (tmp_path / "run" / folder / "README.md").read_text()
        assert "license: cc-by-nc-nd-4.0" in card and "those of xr2text-iu" in card and "Indiana" in card
