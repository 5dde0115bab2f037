import importlib.util

import pytest
import torch

from xr2text.config import ConfigError, load_config
from xr2text.model.findings import FindingCalibration
from xr2text.training.setup import first_checkpoint, make_accelerator, started_command


def test_launches_that_do_not_fit_are_refused(write_config, monkeypatch):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        make_accelerator(load_config(write_config(mixed_precision="fp16")))
    small = write_config(optimizer="adamw_8bit", mixed_precision="bf16", ema_decay=0.99)
    with pytest.raises(ConfigError, match="ema_decay"):
        make_accelerator(load_config(small))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_accelerator(load_config(write_config(report_to=["wandb"])))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="3 processes were launched, but accelerate joins 1"):
        make_accelerator(load_config(write_config()))


def test_the_command_names_no_place_of_this_machine():
    command = started_command(
        ["configs/full.yaml", "/secret/8gb.yaml"], ["data.root=/secret", "output=/secret", "training.epochs=3"]
    )
    assert command == "accelerate launch train.py --config configs/full.yaml 8gb.yaml --set training.epochs=3"


def test_a_checkpoint_gives_weights_tokenizer_and_calibration(write_config, make_tiny, tmp_path):
    given = make_tiny(("cardiomegaly",))
    given.model.calibration = FindingCalibration(1.3, {"cardiomegaly": 0.2})
    given.save_pretrained(tmp_path / "given")
    config = load_config(write_config(everything=True, init_from=str(tmp_path / "given")))
    checkpoint = first_checkpoint(config, [], resume=False)
    assert checkpoint.model.calibration == given.model.calibration
    assert checkpoint.tokenizer.get_vocab() == given.tokenizer.get_vocab()
    for value, expected in zip(checkpoint.model.parameters(), given.model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)  # stored in float16
    config.model.findings = ["left lung nodule"]
    with pytest.raises(ConfigError, match="predicts other findings"):
        first_checkpoint(config, [], resume=False)
    config.model.findings, config.model.haqt.global_queries = ["cardiomegaly"], 3
    with pytest.raises(ConfigError, match="does not fit"):
        first_checkpoint(config, [], resume=False)
