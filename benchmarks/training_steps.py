"""Training steps on random studies as train.py makes them, and those of the stock model in a plain loop of PyTorch, for
train_speed.py and train_memory.py."""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from benchmarks.stock import stock_model
from xr2text.config import Config, load_config
from xr2text.model.xr2text import XR2Text
from xr2text.training.losses import Objective
from xr2text.training.memory import longest_batch
from xr2text.training.optim import build_optimizer
from xr2text.training.setup import switch_on

TINY = [
    "model.image.size=64", "model.encoder.name=lcnet_050", "model.encoder.stride=16", "model.haqt.width=32",
    "model.decoder.layers=1", "model.decoder.feed_forward=64", "model.decoder.dropout=0.1", "generation.max_tokens=60",
    "generation.findings_tokens=40", "training.batch_size=4",
]  # fmt: skip
SIZES = {
    "tiny": ("configs/phantom.yaml", TINY),
    "compact": ("configs/iu_xray.yaml", ["model.encoder.frozen_groups=0", "training.ema_decay=null"]),
    "full": ("configs/a100_80gb.yaml", []),
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, default="full", help="tiny tries the benchmark on a CPU")
    parser.add_argument("--config", help="in place of a size: a YAML file, see configs/")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of either")
    parser.add_argument("--tokens", type=int, help="of every report; default: as many as the config allows")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")


def read_config(args: argparse.Namespace) -> Config:
    """The config that the arguments name, its reports `--tokens` long and its precision settled."""
    file, overrides = (args.config, []) if args.config else SIZES[args.size]
    config = load_config(file, [*overrides, *args.set])
    if args.tokens is not None:
        shorter = min(config.generation.findings_tokens, args.tokens - 1)
        config.generation = replace(config.generation, max_tokens=args.tokens, findings_tokens=shorter)
    if config.training.precision == "auto":
        config.training.precision = "bf16" if args.device.type == "cuda" else "no"
    return config


class Steps:
    """Updates of one model on random studies.

    Attributes:
        module: what is trained.
        batch: its inputs.
        studies: of an update, `training.accumulation` batches.
    """

    def __init__(
        self, module: nn.Module, optimizer: Optimizer, loss: Callable[[], torch.Tensor], batch: dict, config: Config
    ):
        self.module, self.optimizer, self.loss, self.batch = module, optimizer, loss, batch
        settings = config.training
        self.accumulation, self.clip_norm = settings.accumulation, settings.clip_norm
        self.studies = settings.batch_size * settings.accumulation
        self.dtype = DTYPES.get(settings.precision)
        self.device = batch["pixel_values"].device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=settings.precision == "fp16")

    def forward(self) -> torch.Tensor:
        with torch.autocast(self.device, self.dtype) if self.dtype else nullcontext():
            return self.loss()

    def update(self) -> None:
        for _ in range(self.accumulation):
            self.scaler.scale(self.forward() / self.accumulation).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def random_batch(config: Config, device: torch.device) -> dict[str, torch.Tensor]:
    """Noise for images, and reports of random words, all as long as they may be."""
    batch = longest_batch(config)
    batch["pixel_values"] = torch.randn(batch["pixel_values"].shape)
    batch["labels"] = torch.randint(5, config.model.decoder.vocab_size, batch["labels"].shape)
    return {name: value.to(device) for name, value in batch.items()}


def our_steps(config: Config, device: torch.device) -> Steps:
    """As train.py sets them up, from random weights."""
    settings = config.training
    model = switch_on(XR2Text(config.model), settings)
    objective = Objective(model, settings.losses).to(device).train()
    optimizer = build_optimizer(model, settings, objective.own_parameters())
    batch = random_batch(config, device)
    return Steps(objective, optimizer, lambda: objective(batch, 0.5).loss, batch, config)


def stock_steps(config: Config, device: torch.device) -> Steps:
    """The stock model under the same precision and batch, with AdamW as it comes."""
    model = stock_model(config.model).to(device).train()
    batch = {name: one for name, one in random_batch(config, device).items() if name in ("pixel_values", "labels")}
    return Steps(model, AdamW(model.parameters(), lr=5e-5), lambda: model(**batch).loss, batch, config)
