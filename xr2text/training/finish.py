"""The end of a run, the finished checkpoint; and a run told beforehand, without training."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from xr2text.config import Config
from xr2text.model.info import parameters_by_part
from xr2text.model.xr2text import XR2Text
from xr2text.training.card import model_card
from xr2text.training.data import TrainingData, build_curriculum, load_split_studies
from xr2text.training.history import write_table
from xr2text.training.loop import write_reports
from xr2text.training.state import Progress


def finish_run(
    config: Config,
    started_by: str,
    data: TrainingData,
    val_loader: DataLoader,
    progress: Progress,
    accelerator: Accelerator,
) -> None:
    """The best weights as they are stored, with a model card that says what they do, and their validation reports."""
    output = Path(config.output)
    finished = output / "checkpoint"
    if accelerator.is_main_process:
        best_model = XR2Text.from_pretrained(output / "best")
        best_model.generation = config.generation  # a resumed run may search in another way
        best_model.save_pretrained(finished, config.half_precision_checkpoint)
    accelerator.wait_for_everyone()
    model = XR2Text.from_pretrained(finished).to(accelerator.device)
    reports = write_reports(model, val_loader, accelerator)
    if accelerator.is_main_process:
        write_table(output / "validation_reports.csv", data.val, reports)
        card = model_card(config, started_by, data.train, data.val, reports, progress, accelerator.device)
        model.save_pretrained(finished, config.half_precision_checkpoint, card)
        print(f"checkpoint: {finished}")


def describe_run(config: Config) -> str:
    """What a run of this config would be: parameters, stages and updates (of one process). Fetches no weights."""
    with torch.device("meta"):
        model = XR2Text(config.model)
    parts = parameters_by_part(model)
    width = max(map(len, parts))
    curriculum = build_curriculum(config, load_split_studies(config)["train"])
    settings = config.training
    per_update = settings.batch_size * settings.accumulation
    lines = [f"  {part:<{width}}  {count:>13,}" for part, count in parts.items()]
    lines += [f"  {'total':<{width}}  {sum(parts.values()):>13,}", "", curriculum.table(), ""]
    updates = {stage.name: stage.epochs * -(-len(stage.indices) // per_update) for stage in curriculum.stages}
    lines.append("updates: " + ", ".join(f"{name} {count:,}" for name, count in updates.items()))
    lines.append(f"in all {sum(updates.values()):,} of {per_update} radiographs on one process")
    trained = sum(parts.values())
    fixed = trained * 4 * (4 if settings.ema_decay is None else 5)
    lines.append(
        f"memory: {fixed / 2**30:.1f} GiB for weights, gradients and Adam's states in float32"
        + (", and the weights' average" if settings.ema_decay is not None else "")
        + "; activations come on top, and are tried on the longest batch before the first epoch"
    )
    return "\n".join(lines)
