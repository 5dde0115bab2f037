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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from xr2text.config import ConfigError
from xr2text.errors import XR2TextError
from xr2text.model.findings import FindingCalibration

KEPT = 2  # states, the last ones

# BART's embedding is shared with its output; accelerate warns of that, which it restores rightly, at every saved state.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class StateError(XR2TextError):
    """A state that could not be written or does not fit; the message says why, and what is left to resume from."""


@dataclass
class Progress:
    """Where a run stands; saved and restored with the training state.

    Attributes:
        total_updates: of the weights, in the whole run.
        processes, batch_size: that share the run, and of each.
        epoch: finished epochs.
        batch: batches of this epoch already seen by each process.
        updates: of the weights, so far.
        totals: sums over this epoch's batches, by name.
        best_score: of the validations so far.
        calibration: of the finding head, as fitted by the last validation.
        seconds: of training, over all sessions.
    """

    total_updates: int = 1
    processes: int = 1
    batch_size: int = 1
    epoch: int = 0
    batch: int = 0
    updates: int = 0
    totals: dict[str, float | torch.Tensor] = field(default_factory=dict)
    best_score: float = -math.inf
    calibration: FindingCalibration = field(default_factory=FindingCalibration)
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """Of all updates, done."""
        return self.updates / self.total_updates

    def state_dict(self) -> dict:
        totals = {name: float(value) for name, value in self.totals.items()}
        return vars(self) | {"totals": totals, "calibration": asdict(self.calibration)}

    def load_state_dict(self, state: dict) -> None:
        """Raises StateError for a run of other batches, in which the studies would come in another order."""
        for name, what in (("processes", "processes"), ("batch_size", "radiographs in a batch")):
            if state[name] != getattr(self, name):
                raise StateError(f"--resume: the run is of {state[name]} {what}, and here are {getattr(self, name)}")
        kept = {"total_updates": self.total_updates}  # a longer run may go on from a shorter one
        vars(self).update(state | kept | {"calibration": FindingCalibration.from_json(state["calibration"])})


class StopRequest:
    """Turns SIGTERM and Ctrl-C into a request that the loop answers by saving and stopping; a second Ctrl-C interrupts.
    A context manager, which gives the signals back their former handlers."""

    def __init__(self):
        self.asked = False

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


def states_to_resume(output: Path, resume: bool) -> list[Path]:
    """The run's saved states, none for a new run. Raises ConfigError where `resume` and the folder do not agree."""
    states = saved_states(output)
    if states and not resume:
        raise ConfigError(f"{output} holds a run already: --resume goes on with it; or choose another output")
    if resume and not states:
        raise ConfigError(f"--resume: there is no saved state in {output / 'states'}")
    return states


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
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        for old in saved_states(output)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Within, a file that cannot be written for want of space is a StateError."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors says so in words only
        if not any(getattr(error, "errno", None) == number or os.strerror(number) in str(error) for number in full):
            raise
        raise StateError(f"{error}; the states saved before are whole, and --resume goes on from the last") from error
