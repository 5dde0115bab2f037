"""What a training step takes in memory: told beforehand, measured, and against transformers' VisionEncoderDecoderModel
of the same sizes in a plain loop, at the same precision and batch.

    python -m benchmarks.train_memory --size full --batch 32 96 --tokens 300 --out benchmarks/train_memory.md
    python -m benchmarks.train_memory --config configs/rtx4060_8gb.yaml --limit-gib 8
    python -m benchmarks.train_memory --size tiny                                          # on a CPU

The peak is what PyTorch's allocator held on a GPU, what its MemTracker counted on a CPU; each step is really made, its
optimiser's states are there. --limit-gib lets this process have no more of the GPU, as on a smaller one.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.stock import machine
from benchmarks.training_steps import Steps, add_arguments, our_steps, read_config, stock_steps
from xr2text.config import Config
from xr2text.training.memory import PeakTracker, estimate_memory

COLOURS = ("#3B6FB6", "#E08A3C", "#5AA469", "#8C6BB1", "#9A9A9A")


def measured(make: Callable[[Config, torch.device], Steps], config: Config, device: torch.device) -> int | None:
    """Peak bytes of an update; None where it does not fit."""
    try:
        return _peak(make(config, device), device)
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _peak(steps: Steps, device: torch.device) -> int:
    steps.update()  # makes the optimiser's states
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        steps.update()
        return torch.cuda.max_memory_allocated(device)
    tracker = PeakTracker()
    tracker.track_external(steps.module, steps.optimizer, *steps.batch.values())
    with tracker:
        steps.update()
    return tracker.get_tracker_snapshot("peak")[device]["Total"]


def gib(size: int | None) -> str:
    return "does not fit" if size is None else f"{size / 2**30:.3f} GiB"


def ratio(one: int | None, other: int | None) -> str:
    return f"{one / other:.2f}" if one and other else "-"


def draw_parts(parts: dict[int, dict[str, int]], file: Path) -> None:
    """What holds the estimated memory, for each batch."""
    figure = Figure(figsize=(8, 1 + 0.7 * len(parts)), layout="constrained")
    axes = figure.subplots()
    names = list(next(iter(parts.values())))
    left = [0.0] * len(parts)
    for name, colour in zip(names, COLOURS, strict=False):
        sizes = [one[name] / 2**30 for one in parts.values()]
        axes.barh([f"batch {batch}" for batch in parts], sizes, left=left, label=name, color=colour)
        left = [before + size for before, size in zip(left, sizes, strict=True)]
    axes.set_xlabel("GiB, estimated")
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=100)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--batch", type=int, nargs="*", help="one or several; default: the config's")
    parser.add_argument("--limit-gib", type=float, help="of the GPU's memory, for this process")
    parser.add_argument("--picture", type=Path, help="draw here what the memory goes to (PNG)")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    config, device = read_config(args), args.device
    limit = ""
    if args.limit_gib is not None:
        if device.type != "cuda":
            parser.error("--limit-gib is of a GPU's memory")
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(args.limit_gib * 2**30 / whole, device)
        limit = f", this process limited to {args.limit_gib:g} GiB"
    torch.manual_seed(0)
    rows, parts, first = [], {}, ""
    for batch in args.batch or [config.training.batch_size]:
        config.training = replace(config.training, batch_size=batch)
        parts[batch] = estimate_memory(config, config.training.precision)
        told = sum(parts[batch].values())
        ours, stock = (measured(make, config, device) for make in (our_steps, stock_steps))
        rows.append(
            f"| {batch} | {gib(ours)} | {gib(stock)} | {ratio(ours, stock)} | {gib(told)} | {ratio(told, ours)} |"
        )
        first = first or f"**{ratio(ours, stock)} of the stock model's memory** at batch {batch}."
    settings = config.training
    text = "\n".join([
        first,
        "",
        f"{config.name}, {config.model.image.size} px, {config.generation.max_tokens} tokens, accumulation "
        f"{settings.accumulation}, precision {settings.precision}, {settings.optimizer}; {machine(device)}{limit}.",
        "",
        "| batch | ours | stock | ratio | estimate of ours | estimate / ours |",
        "|---:|---:|---:|---:|---:|---:|",
        *rows,
    ])  # fmt: skip
    print(text)
    if args.picture is not None:
        draw_parts(parts, args.picture)
    if args.out is not None:
        args.out.write_text(f"# What a training step takes in memory\n\n{text}\n")


if __name__ == "__main__":
    main()
