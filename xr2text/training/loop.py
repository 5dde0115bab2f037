"""One epoch of training, and the clock that says when to save, when to stop and how long the run will take."""

import time
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator, skip_first_batches
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from xr2text.anatomy import REGION_NAMES
from xr2text.config import TrainingConfig
from xr2text.errors import XR2TextError
from xr2text.training.objective import Batch, ObjectiveOutput
from xr2text.training.optim import StageSpan
from xr2text.training.skipped import SkippingSubset
from xr2text.training.state import Progress, StopRequest

SAVE_SECONDS = 600  # seconds between two saved states within an epoch
MAX_GRAD_NORM = 1.0  # gradients are clipped to it
FIRST_PROJECTION = 50  # updates of a session after which the duration is projected


class NonFiniteLossError(XR2TextError):
    """A loss became NaN or infinite; the message names its terms and the studies of the batch."""


def train_one_epoch(
    objective: torch.nn.Module,
    loader: DataLoader,
    optimizer: Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
    progress: Progress,
    config: TrainingConfig,
    after_update: Callable[[], bool],
) -> dict[str, float] | None:
    """Trains on the rest of the current epoch.

    Args:
        loader: of a SkippingSubset.
        after_update: called after each change of the weights, on every process; whether the run is to stop.

    Returns:
        means over all batches and processes of the loss and its terms ("train NAME") and of the router's weights
        ("region NAME"), and "samples_per_second"; None where the run is to stop.

    Raises:
        NonFiniteLossError: before any weight is changed by the loss.
        DataError: more than the configured fraction of the radiographs is skipped.
    """
    objective.train()
    loader.set_epoch(progress.epoch)
    remaining = skip_first_batches(loader, progress.batch) if progress.batch else loader
    seen, before, started = 0, progress.seconds, time.monotonic()
    with tqdm(
        remaining, f"epoch {progress.epoch + 1}/{config.total_epochs}", len(loader), initial=progress.batch,
        disable=not accelerator.is_local_main_process, dynamic_ncols=True, mininterval=2,
    ) as bar:  # fmt: skip
        for batch in bar:
            loader.dataset.skipped.add(batch.pop("skipped", {}))
            with accelerator.accumulate(objective):
                output = objective(batch, progress.fraction)
                _require_finite(output, batch, loader.dataset, progress, accelerator)
                accelerator.backward(output.loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(objective.parameters(), MAX_GRAD_NORM)
                optimizer.step()
                optimizer.zero_grad()
            progress.batch += 1
            progress.seconds = before + time.monotonic() - started
            seen += len(batch["index"])
            _add(progress.totals, output)
            if progress.batch % 10 == 0:
                loss = progress.totals["train loss"] / progress.batch
                bar.set_postfix(loss=f"{loss:.3f}", lr=f"{max(schedule.get_last_lr()):.1e}")
            if accelerator.sync_gradients:
                schedule.step()
                progress.updates += 1
                if after_update():
                    return None
    figures = _means(progress, accelerator)
    figures["samples_per_second"] = seen * accelerator.num_processes / (time.monotonic() - started)
    progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, {}
    return figures


def _require_finite(
    output: ObjectiveOutput, batch: Batch, examples: SkippingSubset, progress: Progress, accelerator: Accelerator
) -> None:
    """Stops all processes where the loss of any of them is not finite."""
    finite = torch.isfinite(output.loss.detach()).float()
    if accelerator.reduce(finite, "mean") == 1:
        return
    terms = ", ".join(f"{name} {value.item():.4g}" for name, value in output.losses.items())
    ids = [examples.dataset.examples[index][0].id for index in batch["index"].tolist()]
    studies = "on another process" if finite else ", ".join(ids)
    raise NonFiniteLossError(f"loss is not finite at update {progress.updates}: {terms}; studies: {studies}")


def _add(totals: dict[str, float | torch.Tensor], output: ObjectiveOutput) -> None:
    terms = {f"train {name}": term for name, term in {"loss": output.loss, **output.losses}.items()}
    if output.region_weights is not None:
        weights = output.region_weights.float().mean(0)  # [K]
        terms |= {f"region {name}": weight for name, weight in zip(REGION_NAMES, weights, strict=True)}
    for name, value in terms.items():
        totals[name] = totals.get(name, 0.0) + value.detach().double()


def _means(progress: Progress, accelerator: Accelerator) -> dict[str, float]:
    sums = [torch.as_tensor(value, device=accelerator.device) for value in progress.totals.values()]
    means = accelerator.reduce(torch.stack(sums) / progress.batch, reduction="mean")
    return dict(zip(progress.totals, means.tolist(), strict=True))


class Clock:
    """Saves a run's state from time to time, stops the run when it is asked to, and projects how long it will take.

    Args:
        plan: the stages of the whole run.
        save: writes the state.
        hourly_rate: of the machine; None: no cost is projected.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        progress: Progress,
        plan: Sequence[StageSpan],
        stop: StopRequest,
        save: Callable[[], None],
        hourly_rate: float | None,
    ):
        self.accelerator, self.progress, self.plan, self.stop = accelerator, progress, plan, stop
        self.save, self.hourly_rate = save, hourly_rate
        self._saved, self._updates = time.monotonic(), 0

    def after_update(self) -> bool:
        """Saves the state where it is time, or the run is to stop. Returns whether it is to stop; the same on all
        processes."""
        now, self._updates = time.monotonic(), self._updates + 1
        if self._updates == 1:
            self._first = now
        if self._updates == FIRST_PROJECTION and self.accelerator.is_main_process:
            pace = (now - self._first) / (FIRST_PROJECTION - 1)
            tqdm.write(projection(self.plan, self.progress.updates, pace, self.hourly_rate))  # above the progress bar
        stop, save = float(self.stop.due), float(now - self._saved > SAVE_SECONDS)
        asked = self.accelerator.reduce(torch.tensor([stop, save], device=self.accelerator.device), "sum")
        if asked.any():
            self.save()
            self._saved = now
        return bool(asked[0])


def projection(plan: Sequence[StageSpan], done: int, pace: float, hourly_rate: float | None) -> str:
    """How long the stages and the whole run take at `pace` seconds an update, validation aside."""
    stages = ", ".join(f"{span.name} {_hours(span.updates * pace)}" for span in plan)
    total = sum(span.updates for span in plan)
    text = f"{_hours(total * pace)}, {_hours(max(0, total - done) * pace)} left"
    cost = "" if hourly_rate is None else f"; about {total * pace / 3600 * hourly_rate:.2f} at {hourly_rate:g} an hour"
    return f"at {pace:.2f} s an update: {stages}; in all {text}{cost} (validation aside)"


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
