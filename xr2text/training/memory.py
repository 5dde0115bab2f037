"""What a training step takes in memory: told beforehand without computing anything, and tried on the longest batch.

Letters: B batch, S image side, T tokens.
"""

import gc
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from xr2text.anatomy import REGIONS
from xr2text.config import Config, TrainingConfig
from xr2text.data.dataset import ReportDataset, collate
from xr2text.model.xr2text import XR2Text
from xr2text.training import losses
from xr2text.training.losses import Objective, longest_draws
from xr2text.training.optim import build_optimizer, matrices_to_bf16

EIGHT_BIT_STATES = 2 * (1 + 4 / 256)  # bytes for each parameter: two states of a byte, and a float32 for each 256
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class OutOfMemoryError(RuntimeError):
    """The longest batch does not fit; the message says what may be changed."""


class PeakTracker(MemTracker):
    """PyTorch's tracker without the peaks of each module, which it would look through at every operation."""

    def _update_peak_stats(self, peak_state) -> None:
        for device, now in self._curr_mem_snap.items():
            if now["Total"] > self._peak_mem.get(device, 0):
                self._peak_mem[device], self._peak_mem_snap[device] = now["Total"], dict(now)


def estimate_memory(config: Config, precision: str) -> dict[str, int]:
    """Peak bytes of a training step on the longest batch, by what holds them: "weights", "gradients", "optimiser",
    "average" and "activations" (with all else); they sum to the peak.

    The step runs on tensors without contents, whose storages PyTorch's MemTracker counts as the CPU would allocate
    them; a GPU's libraries add their own workspaces (about half a GiB).

    Args:
        precision: "no", "bf16" or "fp16".
    """
    settings = config.training
    with torch.device("meta"):
        model = XR2Text(config.model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()
        _share_embeddings(model)
        model.freeze_untrained(settings.losses)
        if settings.gradient_checkpointing:
            model.enable_gradient_checkpointing(settings.checkpoint_text)
        if settings.bf16_weights:
            matrices_to_bf16(model)
        objective = Objective(model, settings.losses)
        _frozen_to_buffers(objective)  # the tracker expects a gradient of every parameter
        optimizer = build_optimizer(
            model, replace(settings, optimizer="adamw", bf16_weights=False), objective.own_parameters()
        )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # makes its states
        if settings.accumulation == 1:  # else gradients wait for the next batch
            optimizer.zero_grad()
        batch = longest_batch(config)
        every_token = mock.patch.object(losses, "known_tokens", lambda labels: torch.arange(labels.numel()))
        mixed = torch.autocast("cpu", _DTYPES[precision]) if precision in _DTYPES else nullcontext()
        tracker = PeakTracker()
        tracker.track_external(model, objective, optimizer, *batch.values())
        with every_token, _longest_draws(settings, config.generation.findings_tokens), tracker:
            with mixed:
                loss = objective(batch, 0.5).loss
            loss.backward()
            optimizer.step()
        peak = {str(kind): size for kind, size in tracker.get_tracker_snapshot("peak")[torch.device("cpu")].items()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    named = {
        "weights": peak["_MemRefType.PARAM"] + peak["_MemRefType.BUFFER"],
        "gradients": peak["_MemRefType.GRAD"],
        "optimiser": peak["_MemRefType.OPT"],
    }
    named["activations"] = peak["Total"] - sum(named.values())
    if settings.optimizer == "adamw_8bit":
        named["optimiser"] = round(EIGHT_BIT_STATES * sum(parameter.numel() for parameter in parameters))
    if settings.ema_decay is not None:
        named["average"] = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return named


def longest_batch(config: Config) -> dict[str, torch.Tensor]:
    """A batch as `data.dataset.collate` gives it, of reports as long as they may be, without contents."""
    size, findings, tokens = config.training.batch_size, len(config.model.findings), config.generation.max_tokens
    side = config.model.image.size
    grid = side // config.model.encoder.stride
    return {
        "pixel_values": torch.empty(size, 3, side, side),
        "box": torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(size, 1),
        "labels": torch.zeros(size, tokens, dtype=torch.long),
        "finding_labels": torch.zeros(size, findings),
        "finding_targets": torch.zeros(size, findings),
        "finding_places": torch.zeros(size, findings, len(REGIONS), dtype=torch.bool),
        "token_regions": torch.zeros(size, tokens, len(REGIONS), dtype=torch.bool),
        "region_targets": torch.zeros(size, len(REGIONS), grid, grid),
    }


def _longest_draws(settings: TrainingConfig, length: int):
    """Within, the reward's drawn reports are as long as they may be, and cost no search."""
    samples = settings.losses.reward_samples
    return mock.patch.object(
        Objective, "_draw_reports", lambda _, tokens, labels: longest_draws(tokens, samples, length)
    )


def _frozen_to_buffers(whole: nn.Module) -> None:
    for module in whole.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.data, persistent=False)


def _share_embeddings(model: XR2Text) -> None:
    """Ties BART's embeddings anew after `to_empty`, which gives each its own."""
    bart = model.decoder.bart
    tied = [bart.lm_head, bart.model.decoder.embed_tokens]
    if model.config.decoder.use_text_encoder:
        tied.append(bart.model.encoder.embed_tokens)
    for module in tied:
        module.weight = bart.model.shared.weight


def try_longest_batch(
    objective: Objective, data: ReportDataset, settings: TrainingConfig, accelerator: Accelerator
) -> None:
    """One whole step on the longest possible batch, so that a run that cannot fit fails now and not hours later.

    The optimiser's states, and gradients that wait for the next batch of an accumulation, are there as in a run.
    Weights, buffers and the random state are afterwards as they were.

    Raises:
        OutOfMemoryError: it does not fit, on this process or another.
    """
    batch = collate(data.longest_examples(settings.batch_size))
    tokens, side = batch["labels"].shape[1], batch["pixel_values"].shape[-1]
    before = {name: value.clone() for name, value in objective.named_buffers()}
    random = torch.get_rng_state(), [torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else []
    failure = ""
    try:
        length = objective.model.generation.findings_tokens
        with losses.on_this_process_alone(), _longest_draws(settings, length):
            _whole_step(objective, batch, settings, accelerator)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        failure = str(error).splitlines()[0]
    finally:
        objective.zero_grad(set_to_none=True)
        gc.collect()
        for name, value in objective.named_buffers():
            value.copy_(before[name])
        torch.set_rng_state(random[0])
        for states in random[1]:
            torch.cuda.set_rng_state_all(states)
    failed = torch.tensor(float(bool(failure)), device=accelerator.device)
    if accelerator.reduce(failed, "sum"):
        raise OutOfMemoryError(
            f"a batch of {settings.batch_size} images of {side} x {side} with reports of {tokens} tokens does not fit "
            f"into the memory ({failure or 'of another process: it is out of memory.'}): lower training.batch_size and "
            "raise training.accumulation, or set training.fit_batch=true, which does both; "
            "training.gradient_checkpointing=true and training.optimizer=adamw_8bit need less"
        )
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
        accelerator.print(f"the longest batch ({settings.batch_size} reports of {tokens} tokens) takes {peak:.1f} GiB")


def _whole_step(
    objective: Objective, batch: dict[str, torch.Tensor], settings: TrainingConfig, accelerator: Accelerator
) -> None:
    """Forward, backward and an update with rates of 0, which changes no weight."""
    still = dict.fromkeys(("lr_encoder", "lr_projection", "lr_decoder", "lr_priors"), 0.0)
    optimizer = build_optimizer(objective.model, replace(settings, **still), objective.own_parameters())
    batch = {name: value.to(accelerator.device) for name, value in batch.items()}
    objective.train()
    for _ in range(2):  # the second finds the optimiser's states there
        with accelerator.autocast():
            loss = objective(batch, 0.0).loss
        loss.backward()
        optimizer.step()
        if settings.accumulation == 1:
            optimizer.zero_grad(set_to_none=True)


def fit_batch(
    objective: Objective, data: ReportDataset, settings: TrainingConfig, accelerator: Accelerator
) -> TrainingConfig:
    """Settings whose batch fits: halved as often as it must be, the accumulation doubled each time.

    Raises:
        OutOfMemoryError: it does not fit and `fit_batch` is off, or not even a batch that cannot be halved fits.
    """
    if accelerator.distributed_type == DistributedType.FSDP:  # one process alone cannot hold what they share
        accelerator.print("the longest batch is not tried beforehand under FSDP")
        return settings
    if not settings.fit_batch:
        try_longest_batch(objective, data, settings, accelerator)
        return settings
    sizes = [settings.batch_size]
    while sizes[-1] % 2 == 0:
        sizes.append(sizes[-1] // 2)
    smaller = iter(sizes[1:])

    @find_executable_batch_size(starting_batch_size=sizes[0], reduce_batch_size_fn=lambda: next(smaller, 0))
    def fitting(batch_size: int) -> TrainingConfig:
        accumulation = settings.accumulation * (sizes[0] // batch_size)
        fitted = replace(settings, batch_size=batch_size, accumulation=accumulation)
        try_longest_batch(objective, data, fitted, accelerator)
        if batch_size < sizes[0]:
            accelerator.print(f"batch {batch_size}, accumulation {accumulation}: what fits of batch {sizes[0]}")
        return fitted

    try:
        return fitting()
    except RuntimeError as error:
        if "reached zero" not in str(error):
            raise
        raise OutOfMemoryError(f"not even a batch of {sizes[-1]} fits into the memory") from error
