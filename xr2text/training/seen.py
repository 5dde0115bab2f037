"""Encodes all training radiographs once, for trainings in which the image part is frozen.

Shapes: E examples.
"""

import copy
from dataclasses import fields

import torch
from accelerate import Accelerator

from xr2text.config import Config
from xr2text.data.dataset import ReportDataset
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.lateral import LateralImages, LateralTokens
from xr2text.model.xr2text import XR2Text
from xr2text.training.data import make_loader, progress_bar
from xr2text.training.skipped import Skipped, SkippingSubset


@torch.no_grad()
def see_all(
    model: XR2Text, data: ReportDataset, skipped: Skipped, config: Config, accelerator: Accelerator
) -> VisualTokens:
    """The visual tokens of all examples, [E, ...] in 16 bits, about 40 kB each. Radiographs are not augmented.
    Afterwards `data` gives its examples without radiographs.

    Raises:
        DataError: as `Skipped.add` does.
    """
    shown, count = copy.copy(data), len(data)
    shown.training, unreadable = False, {}
    visual, lateral = {"pooled": None}, {"pooled": None}
    examples = SkippingSubset(shown, range(count), skipped)
    for batch in progress_bar(make_loader(examples, config, accelerator, spread=False), "seeing", accelerator):
        unreadable |= batch.pop("skipped", {})
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        with accelerator.autocast():
            found = model.encode_image(batch["pixel_values"], batch["box"], LateralImages.of(batch))
        found.region_priors = None
        _fill(visual, found, batch["index"].cpu(), count)
        if found.lateral is not None:
            _fill(lateral, found.lateral, batch["index"].cpu(), count)
    data.unreadable = unreadable
    skipped.add(unreadable)
    return VisualTokens(**visual, lateral=LateralTokens(**lateral) if "tokens" in lateral else None)


def _fill(store: dict[str, torch.Tensor], found: VisualTokens | LateralTokens, rows: torch.Tensor, count: int) -> None:
    """Writes a batch's tensors [B, ...] into `rows` of the store's [E, ...]; rows that are never written stay zero."""
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, torch.Tensor):
            dtype = torch.float16 if value.is_floating_point() else value.dtype
            if store.get(field.name) is None:
                store[field.name] = torch.zeros(count, *value.shape[1:], dtype=dtype)
            store[field.name][rows] = value.to("cpu", dtype)
