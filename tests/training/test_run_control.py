"""What keeps a run safe and on time: the weights' average, early stopping, stop requests, full disks, the clock."""

import errno
import importlib.util
import os
import signal

import pytest
import torch
from accelerate import Accelerator

from xr2text.config import BudgetConfig, Config, ConfigError, DataConfig, TrainingConfig
from xr2text.training.clock import Clock
from xr2text.training.loop import SAVE, STOP
from xr2text.training.optim import EarlyStopping, StageSpan, WeightAverage, build_optimizer, build_schedule
from xr2text.training.record import shown_settings
from xr2text.training.setup import make_accelerator
from xr2text.training.state import Progress, StateError, StopRequest, save_state, saved_states


def test_the_average_follows_the_weights_and_gives_them_back(make_tiny):
    model = make_tiny()
    average = WeightAverage(model, decay=0.5)
    first = next(model.parameters())
    before = first.detach().clone()
    average.update(model)  # the first update copies
    with torch.no_grad():
        first += 1
    own = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(model)
    with average.applied_to(model):
        torch.testing.assert_close(first, before + 0.5)
        bart = model.decoder.bart
        assert bart.lm_head.weight is bart.model.shared.weight  # still tied
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    again = WeightAverage(make_tiny(), decay=0.5)
    again.load_state_dict(average.state_dict())
    assert torch.equal(next(again.average.module.parameters()), next(average.average.module.parameters()))


def test_without_a_decay_the_weights_stay_as_they_are(make_tiny):
    model, average = make_tiny(), WeightAverage(make_tiny(), None)
    own = next(model.parameters()).clone()
    with average.applied_to(model):
        assert torch.equal(next(model.parameters()), own)
    assert average.state_dict() == {}


def test_early_stopping_counts_validated_epochs():
    patience = EarlyStopping(2)
    assert [patience.step(score) for score in (0.1, 0.3, 0.2)] == [True, True, False]
    assert not patience.over
    resumed = EarlyStopping(2)
    resumed.load_state_dict(patience.state_dict())
    resumed.step(0.3)
    assert resumed.over
    assert not EarlyStopping(None).over


def test_each_stage_has_its_own_factor(make_tiny):
    config = TrainingConfig(lr_encoder=1.0, lr_projection=1.0, lr_decoder=1.0, warmup_share=0.0, lr_floor=0.99)
    optimizer = build_optimizer(make_tiny(), config)
    schedule = build_schedule(optimizer, config, [StageSpan(3), StageSpan(2, 0.5)])
    rates = []
    for _ in range(6):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5], rel=0.02)


def test_sigterm_and_ctrl_c_become_requests_and_a_second_ctrl_c_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_leaves_the_earlier_state(tmp_path, monkeypatch):
    accelerator, progress = Accelerator(cpu=True), Progress(updates=1)
    accelerator.register_for_checkpointing(progress)
    save_state(accelerator, tmp_path, progress, keep=2)

    def full(*_, **__):
        (tmp_path / "draft").mkdir()
        (tmp_path / "draft" / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(accelerator, "save_state", full)
    progress.updates = 2
    with pytest.raises(StateError, match=r"No space left on device; --resume goes on from step-00000001"):
        save_state(accelerator, tmp_path, progress, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"] == [p.name for p in saved_states(tmp_path)]


def test_a_run_of_two_processes_is_not_resumed_by_one():
    with pytest.raises(StateError, match="of 2 processes, and 1 are here"):
        Progress().load_state_dict(Progress(processes=2).state_dict())


def test_trackers_are_told_no_place_of_this_machine():
    config = Config("tiny", "/secret/run", data=DataConfig("indiana", "/secret/data", "/secret/split.json"))
    told = shown_settings(config)
    assert told["training.losses.tokens"] == 1.0 and told["model.haqt.width"] == 256
    assert "/secret" not in str(told)


def test_launches_that_do_not_fit_are_refused(monkeypatch):
    config = Config("tiny", "none", training=TrainingConfig(trackers=["wandb"]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_accelerator(config)
    config.training.trackers = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="3 processes were launched, but accelerate joins 1"):
        make_accelerator(config)


def test_the_clock_says_when_to_save_and_when_to_stop():
    stop, progress, accelerator = StopRequest(), Progress(), Accelerator(cpu=True)
    assert Clock(TrainingConfig(), progress, stop, [("all", 10)]).due(accelerator) is None
    assert Clock(TrainingConfig(checkpoint_minutes=0), progress, stop, [("all", 10)]).due(accelerator) == SAVE
    spent = Clock(TrainingConfig(budget=BudgetConfig(hours=1)), Progress(seconds=3601), stop, [("all", 10)])
    assert spent.due(accelerator) == STOP and spent.reason == "the budget is spent"
    stop.asked = True
    asked = Clock(TrainingConfig(), progress, stop, [("all", 10)])
    assert asked.due(accelerator) == STOP and asked.reason == "stopped as asked"


def test_the_projection_tells_stages_whole_and_cost():
    settings = TrainingConfig(budget=BudgetConfig(hourly_rate=2.0))
    clock = Clock(settings, Progress(updates=900), StopRequest(), [("warmup", 600), ("hard", 1200)])
    clock._steps.extend([60.0, 2.0, 2.0])  # a slow first step counts for nothing
    text = clock.projection()
    assert "warmup 0:20 h, hard 0:40 h; in all 1:00 h, 0:30 h left; about 2.00 at 2 an hour" in text
