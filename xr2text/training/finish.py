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
from xr2text.training.memory import estimate_memory
from xr2text.training.setup import precision
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
    """What a run of this config would be: parameters, stages, updates and memory (of one process). Fetches no
    weights."""
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
    chosen = precision("auto") if settings.precision == "auto" else settings.precision
    memory = estimate_memory(config, chosen)
    shares = ", ".join(f"{name} {_size(count)}" for name, count in memory.items())
    total = _size(sum(memory.values()))
    lines.append(f"memory of a step on the longest batch, precision {chosen}: {total} ({shares})")
    return "\n".join(lines)


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
