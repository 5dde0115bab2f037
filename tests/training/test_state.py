import errno
import os
import signal

import pytest
import torch
from accelerate import Accelerator

from xr2text.config import ConfigError
from xr2text.model.findings import FindingCalibration
from xr2text.training.state import (
    Progress,
    StateError,
    StopRequest,
    full_disk_told,
    save_state,
    saved_states,
    states_to_resume,
)


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
    save_state(accelerator, tmp_path, progress)

    def full(*_, **__):
        (tmp_path / "states" / "draft").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(accelerator, "save_state", full)
    progress.updates = 2
    with pytest.raises(StateError, match=r"No space left on device; --resume goes on from step-00000001"):
        save_state(accelerator, tmp_path, progress)
    assert list((tmp_path / "states").iterdir()) == saved_states(tmp_path) == [tmp_path / "states" / "step-00000001"]


def test_want_of_space_elsewhere_is_told_and_other_faults_keep_their_traceback():
    with pytest.raises(StateError, match="states saved before are whole"), full_disk_told():
        raise OSError(errno.ENOSPC, "No space left on device", "best/model.safetensors")
    with pytest.raises(FileNotFoundError), full_disk_told():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def test_the_last_two_states_are_kept(tmp_path):
    accelerator = Accelerator(cpu=True)
    for updates in (1, 5, 12):
        save_state(accelerator, tmp_path, Progress(updates=updates))
    assert [path.name for path in saved_states(tmp_path)] == ["step-00000005", "step-00000012"]


def test_a_run_is_resumed_where_it_is_asked_for_alone(tmp_path):
    assert states_to_resume(tmp_path, resume=False) == []
    with pytest.raises(ConfigError, match="no saved state"):
        states_to_resume(tmp_path, resume=True)
    (tmp_path / "states" / "step-00000001").mkdir(parents=True)
    with pytest.raises(ConfigError, match="--resume goes on with it"):
        states_to_resume(tmp_path, resume=False)
    assert len(states_to_resume(tmp_path, resume=True)) == 1


def test_progress_comes_back_and_a_run_of_other_batches_does_not():
    progress = Progress(10, 2, 4, updates=3, calibration=FindingCalibration(1.3, {"cardiomegaly": 0.2}))
    progress.totals["train loss"] = torch.tensor(1.5, dtype=torch.float64)
    state = progress.state_dict()
    again = Progress(20, 2, 4)
    again.load_state_dict(state)
    assert (again.updates, again.totals, again.fraction) == (3, {"train loss": 1.5}, 0.15)
    assert again.calibration == progress.calibration
    with pytest.raises(StateError, match="of 2 processes, and here are 1"):
        Progress(10, 1, 4).load_state_dict(state)
    with pytest.raises(StateError, match="of 4 radiographs in a batch, and here are 2"):
        Progress(10, 2, 2).load_state_dict(state)
