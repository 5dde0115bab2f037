"""How fast, and in how much memory, a model is trained: ours, ours with R-Drop, and the stock model in a plain loop.

    python -m benchmarks.training_speed --size tiny
    python -m benchmarks.training_speed --size full --set training.batch_size=32 --out benchmarks/training_speed.md

Images and reports are random and in memory, so that reading them is not part of it. The stock model is transformers'
VisionEncoderDecoderModel of the same sizes under AdamW. Model FLOPs are three times those of a forward pass, whatever
is computed again. On a CPU the peak of memory is what PyTorch's MemTracker counts.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import machine, publish, seconds
from benchmarks.estimate_memory import PeakTracker, save_memory
from benchmarks.models import SIZES, our_generator, parameters, random_batch, sized_config, stock_model
from xr2text.config import Config
from xr2text.training.loop import MAX_GRAD_NORM
from xr2text.training.objective import Objective
from xr2text.training.optim import build_optimizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Dense bfloat16 TFLOPs per second of NVIDIA's data sheets, by the words of a GPU's name; the first that fits.
PEAK_TFLOPS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H200 NVL": 835, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L40": 181,
    "L4": 121,
}  # fmt: skip


def known_peak(gpu: str) -> float | None:
    """TFLOPs per second of a GPU by the name that CUDA gives it, such as "NVIDIA A100-SXM4-80GB"."""
    words = gpu.replace("-", " ").split()
    return next((peak for name, peak in PEAK_TFLOPS.items() if set(name.split()) <= set(words)), None)


@dataclass
class Training:
    """What an update needs: the module that is trained, its optimiser, its loss and a batch."""

    module: nn.Module
    optimizer: Optimizer
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    batch: dict[str, torch.Tensor]
    config: Config

    def forward(self) -> torch.Tensor:
        precision = DTYPES.get(self.config.training.mixed_precision)
        with torch.autocast(self.batch["labels"].device.type, precision) if precision else nullcontext():
            return self.loss(self.batch)

    def update(self) -> None:
        settings = self.config.training
        for _ in range(settings.gradient_accumulation_steps):
            (self.forward() / settings.gradient_accumulation_steps).backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()


def our_training(config: Config, device: str) -> Training:
    """Our training, set up as in train.py, with random weights."""
    generator = our_generator(config, device)
    objective = Objective(generator.model, config.training.losses).train()
    save_memory(generator.model, config.training)
    generator.model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(generator.model, config.training)
    return Training(
        objective, optimizer, lambda batch: objective(batch, 0.5).loss, random_batch(config, device), config
    )  # fmt: skip


def stock_training(config: Config, device: str) -> Training:
    model = stock_model(config.model, device).train()
    batch = {name: value for name, value in random_batch(config, device).items() if name in ("pixel_values", "labels")}
    return Training(model, AdamW(model.parameters(), lr=5e-5), lambda batch: model(**batch).loss, batch, config)


@dataclass(frozen=True)
class Speed:
    """Attributes:
    parameters: of the trained module.
    studies: per second, by the median update.
    peak: bytes that an update takes at most, its optimiser's states among them.
    tflops: model TFLOPs per second.
    """

    parameters: int
    studies: float
    peak: int
    tflops: float

    @property
    def gib(self) -> str:
        return f"{self.peak / 2**30:.2f} GiB"

    @property
    def share(self) -> str:
        """The percentage of the GPU's peak, or "not known"."""
        peak = known_peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        return f"{100 * self.tflops / peak:.0f} %" if peak else "not known"


def measure(training: Training, count: int = 10) -> Speed:
    """Measures `count` updates after two that are not counted."""
    settings = training.config.training
    studies = settings.batch_size * settings.gradient_accumulation_steps
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        training.forward()
    flops = 3 * counter.get_total_flops() * settings.gradient_accumulation_steps
    training.update()  # makes the optimiser's states
    peak = peak_memory(training)
    taken = statistics.median(seconds(training.update) for _ in range(count))
    return Speed(parameters(training.module), studies / taken, peak, flops / taken / 1e12)


def peak_memory(training: Training) -> int:
    """Peak bytes of an update when the optimiser's states exist."""
    device = training.batch["labels"].device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        training.update()
        return torch.cuda.max_memory_allocated()
    tracker = PeakTracker()
    tracker.track_external(training.module, training.optimizer, *training.batch.values())
    with tracker:
        training.update()
    return tracker.get_tracker_snapshot("peak")[device]["Total"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="compact")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="overrides of its config"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=10, help="updates that are timed")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    config = sized_config(args.size, *args.set)
    without, with_rdrop = (config.model_copy(deep=True) for _ in range(2))
    without.training.losses.rdrop, with_rdrop.training.losses.rdrop = 0.0, 0.5
    speeds = {
        "ours": measure(our_training(without, args.device), args.steps),
        "ours with R-Drop": measure(our_training(with_rdrop, args.device), args.steps),
        "stock": measure(stock_training(config, args.device), args.steps),
    }
    ours, stock, settings = speeds["ours"], speeds["stock"], config.training
    rows = [
        f"| {name} | {speed.parameters / 1e6:.1f} M | {speed.studies:.2f} | {speed.gib} | {speed.tflops:.3g} | "
        f"{speed.share} |"
        for name, speed in speeds.items()
    ]
    text = "\n".join([
        f"**{ours.studies / stock.studies:.2f} times the studies per second of the stock model, at "
        f"{ours.peak / stock.peak:.2f} of its memory.**",
        "",
        f"{args.size}: {config.model.image_size} px, batch {settings.batch_size} x "
        f"{settings.gradient_accumulation_steps}, {config.generation.max_tokens} tokens, precision "
        f"{settings.mixed_precision}; {machine(args.device)}.",
        "",
        "| | parameters | studies per second | peak memory | TFLOPs per second | of the GPU's peak |",
        "|---|---:|---:|---:|---:|---:|",
        *rows,
    ])  # fmt: skip
    publish("How fast a model is trained", text, args.out)


if __name__ == "__main__":
    main()
