"""What a model consists of, without its weights."""

from pathlib import Path

import torch
from torch import nn

from xr2text.config import load_config
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import VOCAB_SIZE

BART_VOCAB_SIZE = 50_267  # BART's and the two section tokens


def describe(source: Path) -> str:
    """A table of the parameters of each part, for a YAML config or a checkpoint folder."""
    if source.is_dir():
        checkpoint = Checkpoint.from_pretrained(source)
        name, model = checkpoint.name, checkpoint.model
    else:
        config = load_config(source)
        name = config.name
        with torch.device("meta"):
            model = XR2Text(config.model, BART_VOCAB_SIZE if config.model.decoder.weights else VOCAB_SIZE)
    config, parts = model.config, parameters_by_part(model)
    total = sum(parts.values())
    width = max(map(len, parts))
    lines = [
        f"{name}: {config.encoder.name} at {config.image_size} px, grid {model.encoder.grid[0]} x "
        f"{model.encoder.grid[1]}, {config.haqt.projection}, BART width {config.width}",
        *(f"  {part:<{width}}  {count:>13,}" for part, count in parts.items()),
        f"  {'total':<{width}}  {total:>13,}  ({total / 1e6:.1f} M; {total * 4 / 2**20:,.0f} MiB in float32)",
    ]
    return "\n".join(lines)


def parameters_by_part(model: XR2Text) -> dict[str, int]:
    """Parameters of each part, shared ones counted once, where they are met first."""
    bart = model.decoder.bart.model
    parts: dict[str, nn.Module] = {"image encoder": model.encoder}
    if model.config.haqt.projection == "haqt_arr":
        for label, name in (
            ("spatial priors", "priors"), ("region routing", "router"), ("cross-region layers", "cross_region"),
        ):  # fmt: skip
            if getattr(model.projection, name) is not None:
                parts[f"projection: {label}"] = getattr(model.projection, name)
        parts["projection: queries and attention"] = model.projection
    else:
        parts["projection: linear"] = model.projection
    if model.finding_head is not None:
        parts["finding head"], parts["finding tokens"] = model.finding_head, model.finding_tokens
    parts["token embedding (tied to the output)"] = bart.shared
    if model.config.decoder.use_text_encoder:
        parts["BART encoder"] = bart.encoder
    parts["BART decoder"] = bart.decoder
    parts["other"] = model
    seen: set[int] = set()
    counts = {}
    for label, module in parts.items():
        fresh = [parameter for parameter in module.parameters() if id(parameter) not in seen]
        seen.update(map(id, fresh))
        counts[label] = sum(parameter.numel() for parameter in fresh)
    return {label: count for label, count in counts.items() if count}
