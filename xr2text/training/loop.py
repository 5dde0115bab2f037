"""One epoch of training, and one validation.

Letters: B batch, T tokens, K regions.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator, skip_first_batches
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from xr2text.anatomy import REGION_NAMES
from xr2text.config import TrainingConfig
from xr2text.data.dataset import ReportDataset
from xr2text.data.sources import DataError
from xr2text.model.xr2text import XR2Text
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import IGNORED
from xr2text.training.bad import LeftOut
from xr2text.training.state import Progress

FINISHED, SAVE, STOP = "finished", "save", "stop"


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names its terms and the studies of the batch."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch, or the part of it that was done, came to.

    Attributes:
        means: of the loss ("loss"), its terms and the router's weights ("region NAME"), over all processes.
        finished: False where the run was asked to stop within it.
        samples_per_second: of this process's part, times the number of processes.
    """

    means: dict[str, float]
    finished: bool
    samples_per_second: float


def train_one_epoch(
    objective: torch.nn.Module,
    loader: DataLoader,
    optimizer: Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
    progress: Progress,
    config: TrainingConfig,
    total_updates: int,
    after_update: Callable[[], None],
    due: Callable[[], str | None],
    save: Callable[[], None],
    left_out: LeftOut,
) -> EpochResult:
    """Trains on what is left of the current epoch.

    Args:
        total_updates: of the whole run.
        after_update: called after each change of the weights.
        due: what is to be done now, SAVE, STOP or nothing; asked after each update on every process, and done on all of
            them if one says so.
        save: writes the training state.
        left_out: is told of the radiographs that could not be read.

    Raises:
        NonFiniteLossError: before any weight is changed by the loss.
        DataError: more than the configured share of the radiographs is bad.
    """
    objective.train()
    loader.set_epoch(progress.epoch)
    remaining = skip_first_batches(loader, progress.batch) if progress.batch else loader
    bar = tqdm(
        remaining, desc=f"epoch {progress.epoch + 1}/{config.total_epochs}", total=len(loader), initial=progress.batch,
        disable=not accelerator.is_local_main_process, dynamic_ncols=True, mininterval=2,
    )  # fmt: skip
    totals = {name: torch.tensor(value, dtype=torch.float64) for name, value in progress.totals.items()}
    seen, before, started = 0, progress.seconds, time.monotonic()
    for batch in bar:
        left_out.add(batch.pop("bad", {}))
        with accelerator.accumulate(objective):
            output = objective(batch, progress.updates / total_updates)
            _require_finite(output, batch, loader.dataset, progress, accelerator)
            accelerator.backward(output.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(objective.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        progress.batch += 1
        seen += len(batch["index"])
        _add(totals, output)
        if accelerator.sync_gradients:
            progress.updates += 1
            schedule.step()
            after_update()
        progress.seconds = before + time.monotonic() - started
        if progress.batch % 10 == 0:
            count = totals["batches"].item()
            means = {
                name: f"{value.item() / count:.3f}" for name, value in totals.items() if name in ("loss", "tokens")
            }
            bar.set_postfix(means, lr=f"{max(schedule.get_last_lr()):.1e}")
        if accelerator.sync_gradients and progress.batch < len(loader):
            action = _agreed(due(), accelerator)
            if action is not None:
                progress.totals = {name: value.item() for name, value in totals.items()}
                save()
            if action == STOP:
                return EpochResult(_means(totals, accelerator), False, 0.0)
    result = EpochResult(
        _means(totals, accelerator), True, seen * accelerator.num_processes / (time.monotonic() - started)
    )
    progress.epoch, progress.batch, progress.totals = progress.epoch + 1, 0, {}
    return result


def _require_finite(
    output, batch: dict[str, torch.Tensor], data: ReportDataset, progress: Progress, accelerator: Accelerator
) -> None:
    """Stops all processes where one of them has a loss that is not finite."""
    finite = torch.isfinite(output.loss.detach())
    everywhere = accelerator.reduce(finite.float(), "mean") == 1 if accelerator.num_processes > 1 else finite
    if everywhere:
        return
    terms = ", ".join(f"{name} {value.item():.4g}" for name, value in output.losses.items())
    studies = ", ".join(study_ids(data, batch["index"].tolist())) if not finite else "on another process"
    raise NonFiniteLossError(f"loss is not finite at update {progress.updates}: {terms}; studies: {studies}")


def study_ids(data, indices: list[int]) -> list[str]:
    """Ids of the studies behind examples; `data` may be a stage's share of the examples."""
    whole = data.dataset if hasattr(data, "dataset") else data
    return [whole.examples[index][0].id for index in indices]


def _add(totals: dict[str, torch.Tensor], output) -> None:
    terms = {"loss": output.loss.detach(), **{name: term.detach() for name, term in output.losses.items()}}
    if output.region_weights is not None:
        weights = output.region_weights.detach().float().mean(0)  # [K]
        terms |= {f"region {name}": weight for name, weight in zip(REGION_NAMES, weights, strict=True)}
    for name, value in {**terms, "batches": torch.ones(())}.items():
        totals[name] = totals.get(name, 0) + value.double()


def _means(totals: dict[str, torch.Tensor], accelerator: Accelerator) -> dict[str, float]:
    count = totals["batches"]
    names = [name for name in totals if name != "batches"]
    values = torch.stack([totals[name].to(accelerator.device) / count.to(accelerator.device) for name in names])
    return dict(zip(names, accelerator.reduce(values, reduction="mean").tolist(), strict=True))


def _agreed(action: str | None, accelerator: Accelerator) -> str | None:
    """The gravest action that any process asks for."""
    order = (None, SAVE, STOP)
    if accelerator.num_processes == 1:
        return action
    level = torch.tensor(order.index(action), device=accelerator.device)
    torch.distributed.all_reduce(level, torch.distributed.ReduceOp.MAX)
    return order[level.item()]


@torch.inference_mode()
def validate(
    model: torch.nn.Module, loader: DataLoader, accelerator: Accelerator
) -> tuple[float, torch.Tensor | None, torch.Tensor]:
    """The validation studies, each counted once: mean cross-entropy per token, and the finding head's logits [N, F]
    (None without one) beside the labels [N, F]."""
    model.eval()
    losses, tokens, logits_of_findings, finding_labels = [], [], [], []
    for batch in tqdm(
        loader, desc="validation", disable=not accelerator.is_local_main_process, leave=False, mininterval=2
    ):  # fmt: skip
        labels = batch["labels"]
        with accelerator.autocast():
            output = model(batch["pixel_values"], batch["box"], labels)
        per_token = F.cross_entropy(
            output.logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )  # [B, T]
        per_study = torch.stack([per_token.sum(1), (labels != IGNORED).sum(1).float()], dim=1)
        gathered = accelerator.gather_for_metrics(per_study)
        losses.append(gathered[:, 0].sum())
        tokens.append(gathered[:, 1].sum())
        if output.finding_logits is not None:
            both = torch.stack([output.finding_logits.float(), batch["finding_labels"]], dim=1)  # [B, 2, F]
            both = accelerator.gather_for_metrics(both).cpu()
            logits_of_findings.append(both[:, 0])
            finding_labels.append(both[:, 1])
    if not sum(tokens):
        raise DataError("no validation study has a report, so there is nothing to validate on")
    found = torch.cat(logits_of_findings) if logits_of_findings else None
    known = torch.cat(finding_labels) if finding_labels else torch.empty(0, 0)
    return (sum(losses) / sum(tokens)).item(), found, known


@torch.inference_mode()
def write_reports(model: XR2Text, loader: DataLoader, accelerator: Accelerator) -> dict[int, ReportText]:
    """Generated reports by example index, on every process; each study once."""
    model.eval()
    written: dict[int, ReportText] = {}
    for batch in tqdm(
        loader, desc="writing reports", disable=not accelerator.is_local_main_process, leave=False, mininterval=2
    ):  # fmt: skip
        with accelerator.autocast():
            reports = model.generate(batch["pixel_values"], batch["box"]).reports
        pairs = list(zip(batch["index"].tolist(), reports, strict=True))
        written.update(accelerator.gather_for_metrics(pairs, use_gather_object=True))
    return written
