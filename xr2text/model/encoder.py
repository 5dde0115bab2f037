"""The image encoder: any timm model that gives feature maps, as one grid of patch features and a summary.

Shapes: B batch, S image side, C encoder width, P width of the summary, H x W patch grid, N = H*W.
"""

import importlib.util
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models import group_parameters
from torch import nn

from xr2text.config import ConfigError, EncoderConfig

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class ImageEncoder(nn.Module):
    """timm feature maps of the chosen stride, joined with all coarser ones, which are upsampled to its grid. With
    `summary`, it also gives the vector that timm's own classifier would read.

    Weights are random, see `load_pretrained`. Raises ConfigError where timm has no such model, or it has no feature map
    of that stride.
    """

    def __init__(self, config: EncoderConfig, image_size: int, summary: bool = True):
        super().__init__()
        self.config = config
        self.backbone = _create_backbone(config, image_size)
        pretrained = timm.get_pretrained_cfg(config.name)
        self.mean, self.std = pretrained.mean, pretrained.std  # normalisation of the input, per RGB channel
        info = self.backbone.feature_info
        strides = [level["reduction"] for level in info]
        if config.stride not in strides:
            raise ConfigError(f"model.encoder.stride is {config.stride}; {config.name} has {sorted(set(strides))}")
        if image_size % max(strides):
            raise ConfigError(f"model.image_size {image_size} must be a multiple of {max(strides)} for {config.name}")
        first = strides.index(config.stride)
        last_of = {stride: index for index, stride in enumerate(strides) if index >= first}
        self.levels = sorted(last_of.values())
        self.width = sum(info[level]["num_chs"] for level in self.levels)  # C
        self.summary, self.pooled_width = summary, self.backbone.head_hidden_size  # P
        if not summary:
            self.backbone.prune_intermediate_layers(self.levels, prune_norm=True, prune_head=True)
        self.grid = (image_size // config.stride, image_size // config.stride)
        self.norm = nn.LayerNorm(self.width)
        self.frozen_modules: list[nn.Module] = []
        self.momenta: list[tuple[nn.BatchNorm2d, float]] = []  # of what gradient checkpointing computes twice
        if config.frozen_groups:
            self._freeze_groups(config.frozen_groups)

    def _freeze_groups(self, count: int) -> None:
        """Freezes the first layer groups, as timm divides its models."""
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True), reverse=True)
        available = len(set(groups.values()))
        if count > available:
            raise ConfigError(f"model.encoder.frozen_groups is {count}; {self.config.name} has {available}")
        for name, group in groups.items():
            if group < count:
                self.backbone.get_parameter(name).requires_grad_(False)
        for module in self.backbone.modules():
            trained = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
            if trained and not any(trained):
                self.frozen_modules.append(module)

    def freeze_statistics(self) -> None:
        """Keeps mean and variance of batch normalisation as they are: those of a few radiographs would be worse."""
        self.frozen_modules += [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Keeps frozen parts in evaluation mode, so that their normalisation statistics do not change."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Computes activations within the stages twice, which saves memory. Raises ConfigError where timm's model
        cannot do it."""
        try:
            self.backbone.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise ConfigError(f"training.gradient_checkpointing: timm's {self.config.name} does not have it") from error
        self.momenta = [(norm, norm.momentum) for norm in self.backbone.modules() if isinstance(norm, nn.BatchNorm2d)]

    def _update_statistics(self, update: bool) -> None:
        """Switches updates of the normalisation statistics on or off. They are off in a backward pass, which computes
        the same batch again."""
        for norm, momentum in self.momenta:
            norm.momentum = momentum if update else 0.0

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, 3, S, S] -> patch features [B, N, C], rows of the grid one after the other, and the summary [B, P]."""
        self._update_statistics(True)
        last, maps = self.backbone.forward_intermediates(pixel_values, indices=self.levels, output_fmt="NCHW")
        pooled = self.backbone.forward_head(last, pre_logits=True) if self.summary else None  # [B, P]
        maps = [maps[0], *(F.interpolate(level, self.grid, mode="bilinear") for level in maps[1:])]
        features = self.norm(torch.cat(maps, dim=1).flatten(2).transpose(1, 2))  # [B, N, C]
        if self.momenta and features.requires_grad:
            features.register_hook(lambda _: self._update_statistics(False))  # the encoder's backward pass begins here
        return features, pooled

    def load_pretrained(self) -> None:
        """Loads what `config.weights` names, see `load_backbone_weights`."""
        if self.config.weights is not None:
            load_backbone_weights(self.backbone, self.config.name, self.config.weights)


def load_backbone_weights(backbone: nn.Module, name: str, source: str) -> None:
    """Loads timm's weights of a model ("timm"), or those of a file or of an installed package ("package:NAME"). Raises
    ConfigError where they are not to be found or do not fit the model."""
    state, wanted = _read_weights(name, source), backbone.state_dict()  # `wanted` may lack the head, see `ImageEncoder`
    if not wanted.keys() <= state.keys():  # another library's names for the same tensors in the same order
        names = timm.create_model(name, pretrained=False).state_dict()
        state = dict(zip(names, state.values(), strict=False))
    try:
        backbone.load_state_dict({key: state[key] for key in wanted})
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"model.encoder.weights {source!r} do not fit {name}: {error}") from error


def _create_backbone(config: EncoderConfig, image_size: int) -> nn.Module:
    if not timm.is_model(config.name.split(".", 1)[0]):
        near = timm.list_models(f"*{config.name.split('_')[0]}*")[:5]
        raise ConfigError(f"model.encoder.name {config.name!r} is not a model of timm; some that are: {near}")
    try:
        cfg = timm.get_pretrained_cfg(config.name, allow_unregistered=False)
    except RuntimeError as error:
        raise ConfigError(f"model.encoder.name {config.name!r}: {error}") from error
    arguments = {"img_size": image_size} if cfg.fixed_input_size else {}
    backbone = timm.create_model(config.name, pretrained=False, num_classes=0, **arguments)
    if not hasattr(backbone, "forward_intermediates"):
        raise ConfigError(f"model.encoder.name {config.name!r} gives no feature maps (forward_intermediates) in timm")
    return backbone


def _read_weights(name: str, source: str) -> dict[str, torch.Tensor]:
    if source == "timm":
        try:
            return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"model.encoder.weights: timm has none for {name} here: {error}") from error
    path = _package_weights(source.removeprefix("package:")) if source.startswith("package:") else Path(source)
    if not path.is_file():
        raise ConfigError(f"model.encoder.weights: no file at {path}")
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)


def _package_weights(package: str) -> Path:
    """The one weights file inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"model.encoder.weights: the Python package {package!r} is not installed")
    files = [file for file in Path(spec.origin).parent.rglob("*") if file.suffix in WEIGHT_SUFFIXES]
    if len(files) != 1:
        raise ConfigError(f"model.encoder.weights: package {package!r} holds {len(files)} weights files, one is needed")
    return files[0]
