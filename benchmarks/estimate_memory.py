"""What a training step takes in memory, estimated without a GPU, and how that and the model's FLOPs grow.

    python -m benchmarks.estimate_memory --out benchmarks/estimate_memory.md
    python -m benchmarks.estimate_memory --size "full on 8 GB" --images 512 --batches 2 --tokens 300

The step runs on tensors without contents, whose storages PyTorch's MemTracker counts as the CPU would allocate them. A
GPU's libraries add their workspaces (about half a GiB). At tiny size the estimate is within 10 % of what is measured
on a CPU.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from benchmarks.common import machine, publish
from benchmarks.models import SIZES, random_batch, sized_config, vocabulary
from xr2text.config import Config, TrainingConfig
from xr2text.model.xr2text import XR2Text
from xr2text.training import losses
from xr2text.training.objective import Objective
from xr2text.training.optim import build_optimizer, matrices_to_bf16

EIGHT_BIT_STATES = 2 * (1 + 4 / 256)  # bytes per parameter: two states of a byte, and a float32 for each 256
PARTS = ("weights", "gradients", "optimiser", "average", "activations")  # the last with all else
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PeakTracker(MemTracker):
    """PyTorch's memory tracker without peaks of single modules, which it would compute at every operation."""

    def _update_peak_stats(self, peak_state) -> None:
        for device, now in self._curr_mem_snap.items():
            if now["Total"] > self._peak_mem.get(device, 0):
                self._peak_mem[device], self._peak_mem_snap[device] = now["Total"], dict(now)


def estimate_memory(config: Config) -> dict[str, int]:
    """Peak bytes of a training step on the longest batch, by PARTS; they sum to the peak."""
    settings = config.training
    with torch.device("meta"):
        model = XR2Text(config.model, vocabulary(config.model))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()
        _share_embeddings(model)
        objective = Objective(model, settings.losses)
        save_memory(model, settings)
        _frozen_to_buffers(objective)  # the tracker expects a gradient of every parameter
        optimizer = build_optimizer(model, settings.model_copy(update={"optimizer": "adamw"}))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # makes its states
        if settings.gradient_accumulation_steps == 1:  # else gradients wait for the next batch
            optimizer.zero_grad()
        batch = random_batch(config, "cpu")
        every_token = mock.patch.multiple(
            losses, known_tokens=lambda labels: torch.arange(labels.numel()),
            reported_rows=lambda labels: torch.arange(len(labels)),
        )  # fmt: skip
        precision = DTYPES.get(settings.mixed_precision)
        tracker = PeakTracker()
        tracker.track_external(model, objective, optimizer, *batch.values())
        with every_token, tracker:
            with torch.autocast("cpu", precision) if precision else nullcontext():
                loss = objective(batch, 0.5).loss
            loss.backward()
            optimizer.step()
        peak = {str(name): size for name, size in tracker.get_tracker_snapshot("peak")[torch.device("cpu")].items()}
    parts = {
        "weights": peak["_MemRefType.PARAM"] + peak["_MemRefType.BUFFER"],
        "gradients": peak["_MemRefType.GRAD"],
        "optimiser": peak["_MemRefType.OPT"],
    }
    activations = peak["Total"] - sum(parts.values())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw_8bit":
        parts["optimiser"] = round(EIGHT_BIT_STATES * sum(parameter.numel() for parameter in trained))
    averaged = settings.ema_decay is not None
    average = sum(parameter.numel() * parameter.element_size() for parameter in trained) if averaged else 0
    return parts | {"average": average, "activations": activations}


def save_memory(model: XR2Text, settings: TrainingConfig) -> None:
    """Sets up what saves memory, as `training.optim.prepare_model` does; no part is frozen."""
    if settings.gradient_checkpointing != "none":
        model.enable_gradient_checkpointing(text=settings.gradient_checkpointing == "all")
    if settings.bf16_weights:
        matrices_to_bf16(model)


def _frozen_to_buffers(whole: nn.Module) -> None:
    for module in whole.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.data, persistent=False)


def _share_embeddings(model: XR2Text) -> None:
    """Ties BART's embeddings again: `to_empty` gives each a storage of its own."""
    bart = model.decoder.bart
    tied = [bart.lm_head, bart.model.decoder.embed_tokens]
    if model.config.decoder.use_text_encoder:
        tied.append(bart.model.encoder.embed_tokens)
    for module in tied:
        module.weight = bart.model.shared.weight


def study_flops(config: Config) -> float:
    """Model FLOPs of a training step on one study: three times those of a forward pass."""
    config = config.model_copy(deep=True)
    config.training.batch_size = 1
    with torch.device("meta"):
        model = XR2Text(config.model, vocabulary(config.model))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device="cpu")
        batch = random_batch(config, "cpu")
        with FlopCounterMode(display=False) as counter:
            model(batch["pixel_values"], batch["box"], batch["labels"])
    return 3.0 * counter.get_total_flops()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="overrides of its config"
    )
    parser.add_argument("--images", type=int, nargs="+", default=[512, 224, 768], metavar="PIXELS")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--tokens", type=int, nargs="+", default=[300, 60])
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    points = [(image, args.batches[0], args.tokens[0]) for image in args.images]
    points += [(args.images[0], batch, args.tokens[0]) for batch in args.batches[1:]]
    points += [(args.images[0], args.batches[0], tokens) for tokens in args.tokens[1:]]
    rows = []
    for image, batch, tokens in tqdm(points, desc="estimates"):
        point = (f"model.image_size={image}", f"training.batch_size={batch}", f"generation.max_tokens={tokens}")
        config = sized_config(args.size, *args.set, *point)
        parts = [size / 2**30 for size in estimate_memory(config).values()]
        sizes = " | ".join(f"{size:.1f}" for size in (sum(parts), *parts))
        rows.append(f"| {image} | {batch} | {tokens} | {sizes} | {study_flops(config) / 1e9:,.0f} |")
    settings = config.training
    text = "\n".join([
        f"{args.size}, precision {settings.mixed_precision}, {settings.optimizer}, gradient checkpointing "
        f"{settings.gradient_checkpointing}, accumulation {settings.gradient_accumulation_steps}. Estimated, not "
        f"measured; {machine()}.",
        "",
        f"| image side | batch | tokens | memory, GiB | {' | '.join(PARTS)} | model GFLOPs per study |",
        "|---:|" + "---:|" * (len(PARTS) + 4),
        *rows,
    ])  # fmt: skip
    publish("What a training step takes in memory", text, args.out)


if __name__ == "__main__":
    main()
