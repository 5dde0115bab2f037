"""One epoch of training, one validation, and the state that a run can be resumed from.

Letters: B batch, T tokens, V vocabulary.
"""

import logging
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator, skip_first_batches
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from xr2text.config import TrainingConfig
from xr2text.data.sources import DataError
from xr2text.model.xr2text import XR2Text
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import IGNORED

# BART's embedding is shared with its output; accelerate warns of that, which it restores rightly, at every saved state.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names its terms."""


@dataclass
class Progress:
    """Where a run stands; saved and restored with the training state."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch already seen by each process
    updates: int = 0
    best_loss: float = math.inf
    seconds: float = 0.0  # of training, over all sessions

    def state_dict(self) -> dict:
        return vars(self).copy()

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


def train_one_epoch(
    model: torch.nn.Module,
    loader: DataLoader,
    optimizer: Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
    progress: Progress,
    config: TrainingConfig,
    save: Callable[[], None],
) -> tuple[dict[str, float], bool]:
    """Trains on what is left of the current epoch.

    Args:
        save: writes the training state; called every `config.checkpoint_minutes`.

    Returns:
        the mean loss and its terms over the batches seen, and whether the epoch was finished (False: the time was up).

    Raises:
        NonFiniteLossError: before any weight is changed by the loss.
    """
    model.train()
    loader.set_epoch(progress.epoch)
    remaining = skip_first_batches(loader, progress.batch) if progress.batch else loader
    bar = tqdm(
        remaining, desc=f"epoch {progress.epoch + 1}/{config.epochs}", total=len(loader), initial=progress.batch,
        disable=not accelerator.is_local_main_process, dynamic_ncols=True, mininterval=2,
    )  # fmt: skip
    totals, count, before = Counter(), 0, progress.seconds
    started = last_saved = time.monotonic()
    for batch in bar:
        with accelerator.accumulate(model):
            output = model(
                batch["pixel_values"], batch["box"], batch["labels"], batch["finding_labels"], config.losses
            )  # fmt: skip
            if not torch.isfinite(output.loss):
                terms = ", ".join(f"{name} {value.item():.4g}" for name, value in output.losses.items())
                raise NonFiniteLossError(f"loss is not finite at update {progress.updates}: {terms}")
            accelerator.backward(output.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        progress.batch += 1
        if accelerator.sync_gradients:
            progress.updates += 1
            schedule.step()
        totals.update({"loss": output.loss.detach(), **{name: term.detach() for name, term in output.losses.items()}})
        count += 1
        if count % 10 == 0:
            means = {name: f"{(value / count).item():.3f}" for name, value in totals.items()}
            bar.set_postfix(means, lr=f"{max(schedule.get_last_lr()):.1e}")
        now = time.monotonic()
        progress.seconds = before + now - started
        # All processes must agree on whether to save or stop, so the main one's clock decides.
        due = torch.tensor(
            [now - last_saved > config.checkpoint_minutes * 60, _time_is_up(config, now)], device=accelerator.device
        ).int()
        if accelerator.num_processes > 1:
            torch.distributed.broadcast(due, src=0)
        if due[0] and accelerator.sync_gradients:
            save()
            last_saved = now
        if due[1] and accelerator.sync_gradients and progress.batch < len(loader):
            return {name: (value / count).item() for name, value in totals.items()}, False
    means = {name: accelerator.reduce(value / count, reduction="mean").item() for name, value in totals.items()}
    progress.epoch, progress.batch = progress.epoch + 1, 0
    return means, True


_PROCESS_STARTED = time.monotonic()


def _time_is_up(config: TrainingConfig, now: float) -> bool:
    return config.stop_after_minutes is not None and now - _PROCESS_STARTED > config.stop_after_minutes * 60


@torch.inference_mode()
def validate(model: torch.nn.Module, loader: DataLoader, accelerator: Accelerator) -> float:
    """Mean cross-entropy per token over the validation studies, each counted once."""
    model.eval()
    losses, tokens = [], []
    for batch in tqdm(
        loader, desc="validation", disable=not accelerator.is_local_main_process, leave=False, mininterval=2
    ):  # fmt: skip
        labels = batch["labels"]
        logits = model(batch["pixel_values"], batch["box"], labels).logits
        per_token = F.cross_entropy(
            logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )  # [B, T]
        per_study = torch.stack([per_token.sum(1), (labels != IGNORED).sum(1).float()], dim=1)
        gathered = accelerator.gather_for_metrics(per_study)
        losses.append(gathered[:, 0].sum())
        tokens.append(gathered[:, 1].sum())
    if not sum(tokens):
        raise DataError("no validation study has a report, so there is nothing to validate on")
    return (sum(losses) / sum(tokens)).item()


@torch.inference_mode()
def write_reports(model: XR2Text, loader: DataLoader, accelerator: Accelerator) -> dict[int, ReportText]:
    """Generated reports by example index, on every process; each study once."""
    model.eval()
    written: dict[int, ReportText] = {}
    for batch in tqdm(
        loader, desc="writing reports", disable=not accelerator.is_local_main_process, leave=False, mininterval=2
    ):  # fmt: skip
        reports = model.generate(batch["pixel_values"], batch["box"]).reports
        pairs = list(zip(batch["index"].tolist(), reports, strict=True))
        written.update(accelerator.gather_for_metrics(pairs, use_gather_object=True))
    return written


def save_state(accelerator: Accelerator, folder: Path, progress: Progress, keep: int) -> None:
    """Writes the training state as `folder`/step-N; it gets its name only once it is whole. Keeps the last `keep`."""
    draft = folder / "draft"
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(draft))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        final = folder / f"step-{progress.updates:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
        for old in saved_states(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def saved_states(folder: Path) -> list[Path]:
    """Whole training states in a run's folder, oldest first."""
    return sorted(folder.glob("step-*"))
