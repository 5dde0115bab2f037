"""What a run can be resumed from, and how it is asked to stop.

A state is a folder RUN/states/step-N. It gets its name only once it is whole, so a run that is killed at any moment
leaves the state before.
"""

import errno
import logging
import math
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

# BART's embedding is shared with its output; accelerate warns of that, which it restores rightly, at every saved state.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class StateError(RuntimeError):
    """A state that could not be written; the message says why, and what is left to resume from."""


@dataclass
class Progress:
    """Where a run stands; saved and restored with the training state.

    Attributes:
        epoch: finished ones.
        batch: batches of this epoch already seen by each process.
        updates: of the weights.
        totals: sums over this epoch's batches, by name.
        best_score, best_combined, best_epoch: of the validations so far; epochs count from 1.
        temperature, thresholds: of the finding head, as fitted by the last validation.
        seconds: of training, over all sessions; validation_seconds: of the last validation.
        processes: that share the run.
        left_out: of the training radiographs, see `training.bad`: reason, which names the file, and study.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    best_score: float = -math.inf
    best_combined: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0
    processes: int = 1
    temperature: float = 1.0
    thresholds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict:
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    def load_state_dict(self, state: dict) -> None:
        """Raises StateError for a run of another number of processes, whose studies would come in another order."""
        if state["processes"] != self.processes:
            raise StateError(f"--resume: the run is of {state['processes']} processes, and {self.processes} are here")
        vars(self).update(state)


class StopRequest:
    """Turns SIGTERM and Ctrl-C into a request that the loop answers by saving and stopping; a second Ctrl-C interrupts.

    As a context manager it gives the signals back their former handlers.
    """

    def __init__(self):
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def save_state(accelerator: Accelerator, folder: Path, progress: Progress, keep: int) -> None:
    """Writes the training state as `folder`/step-N and keeps the last `keep`.

    Raises:
        StateError: it could not be written, for want of space or otherwise; earlier states are untouched.
    """
    draft = folder / "draft"
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(draft))
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        last = saved_states(folder)
        left = f"--resume goes on from {last[-1].name}" if last else "there is no earlier one"
        raise StateError(f"the training state could not be written to {folder}: {error}; {left}") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        final = folder / f"step-{progress.updates:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        for old in saved_states(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def disk_is_full(error: OSError | SafetensorError) -> bool:
    """Whether a file could not be written for want of space (safetensors says so in words only)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def saved_states(folder: Path) -> list[Path]:
    """Whole training states in a run's folder, oldest first."""
    return sorted(folder.glob("step-*"))
