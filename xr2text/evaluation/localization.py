"""How well the region maps lie on the anatomy: lungs and heart against outlines that people drew.

A map is cut at half its maximum and compared with the outline. It should also follow the patient: the same is asked of
each radiograph shifted and scaled by a tenth.

Shapes: N images, H x W an image's pixels, K regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from xr2text.anatomy import REGION_NAMES
from xr2text.data.segmentation import OUTLINED, held_out, read_outlines, segmented_studies
from xr2text.data.study import DataError
from xr2text.imaging.radiograph import Radiograph
from xr2text.model.xr2text import XR2Text

# Moves of an image: (shift to the right, shift down, scale about the centre), in fractions of its sides.
MOVES = {
    "as it is": (0.0, 0.0, 1.0),
    "shifted right": (0.1, 0.0, 1.0),
    "shifted left": (-0.1, 0.0, 1.0),
    "shifted down": (0.0, 0.1, 1.0),
    "shifted up": (0.0, -0.1, 1.0),
    "larger": (0.0, 0.0, 1.1),
    "smaller": (0.0, 0.0, 0.9),
}


@dataclass(frozen=True)
class Localization:
    """How well the maps of one region fit under one move, over N radiographs."""

    iou: float  # mean intersection over union of the map, cut at half its maximum, and the outline
    pointing_game: float  # share of radiographs whose map has its peak within the outline (Zhang et al., IJCV 2018)
    static_iou: float  # `iou` of the map of the unmoved radiograph: the score of a map that does not follow


def localize(
    model: XR2Text,
    folder: str | Path,
    held_out_alone: bool = False,
    keys: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Localization]]:
    """Scores the maps of right lung, left lung and heart, by move and region.

    Args:
        folder: see `data.segmentation`.
        held_out_alone: whether to score only the radiographs that no training sees.
        keys: of those that this model's training did not see; None: every fifth.

    Raises:
        DataError: a file is missing or cannot be read, no radiograph is left, or the model has no regions.
    """
    if model.config.haqt.projection != "haqt_arr":
        raise DataError("a model of projection 'linear' has no region maps")
    studies = segmented_studies(folder)
    studies = held_out(studies, keys) if held_out_alone else studies
    if not studies:
        why = "has too few radiographs, so none is" if keys is None else "has none of the radiographs that were"
        raise DataError(f"{folder} {why} held out")
    rows: dict[tuple[str, str], list[tuple[float, bool, float]]] = {}
    for study in tqdm(studies, desc="localizing", unit="image", disable=not progress):
        pixels, outlines = study.images[0].read().pixels, read_outlines(study)
        static, *maps = region_maps(model, [pixels, *(_move(pixels, *move) for move in MOVES.values())])
        for (name, move), moved in zip(MOVES.items(), maps, strict=True):
            for region, outline in zip(OUTLINED, outlines, strict=True):
                k = REGION_NAMES.index(region)
                target = _move(outline.astype(np.float32), *move) > 0.5
                peak = np.unravel_index(moved[k].argmax(), target.shape)
                scores = iou(moved[k], target), bool(target[peak]), iou(static[k], target)
                rows.setdefault((name, region), []).append(scores)
    return {
        name: {region: Localization(*map(mean, zip(*rows[name, region], strict=True))) for region in OUTLINED}
        for name in MOVES
    }


@torch.inference_mode()
def region_maps(model: XR2Text, images: Sequence[np.ndarray]) -> np.ndarray:
    """Images [H, W] of one size, in [0, 1] -> attention on their pixels [N, K, H, W]."""
    pixels, geometries = zip(*(model.transform(Radiograph(image, "array")) for image in images), strict=True)
    device = next(model.parameters()).device
    box = torch.tensor([geometry.box for geometry in geometries], device=device)
    maps = model.encode_image(torch.stack(pixels).to(device), box).region_maps.float().cpu().numpy()
    return np.stack([geometry.map_to_original(grid) for grid, geometry in zip(maps, geometries, strict=True)])


def iou(region_map: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of a map [H, W], cut at half its maximum, and a mask [H, W]."""
    cut = region_map >= region_map.max() / 2
    return float((cut & mask).sum() / max(1, (cut | mask).sum()))


def _move(image: np.ndarray, right: float, down: float, scale: float) -> np.ndarray:
    """Moves and scales the content of an image; its edge rows and columns fill the part that it leaves."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
    matrix[:, 2] += right * width, down * height
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def table(scores: dict[str, dict[str, Localization]]) -> str:
    """IoU and pointing game by move and region, in Markdown."""
    head = " | ".join(f"{region}, IoU | pointing game" for region in OUTLINED)
    lines = [f"| radiograph | {head} | static IoU |", "|---|" + "---:|" * (2 * len(OUTLINED) + 1)]
    for name, regions in scores.items():
        cells = [cell for score in regions.values() for cell in (f"{score.iou:.3f}", f"{score.pointing_game:.1%}")]
        static = mean(score.static_iou for score in regions.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {static:.3f} |")
    return "\n".join(lines)
