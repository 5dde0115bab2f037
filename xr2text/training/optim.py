"""The optimiser, its schedule over the stages, the average of the weights, and ways to save memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from xr2text.config import ConfigError, TrainingConfig
from xr2text.data.curriculum import Stage
from xr2text.model.xr2text import XR2Text

WEIGHT_DECAY = 0.01
LR_PRIORS = 0.2  # factor of lr_projection for the spatial priors, which start at the anatomy
WARMUP = 0.05  # fraction of all updates over which the learning rates rise
LR_FLOOR = 0.02  # the cosine ends at this fraction of each learning rate


def build_optimizer(model: XR2Text, config: TrainingConfig) -> Optimizer:
    """AdamW with a learning rate for each part of the model. Biases, normalisation and priors have no weight decay.

    Raises:
        ConfigError: 8-bit states are asked for and torchao is not installed.
    """
    priors = model.projection.prior_parameters()
    slow = {id(parameter) for parameter in priors}
    parts = {name: list(nn.ModuleList(modules).parameters()) for name, modules in parts_by_rate(model).items()}
    projection = [parameter for parameter in parts["projection"] if id(parameter) not in slow]
    groups = []
    for name, parameters, rate in (
        ("encoder", parts["encoder"], config.lr_encoder),
        ("projection", projection, config.lr_projection),
        ("decoder", parts["decoder"], config.lr_decoder),
        ("priors", priors, LR_PRIORS * config.lr_projection),
    ):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim > 1 and id(parameter) not in slow]
        plain = [parameter for parameter in trained if parameter.ndim <= 1 or id(parameter) in slow]
        for decay, members in ((WEIGHT_DECAY, decayed), (0.0, plain)):
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "name": name})
    if config.optimizer == "adamw":
        return AdamW(groups, betas=(0.9, 0.98), fused=True)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError("training.optimizer adamw_8bit needs torchao: pip install torchao") from error
    return AdamW8bit(groups, betas=(0.9, 0.98), bf16_stochastic_round=config.bf16_weights)


def parts_by_rate(model: XR2Text) -> dict[str, list[nn.Module]]:
    """The parts of the model, grouped by their learning rate: lr_encoder, lr_projection or lr_decoder."""
    parts = {
        "encoder": [model.encoder],
        "projection": [model.projection, model.lateral, model.finding_head],
        "decoder": [model.decoder, model.finding_tokens],
    }
    return {name: [module for module in modules if module is not None] for name, modules in parts.items()}


def prepare_model(model: XR2Text, settings: TrainingConfig) -> None:
    """Freezes parts and sets up what saves time and memory in training. Changes the model in place."""
    for name, modules in parts_by_rate(model).items():
        if not getattr(settings, f"lr_{name}"):
            model.freeze(modules)
    if settings.init_from is not None:
        model.encoder.freeze_statistics()
    if settings.gradient_checkpointing != "none":
        model.enable_gradient_checkpointing(text=settings.gradient_checkpointing == "all")
    if settings.bf16_weights:
        matrices_to_bf16(model)
    model.to(memory_format=torch.channels_last)


def matrices_to_bf16(model: XR2Text) -> None:
    """Converts trained matrices to bfloat16. Biases, normalisation and priors, which are small, stay in float32."""
    kept = {id(parameter) for parameter in model.projection.prior_parameters()}
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.requires_grad and id(parameter) not in kept:
            parameter.data = parameter.data.bfloat16()


@dataclass(frozen=True)
class StageSpan:
    """The number of updates of a stage, and the factor of its learning rates."""

    name: str
    updates: int
    lr_factor: float = 1.0


def stage_spans(stages: Sequence[Stage], loaders: Sequence[DataLoader], accumulation: int) -> list[StageSpan]:
    """The updates of all stages, counted from the loaders of their batches."""
    return [
        StageSpan(stage.name, stage.epochs * -(-len(loader) // accumulation), stage.config.lr_factor)
        for stage, loader in zip(stages, loaders, strict=True)
    ]


def build_schedule(optimizer: Optimizer, spans: Sequence[StageSpan]) -> LambdaLR:
    """Linear warm-up, then a cosine down to LR_FLOOR of each rate at the last update of all stages."""
    factors = [span.lr_factor for span in spans for _ in range(span.updates)]  # the factor of each update
    updates, warmup = len(factors), max(1, round(WARMUP * len(factors)))

    def factor(step: int) -> float:
        if step < warmup:
            shape = (step + 1) / warmup
        else:
            progress = min(1.0, (step - warmup) / max(1, updates - 1 - warmup))
            shape = LR_FLOOR + (1 - LR_FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))
        return shape * factors[min(step, updates - 1)]

    return LambdaLR(optimizer, factor)


def average_weights(model: nn.Module, decay: float | None, optimizer: Optimizer) -> AveragedModel | None:
    """The exponential moving average of a model's weights and statistics, updated after each step of the optimiser.
    `.module` is a whole model. None without a decay."""
    if decay is None:
        return None

    # torch's get_ema_multi_avg_fn turns infinities into NaN and rounds whole numbers down; both occur as constants.
    def mean(average: torch.Tensor, weight: torch.Tensor, _: int) -> torch.Tensor:
        return decay * average + (1 - decay) * weight if weight.is_floating_point() else weight

    average = AveragedModel(model, avg_fn=mean, use_buffers=True)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return average
