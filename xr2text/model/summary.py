"""The number of parameters of a model, by part."""

from pathlib import Path

import torch
from torch import nn

from xr2text.config import ModelConfig, load_config
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import VOCAB_SIZE

BART_VOCAB_SIZE = 50_267  # BART's and the two section tokens


def describe(source: Path) -> str:
    """A table of the parameters of each part of a model, given by a YAML config or a checkpoint folder."""
    if source.is_dir():
        checkpoint = Checkpoint.from_pretrained(source)
        name, model = checkpoint.name, checkpoint.model
    else:
        config = load_config(source)
        name, model = config.name, unweighted_model(config.model)
    config, (height, width) = model.config, model.encoder.grid
    return (
        f"{name}: {config.encoder.name} at {config.image_size} px, grid {height} x {width}, {config.haqt.projection}, "
        f"BART width {config.width}\n{parameter_table(model)}"
    )


def unweighted_model(config: ModelConfig) -> XR2Text:
    """A model on torch's meta device: sizes without contents. Nothing is downloaded."""
    with torch.device("meta"):
        return XR2Text(config, BART_VOCAB_SIZE if config.decoder.weights else VOCAB_SIZE)


def parameter_table(model: XR2Text) -> str:
    parts = parameters_by_part(model)
    total, width = sum(parts.values()), max(map(len, parts))
    rows = [f"  {part:<{width}}  {count:>13,}" for part, count in parts.items()]
    rows.append(f"  {'total':<{width}}  {total:>13,}  ({total / 1e6:.1f} M; {total * 4 / 2**20:,.0f} MiB in float32)")
    return "\n".join(rows)


def parameters_by_part(model: XR2Text) -> dict[str, int]:
    """The number of parameters of each part; shared ones are counted once, in the first part that has them."""
    projection, bart = model.projection, model.decoder.bart.model
    parts: dict[str, nn.Module | None] = {
        "image encoder": model.encoder,
        "projection: spatial priors": getattr(projection, "priors", None),
        "projection: region routing": getattr(projection, "router", None),
        "projection: cross-region layers": getattr(projection, "cross_region", None),
        "projection: queries and attention": projection,
        "finding head": model.finding_head,
        "finding tokens": model.finding_tokens,
        "token embedding (tied to the output)": bart.shared,
        "BART encoder": bart.encoder,
        "BART decoder": bart.decoder,
        "other": model,
    }
    seen: set[nn.Parameter] = set()
    counts = {}
    for label, module in parts.items():
        fresh = set(module.parameters()) - seen if module is not None else set()
        seen |= fresh
        counts[label] = sum(parameter.numel() for parameter in fresh)
    return {label: count for label, count in counts.items() if count}
