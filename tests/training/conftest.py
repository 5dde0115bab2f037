"""Batches and settings of trainings that take seconds."""

import copy
import math
import signal

import pytest
import torch
import yaml

import train as train_script
from xr2text.config import LossConfig
from xr2text.text.tokenizer import IGNORED
from xr2text.training import report
from xr2text.training.loop import Clock
from xr2text.training.objective import Objective


@pytest.fixture
def batch():
    """Four studies of the tiny model; the second report is shorter, of the last the finding is not known."""
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(6, 100, (4, 12), generator=random)
    labels[1, 6:] = IGNORED
    return {
        "pixel_values": torch.rand(4, 3, 64, 64, generator=random),
        "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4),
        "labels": labels,
        "finding_labels": torch.tensor([[1.0], [0.0], [0.0], [math.nan]]),
        "reported_findings": torch.tensor([[1.0], [0.0], [0.0], [math.nan]]),
        "finding_regions": torch.zeros(4, 1, 7, dtype=torch.bool),
        "segmentation_targets": torch.full((4, 7, 4, 4), 1 / 16),
    }


@pytest.fixture
def make_objective(make_tiny):
    """An objective with the given weights alone; the model predicts cardiomegaly."""

    def make(model=None, **weights) -> Objective:
        checkpoint = make_tiny(("cardiomegaly",)) if model is None else model
        return Objective(checkpoint.model, LossConfig(**{"ce": 0.0} | weights))

    return make


STAGES = [
    {"name": "warmup", "epochs": 1, "max_findings": 0},
    {"name": "easy", "epochs": 1, "max_findings": 1, "lr_factor": 0.5},
    {"name": "hard", "epochs": 1},
]
EVERY_TERM = {  # that needs neither masks nor draws
    "ce": 1, "label_smoothing": 0.1, "focal": 0.5, "load_balance": 0.1, "findings": 1, "occlusion": 1, "rdrop": 0.5,
}  # fmt: skip


@pytest.fixture
def write_config(tiny_training, tmp_path):
    """Writes a config and gives its path: tiny, or with all stages, terms and an average of the weights."""

    def write(name="run", everything=False, **training):
        settings = copy.deepcopy(tiny_training) | {"output": str(tmp_path / name)}
        settings["training"]["report_to"] = []
        if everything:
            settings["model"]["findings"] = ["cardiomegaly"]
            settings["training"] |= {"epochs": None, "curriculum": STAGES, "losses": EVERY_TERM, "ema_decay": 0.9}
        settings["training"] |= training
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.fixture
def run():
    def start(config, *overrides, resume=False):
        options = [option for override in overrides for option in ("--set", override)]
        train_script.main(["--config", str(config), *options, *(["--resume"] if resume else [])])

    return start


@pytest.fixture
def no_report(monkeypatch):
    """Drawing takes most of a tiny run's time."""
    monkeypatch.setattr(report, "write_training_report", lambda *_: None)


@pytest.fixture
def stop_at(monkeypatch):
    """Has the next run get SIGTERM after so many updates of its session; None: run to the end."""
    after_update = Clock.after_update

    def set_stop(updates):
        def terminated(clock):
            if clock._updates + 1 == updates:
                signal.raise_signal(signal.SIGTERM)
            return after_update(clock)

        monkeypatch.setattr(Clock, "after_update", terminated)

    return set_stop
