"""The optimiser and its schedule."""

import math

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from xr2text.config import TrainingConfig
from xr2text.model.xr2text import XR2Text


def build_optimizer(model: XR2Text, config: TrainingConfig) -> AdamW:
    """AdamW with a learning rate for each module; biases, normalisation and priors are not decayed."""
    priors = model.projection.prior_parameters()
    slow = {id(parameter) for parameter in priors}
    projection = [parameter for parameter in model.projection.parameters() if id(parameter) not in slow]
    if model.finding_head is not None:
        projection += model.finding_head.parameters()
    groups = []
    for name, parameters, rate in (
        ("encoder", model.encoder.parameters(), config.lr_encoder),
        ("projection", projection, config.lr_projection),
        ("decoder", model.decoder.parameters(), config.lr_decoder),
        ("priors", priors, config.lr_priors),
    ):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        decayed = [one for one in trained if one.ndim > 1 and id(one) not in slow]
        plain = [one for one in trained if one.ndim <= 1 or id(one) in slow]
        for decay, members in ((config.weight_decay, decayed), (0.0, plain)):
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "name": name})
    return AdamW(groups, betas=(0.9, 0.98), fused=True)


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, updates: int) -> LambdaLR:
    """Linear warm-up, then a cosine down to `lr_floor` of each rate at the last of `updates`."""
    warmup = max(1, round(config.warmup_share * updates))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, updates - warmup))
        return config.lr_floor + (1 - config.lr_floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
