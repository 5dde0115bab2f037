"""The training state, from which a run can be resumed, and requests to stop.

A state is a folder RUN/states/step-N with digests of its files. It gets its name only once it is whole, so a run that
is killed at any moment leaves the state before.
"""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from xr2text.config import ConfigError
from xr2text.errors import XR2TextError
from xr2text.model.findings import FindingCalibration

KEPT = 2  # number of states that are kept
DIGESTS = "digests.json"  # a state's SHA-256 of each of its files
RANDOM = "random_states"  # files with this prefix are only needed to resume bit for bit
# Environment variables set by accelerate's and torch's launchers.
LAUNCHERS = {"ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"}
PARENT = os.getppid()  # parent process at the start

# accelerate warns at every saved state that BART's embedding is shared with its output; it restores that correctly.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class StateError(XR2TextError):
    """A state that could not be written or does not fit; the message says why, and what is left to resume from."""


@dataclass
class Progress:
    """The progress of a run, saved and restored with its state.

    Attributes:
        total_updates: of the weights, in the whole run.
        processes, batch_size: that share the run, and of each.
        radiographs: to train on.
        epoch: finished epochs.
        batch: batches of this epoch already seen by each process.
        updates: of the weights, so far.
        totals: sums over this epoch's batches, by name.
        best: score and negative loss of the best validation so far; of equal scores the lower loss is better.
        calibration: of the finding head, as fitted by the last validation.
        seconds: of training, over all sessions.
    """

    total_updates: int = 1
    processes: int = 1
    batch_size: int = 1
    radiographs: int = 0
    epoch: int = 0
    batch: int = 0
    updates: int = 0
    totals: dict[str, float | torch.Tensor] = field(default_factory=dict)
    best: tuple[float, float] = (-math.inf, -math.inf)
    calibration: FindingCalibration = field(default_factory=FindingCalibration)
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """The fraction of all updates that is done."""
        return self.updates / self.total_updates

    def state_dict(self) -> dict:
        totals = {name: float(value) for name, value in self.totals.items()}
        return vars(self) | {"totals": totals, "calibration": asdict(self.calibration)}

    def load_state_dict(self, state: dict) -> None:
        """Raises StateError for a run of other batches, in which the studies would come in another order."""
        names = {
            "processes": "processes",
            "batch_size": "radiographs in a batch",
            "radiographs": "training radiographs",
        }
        for name, what in names.items():
            if state[name] != getattr(self, name):
                raise StateError(f"--resume: the run is of {state[name]} {what}, and here are {getattr(self, name)}")
        kept = {"total_updates": self.total_updates}  # a longer run may go on from a shorter one
        vars(self).update(state | kept | {"calibration": FindingCalibration.from_json(state["calibration"])})


class StopRequest:
    """Turns SIGTERM and Ctrl-C into a request, which the loop answers by saving and stopping; a second Ctrl-C
    interrupts. The end of the launcher also counts as a request, since launchers pass no signals on. A context manager,
    which restores the former signal handlers."""

    def __init__(self):
        self.asked = False

    @property
    def due(self) -> bool:
        """Whether the run is to stop."""
        return self.asked or (os.getppid() != PARENT and not LAUNCHERS.isdisjoint(os.environ))

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def saved_states(output: Path) -> list[Path]:
    """Whole training states of a run's folder, oldest first."""
    return sorted((output / "states").glob("step-*"))


@contextmanager
def only_run(output: Path, cache: str | None = None) -> Iterator[None]:
    """Locks the run's folder `output` against other runs; with several processes, the first one locks it for all.

    Raises:
        ConfigError: another run has locked it, or it or the folder `cache` cannot be written.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    for setting, folder in (("output", output), ("data.cache", cache or output)):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(f"{setting} {folder} cannot be written: {error}; choose another folder") from error
    lock, owner = FileLock(output / ".lock", timeout=0), output / ".owner"
    try:
        lock.acquire()
    except Timeout as error:
        holder = owner.read_text() if owner.is_file() else "another process"
        raise ConfigError(f"{output} is in use: {holder} trains there; choose another output, or wait") from error
    try:
        owner.write_text(f"process {os.getpid()} of {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def state_to_resume(output: Path, resume: bool) -> tuple[Path | None, list[str]]:
    """The newest undamaged state, None where the run starts from the beginning, and notes about it for the user.

    Raises:
        ConfigError: there are states, and `resume` is not asked for.
        StateError: there are states, and none is whole.
    """
    states, notes = saved_states(output), []
    if states and not resume:
        raise ConfigError(f"{output} holds a run already: --resume goes on with it; or choose another output")
    if not states:
        return None, [f"no state is saved in {output}: the run starts from the beginning"] if resume else []
    for state in reversed(states):
        damaged = _damaged_files(state)
        if all(name.startswith(RANDOM) for name in damaged):
            what = f"{state.name} has lost its random states: the run goes on, but not to the same weights bit for bit"
            taken = [f"{note}: the run goes on from {state.name}" for note in notes]
            return state, [*taken, what] if damaged else taken
        notes.append(f"{state.name} is damaged ({', '.join(damaged[:3])})")
    raise StateError(f"--resume: no state of {output} is whole: {'; '.join(notes)}")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _damaged_files(state: Path) -> list[str]:
    """The files of a state that are missing or changed."""
    try:
        digests = json.loads((state / DIGESTS).read_text())
    except (OSError, ValueError):
        return [DIGESTS]
    return [name for name, digest in digests.items() if not (state / name).is_file() or _digest(state / name) != digest]


def save_state(accelerator: Accelerator, output: Path, progress: Progress) -> None:
    """Writes the training state as `output`/states/step-N and keeps the last KEPT.

    Raises:
        StateError: it could not be written, for want of space or otherwise; earlier states are untouched.
    """
    draft, final = output / "states" / "draft", output / "states" / f"step-{progress.updates:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(draft))
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        last = saved_states(output)
        left = f"--resume goes on from {last[-1].name}" if last else "there is no earlier one"
        raise StateError(f"the training state could not be written to {final}: {error}; {left}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        files = [file for file in sorted(draft.rglob("*")) if file.is_file()]
        digests = {file.relative_to(draft).as_posix(): _digest(file) for file in files}
        (draft / DIGESTS).write_text(json.dumps(digests, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        for old in saved_states(output)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


@contextmanager
def full_disk_as_error() -> Iterator[None]:
    """Turns errors of a full disk into a StateError."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors gives only the message
        if not any(getattr(error, "errno", None) == number or os.strerror(number) in str(error) for number in full):
            raise
        raise StateError(f"{error}; the states saved before are whole, and --resume goes on from the last") from error
