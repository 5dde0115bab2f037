"""The optimiser, its schedule over the stages, the average of the weights, and when to stop early."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xr2text.config import ConfigError, TrainingConfig
from xr2text.model.xr2text import XR2Text


def build_optimizer(model: XR2Text, config: TrainingConfig, extra: Iterable[nn.Parameter] = ()) -> Optimizer:
    """AdamW with a learning rate for each module; biases, normalisation and priors are not decayed.

    Args:
        extra: parameters of the loss itself, which learn at the projection's rate.

    Raises:
        ConfigError: 8-bit states are asked for and torchao is not installed.
    """
    priors = model.projection.prior_parameters()
    slow = {id(parameter) for parameter in priors}
    projection = [parameter for parameter in model.projection.parameters() if id(parameter) not in slow]
    if model.finding_head is not None:
        projection += model.finding_head.parameters()
    if model.finding_tokens is not None:
        projection += model.finding_tokens.parameters()
    projection += extra
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
    if config.optimizer == "adamw":
        return AdamW(groups, betas=(0.9, 0.98), fused=True)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError("training.optimizer adamw_8bit needs torchao: pip install torchao") from error
    return AdamW8bit(groups, betas=(0.9, 0.98), bf16_stochastic_round=config.bf16_weights)


def matrices_to_bf16(model: XR2Text) -> None:
    """Trained matrices in bfloat16, for `training.bf16_weights`; biases, normalisation and priors, few, stay."""
    kept = {id(parameter) for parameter in model.projection.prior_parameters()}
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.requires_grad and id(parameter) not in kept:
            parameter.data = parameter.data.bfloat16()


@dataclass(frozen=True)
class StageSpan:
    """How many updates a stage makes, and what it multiplies every learning rate by."""

    updates: int
    lr_factor: float = 1.0


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, spans: Sequence[StageSpan]) -> LambdaLR:
    """Linear warm-up, then a cosine down to `lr_floor` of each rate at the last update of all stages."""
    updates = sum(span.updates for span in spans)
    warmup = max(1, round(config.warmup_share * updates))

    def factor(step: int) -> float:
        if step < warmup:
            shape = (step + 1) / warmup
        else:
            progress = min(1.0, (step - warmup) / max(1, updates - 1 - warmup))
            shape = config.lr_floor + (1 - config.lr_floor) * 0.5 * (1 + math.cos(math.pi * progress))
        return shape * _span_at(spans, step).lr_factor

    return LambdaLR(optimizer, factor)


def _span_at(spans: Sequence[StageSpan], step: int) -> StageSpan:
    for span in spans:
        if step < span.updates:
            return span
        step -= span.updates
    return spans[-1]


class WeightAverage:
    """An exponential moving average of a model's weights and buffers, by torch's AveragedModel.

    Args:
        decay: of the average at each update; None keeps none, and `applied_to` leaves the model as it is.
    """

    def __init__(self, model: XR2Text, decay: float | None):
        self.average = None
        if decay is not None:
            self.average = AveragedModel(
                _without_tokenizer(model), multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
            )

    def update(self, model: XR2Text) -> None:
        if self.average is not None:
            self.average.update_parameters(model)

    @contextmanager
    def applied_to(self, model: XR2Text) -> Iterator[None]:
        """The model has the average's weights within, and its own again afterwards, bit by bit."""
        if self.average is None:
            yield
            return
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.average.module.state_dict())
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict:
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if self.average is not None:
            self.average.load_state_dict(state)


def _without_tokenizer(model: XR2Text) -> XR2Text:
    """The model, to be copied: a tokenizer need not be copied with it."""
    bare = copy.copy(model)
    bare.tokenizer = None
    return bare


class EarlyStopping:
    """Says when validation has not become better for long enough.

    Args:
        patience: validated epochs without a better score after which a run ends; None: it never does.
    """

    def __init__(self, patience: int | None):
        self.patience, self.best, self.waited = patience, -math.inf, 0

    @property
    def over(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def step(self, score: float) -> bool:
        """Takes an epoch's score, the higher the better; whether it is the best so far."""
        better = score > self.best
        self.best, self.waited = (score, 0) if better else (self.best, self.waited + 1)
        return better

    def state_dict(self) -> dict:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.waited = state["best"], state["waited"]
