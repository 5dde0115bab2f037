"""Fine-tuning from the shipped checkpoint on ten radiographs of one's own."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import train as train_script
from xr2text.config import load_config
from xr2text.phantom.drawing import draw_phantom

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "checkpoints" / "xr2text-iu"
CONFIG = ROOT / "configs" / "finetune.yaml"


def test_its_config_is_of_the_shipped_checkpoint():
    config, shipped = load_config(CONFIG), json.loads((SHIPPED / "config.json").read_text())
    assert config.model.model_dump() == shipped["model"]
    assert config.generation.model_dump() == shipped["generation"]


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
