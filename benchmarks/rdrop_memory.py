"""What R-Drop costs in memory: the peak of a training step with it and without, logits held whole and in chunks.

    python -m benchmarks.rdrop_memory --out benchmarks/rdrop_memory.md
    python -m benchmarks.rdrop_memory --config configs/a100_80gb.yaml --batch 8       # on a GPU

The peak is what PyTorch's allocator held on a GPU, what its MemTracker counted on a CPU; each step is really made.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed._tools.mem_tracker import MemTracker

from xr2text.config import Config, load_config
from xr2text.model.xr2text import XR2Text
from xr2text.training.losses import Objective
from xr2text.training.optim import build_optimizer


def peak_memory(config: Config, batch_size: int, rdrop: float, chunk: int) -> int:
    """Peak bytes of a step whose optimiser's states are there already."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    losses = replace(config.training.losses, rdrop=rdrop, vocabulary_chunk=chunk)
    model = XR2Text(config.model).to(device).train()
    model.freeze_untrained(losses)
    objective = Objective(model, losses).to(device)
    optimizer = build_optimizer(model, config.training, objective.own_parameters())
    side, tokens = config.model.image.size, config.generation.max_tokens
    batch = {
        "pixel_values": torch.rand(batch_size, 3, side, side, device=device),
        "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * batch_size, device=device),
        "labels": torch.randint(5, config.model.decoder.vocab_size, (batch_size, tokens), device=device),
        "finding_labels": torch.zeros(batch_size, 0, device=device),
    }

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = objective(batch, 0.5).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    tracker = MemTracker()
    tracker.track_external(model, objective, optimizer, *batch.values())
    with tracker:
        step()
    return tracker.get_tracker_snapshot("peak")[device]["Total"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/iu_xray.yaml")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=50267, help="of the text decoder; BART's by default")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    overrides = [
        f"model.decoder.vocab_size={args.vocabulary}", "model.findings={}", "model.decoder.finding_tokens=false",
        "training.losses.findings=0", "training.losses.anatomy=0", "training.best_by=[combined]",
        "model.encoder.frozen_groups=0",
    ]  # fmt: skip
    config = load_config(args.config, overrides)
    whole = args.batch * config.generation.max_tokens
    rows = [("whole", whole), ("in chunks of 256 tokens", 256)]
    peaks = {
        (label, rdrop): peak_memory(config, args.batch, rdrop, chunk) for label, chunk in rows for rdrop in (0.0, 0.5)
    }
    lines = ["| logits | without R-Drop | with R-Drop | ratio |", "|---|---:|---:|---:|"]
    for label, _ in rows:
        without, with_it = peaks[label, 0.0], peaks[label, 0.5]
        lines.append(f"| {label} | {without / 2**30:.2f} GiB | {with_it / 2**30:.2f} GiB | {with_it / without:.2f} |")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU, float32"
    said = (
        f"Peak memory of one training step, {Path(args.config).name} with a vocabulary of {args.vocabulary:,}, batch "
        f"{args.batch}, {config.generation.max_tokens} tokens, on {where}, PyTorch {torch.__version__}."
    )
    text = "\n".join([said, "", *lines])
    print(text)
    if args.out is not None:
        args.out.write_text(f"# What R-Drop costs in memory\n\n{text}\n")


if __name__ == "__main__":
    main()
