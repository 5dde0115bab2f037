"""The image encoder: any timm model that gives feature maps, as one grid of patch features.

Letters: B batch, S image side, C encoder width, H x W patch grid, N = H*W.
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
    """timm feature maps of the chosen stride, joined by all coarser ones brought up to its grid.

    Args:
        config: name and stride of the model. Weights are random here; see `load_initial_weights`.
        image_size: side S of the square input, pixels.

    Raises:
        ConfigError: timm has no such model, or it has no feature map of that stride.
    """

    def __init__(self, config: EncoderConfig, image_size: int):
        super().__init__()
        self.config = config
        self.backbone = _create_backbone(config, image_size)
        info = self.backbone.feature_info
        strides = [level["reduction"] for level in info]
        if config.stride not in strides:
            raise ConfigError(f"model.encoder.stride is {config.stride}; {config.name} has {sorted(set(strides))}")
        if image_size % max(strides):
            raise ConfigError(f"model.image.size {image_size} must be a multiple of {max(strides)} for {config.name}")
        first = strides.index(config.stride)
        last_of = {stride: index for index, stride in enumerate(strides) if index >= first}
        self.levels = sorted(last_of.values())
        self.backbone.prune_intermediate_layers(self.levels, prune_norm=True, prune_head=True)
        self.width = sum(info[level]["num_chs"] for level in self.levels)
        self.grid = (image_size // config.stride, image_size // config.stride)
        self.norm = nn.LayerNorm(self.width)
        self.frozen_modules: list[nn.Module] = []
        if config.frozen:
            self.requires_grad_(False)
        elif config.frozen_groups:
            self._freeze_groups(config.frozen_groups)

    def _freeze_groups(self, count: int) -> None:
        """Takes the first layer groups, as timm parts its model, out of training."""
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True), reverse=True)
        there = len(set(groups.values()))
        if count > there:
            raise ConfigError(f"model.encoder.frozen_groups is {count}; {self.config.name} has {there}")
        for name, group in groups.items():
            if group < count:
                self.backbone.get_parameter(name).requires_grad_(False)
        for module in self.backbone.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                self.frozen_modules.append(module)

    def train(self, mode: bool = True) -> "ImageEncoder":
        """What is frozen stays in evaluation mode, so that its normalisation statistics stay too."""
        super().train(mode and not self.config.frozen)
        for module in self.frozen_modules:
            module.eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Activations within the stages are computed twice. Raises ConfigError where timm's model cannot do it."""
        try:
            self.backbone.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise ConfigError(
                f"training.gradient_checkpointing: {self.config.name} of timm does not support it"
            ) from error
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_pre_hook(_count_batches_once(module.momentum))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> patch features [B, N, C], rows of the grid one after the other."""
        maps = self.backbone.forward_intermediates(
            pixel_values, indices=self.levels, output_fmt="NCHW", intermediates_only=True
        )
        maps = [
            one if one.shape[-2:] == self.grid else F.interpolate(one, self.grid, mode="bilinear", align_corners=False)
            for one in maps
        ]
        return self.norm(torch.cat(maps, dim=1).flatten(2).transpose(1, 2))  # [B, N, C]

    def load_initial_weights(self) -> None:
        """Loads what `config.weights` names: the start of a training, never of a finished checkpoint.

        Raises:
            ConfigError: the weights are not to be found or do not fit the model.
        """
        if self.config.weights is not None:
            load_backbone_weights(self.backbone, self.config.name, self.config.weights)


def load_backbone_weights(backbone: nn.Module, name: str, source: str) -> None:
    """Loads timm's weights of a model ("timm"), or those of a file or of an installed package ("package:NAME").

    Raises:
        ConfigError: the weights are not to be found or do not fit the model.
    """
    if source == "timm":
        try:
            state = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"model.encoder.weights: timm has none for {name} here: {error}") from error
    else:
        path = _package_weights(source.removeprefix("package:")) if source.startswith("package:") else Path(source)
        state = _read_state(path)
    own = backbone.state_dict()  # of a part of the model, perhaps
    if not own.keys() <= state.keys():
        state = _match_in_order(state, name)
    try:
        backbone.load_state_dict({key: state[key] for key in own})
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"model.encoder.weights {source!r} do not fit {name}: {error}") from error


def _count_batches_once(momentum: float | None):
    """A hook: what is computed again in the backward pass leaves a normalisation's statistics as they are."""

    def hook(module: nn.Module, _) -> None:
        module.momentum = 0.0 if torch._C._current_graph_task_id() != -1 else momentum

    return hook


def _create_backbone(config: EncoderConfig, image_size: int) -> nn.Module:
    if not timm.is_model(config.name.split(".", 1)[0]):
        near = timm.list_models(f"*{config.name.split('_')[0]}*")[:5]
        raise ConfigError(f"model.encoder.name {config.name!r} is not a model of timm; some that are: {near}")
    arguments: dict = {"num_classes": 0}
    if config.drop_path:
        arguments["drop_path_rate"] = config.drop_path
    cfg = timm.get_pretrained_cfg(config.name)
    if cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = image_size
    try:
        backbone = timm.create_model(config.name, pretrained=False, **arguments)
    except TypeError as error:
        raise ConfigError(f"model.encoder: {config.name} does not take {sorted(arguments)}: {error}") from error
    for module in backbone.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = config.fused_attention
    if not hasattr(backbone, "forward_intermediates"):
        raise ConfigError(f"model.encoder.name {config.name!r} gives no feature maps (forward_intermediates) in timm")
    return backbone


def _package_weights(package: str) -> Path:
    """The one weights file inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"model.encoder.weights: the Python package {package!r} is not installed")
    files = [file for file in Path(spec.origin).parent.rglob("*") if file.suffix in WEIGHT_SUFFIXES]
    if len(files) != 1:
        raise ConfigError(f"model.encoder.weights: package {package!r} holds {len(files)} weights files, one is needed")
    return files[0]


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ConfigError(f"model.encoder.weights: no file at {path}")
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _match_in_order(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Renames tensors of the same architecture written by another library: same order, same shapes, other names."""
    whole = timm.create_model(name, pretrained=False).state_dict()
    classifier = timm.get_pretrained_cfg(name).classifier
    wanted = [(key, value) for key, value in whole.items() if not key.startswith(f"{classifier}.")]
    given = list(state.items())[: len(wanted)]
    for (key, value), (other, tensor) in zip(wanted, given, strict=True):
        if value.shape != tensor.shape:
            raise ConfigError(
                f"model.encoder.weights: tensor {other} {list(tensor.shape)} stands where {name} has "
                f"{key} {list(value.shape)}"
            )
    return {key: tensor for (key, _), (_, tensor) in zip(wanted, given, strict=True)}
