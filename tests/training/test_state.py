import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator

from xr2text.config import ConfigError
from xr2text.model.findings import FindingCalibration
from xr2text.training import state
from xr2text.training.state import (
    Progress,
    StateError,
    StopRequest,
    full_disk_as_error,
    only_run,
    save_state,
    saved_states,
    state_to_resume,
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
    with pytest.raises(StateError, match="states saved before are whole"), full_disk_as_error():
        raise OSError(errno.ENOSPC, "No space left on device", "best/model.safetensors")
    with pytest.raises(FileNotFoundError), full_disk_as_error():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def test_the_last_two_states_are_kept(tmp_path):
    accelerator = Accelerator(cpu=True)
    for updates in (1, 5, 12):
        save_state(accelerator, tmp_path, Progress(updates=updates))
    assert [path.name for path in saved_states(tmp_path)] == ["step-00000005", "step-00000012"]


def test_the_end_of_a_launcher_is_a_request_to_stop(monkeypatch):
    with StopRequest() as stop:
        monkeypatch.setattr(state, "PARENT", os.getppid() + 1)
        assert not stop.due  # without a launcher it was a shell that ended, as under nohup
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        assert stop.due
        monkeypatch.setattr(state, "PARENT", os.getppid())
        assert not stop.due


HOLD = """
import sys, time
from pathlib import Path
from xr2text.training.state import only_run
with only_run(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_run_at_a_time(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "holds\n"
        with (
            pytest.raises(ConfigError, match=f"is in use: process {other.pid} of .* trains there"),
            only_run(tmp_path / "run"),
        ):
            pass
    finally:
        other.kill()
        other.wait()
    for _ in range(2):  # a killed one holds nothing
        with only_run(tmp_path / "run"):
            pass


def test_an_output_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    expected = pytest.raises(ConfigError, match=r"output .*file/run cannot be written")
    with expected, only_run(tmp_path / "file" / "run"):
        pass


def states(output, *updates):
    accelerator = Accelerator(cpu=True)
    for number in updates:
        progress = Progress(updates=number)
        accelerator.register_for_checkpointing(progress)
        save_state(accelerator, output, progress)
    return saved_states(output)


def test_a_run_is_resumed_from_where_it_stands(tmp_path):
    assert state_to_resume(tmp_path, resume=False) == (None, [])
    (tmp_path / "states").mkdir()
    found, (note,) = state_to_resume(tmp_path, resume=True)
    assert found is None and "starts from the beginning" in note
    older, newer = states(tmp_path, 1, 2)
    with pytest.raises(ConfigError, match="--resume goes on with it"):
        state_to_resume(tmp_path, resume=False)
    assert state_to_resume(tmp_path, resume=True) == (newer, [])
    (newer / "random_states_0.pkl").unlink()
    found, (note,) = state_to_resume(tmp_path, resume=True)
    assert found == newer and "lost its random states" in note
    (newer / "custom_checkpoint_0.pkl").write_bytes(b"")
    found, (note,) = state_to_resume(tmp_path, resume=True)
    assert found == older and "step-00000002 is damaged (custom_checkpoint_0.pkl" in note and "step-00000001" in note
    (older / "digests.json").unlink()
    with pytest.raises(StateError, match=r"no state .* is whole: step-00000002 .*; step-00000001 .*digests\.json"):
        state_to_resume(tmp_path, resume=True)


def test_progress_comes_back_and_a_run_of_other_batches_does_not():
    progress = Progress(
        10, 2, 4, updates=3, calibration=FindingCalibration({"cardiomegaly": [1.3, 0.5]}, {"cardiomegaly": 0.2})
    )
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
    with pytest.raises(StateError, match="of 0 training radiographs, and here are 9"):
        Progress(10, 2, 4, 9).load_state_dict(state)
