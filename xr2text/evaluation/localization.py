"""How well the region maps lie on the anatomy: lungs and heart against outlines that people drew.

A map is cut at half its maximum and compared with the outline. It should also follow the patient: the same is asked of
each film shifted and scaled by a tenth.

Letters: H x W the film's pixels, K regions.
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
from xr2text.config import DataConfig
from xr2text.data.segmentation import OUTLINED
from xr2text.data.sources import DataError, Study, masked_films
from xr2text.imaging.transform import autocontrast, letterbox
from xr2text.model.xr2text import XR2Text

# What is done to a film: (shift to the right, shift down, scale about the centre), in fractions of its sides.
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
    """Of one region under one move, over N films.

    Attributes:
        overlap: mean intersection over union of the map, cut at half its maximum, and the outline.
        peak_inside: share of films whose map has its peak within the outline.
        still: the same overlap for the map of the film as it is, left where it was: what not following would have.
    """

    overlap: float
    peak_inside: float
    still: float


def localize(
    model: XR2Text, folder: str | Path, progress: bool = False, holdout: int = 0
) -> dict[str, dict[str, Localization]]:
    """Scores the maps of right lung, left lung and heart, by move and region.

    Args:
        folder: images/ and masks/, see `data.sources`.
        holdout: only the films that a training with this `data.mask_holdout` has not seen; 0: all of them.

    Raises:
        DataError: it is not laid out so, a file cannot be read, or no film is left.
        ValueError: the model has no regions.
    """
    if model.config.haqt.projection != "haqt_arr":
        raise DataError("a model of projection 'linear' has no region maps")
    films = masked_films(DataConfig(region_masks=str(folder), mask_holdout=holdout), held_out=holdout > 0)
    if not films:
        raise DataError(f"{folder} has fewer than {holdout} films, so none is held out")
    rows: dict[tuple[str, str], list[tuple[float, bool, float]]] = {}
    for study in tqdm(films, desc="localizing", unit="film", disable=not progress):
        pixels, masks = study.images[0].read().pixels, read_outlines(study)
        at_rest = film_maps(model, [pixels])[0]
        moved = [_move(pixels, *move) for move in MOVES.values()]
        maps = film_maps(model, moved)
        for (name, move), own in zip(MOVES.items(), maps, strict=True):
            for region, mask in zip(OUTLINED, masks, strict=True):
                k = REGION_NAMES.index(region)
                target = _move(mask.astype(np.float32), *move) > 0.5
                peak = np.unravel_index(own[k].argmax(), target.shape)
                scores = overlap(own[k], target), bool(target[peak]), overlap(at_rest[k], target)
                rows.setdefault((name, region), []).append(scores)
    return {
        name: {region: Localization(*map(mean, zip(*rows[name, region], strict=True))) for region in OUTLINED}
        for name in MOVES
    }


def read_outlines(study: Study) -> list[np.ndarray]:
    """[H, W] bool for each of `OUTLINED`. Raises DataError where a file cannot be read."""
    masks = []
    for file in study.masks:
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise DataError(f"{file} cannot be read as a mask")
        masks.append(mask > 127)
    return masks


@torch.inference_mode()
def film_maps(model: XR2Text, films: Sequence[np.ndarray]) -> np.ndarray:
    """Films [H, W] of one size, in [0, 1] -> [N, K, H, W] attention on their own pixels."""
    placed = [letterbox(autocontrast(film.astype(np.float32)), model.transform.size) for film in films]
    device = next(model.parameters()).device
    pixels = torch.stack([model.transform.normalise(torch.from_numpy(canvas)) for canvas, _ in placed]).to(device)
    box = torch.tensor([geometry.box for _, geometry in placed], device=device)
    maps = model.look(pixels, box).region_maps.float().cpu().numpy()
    return np.stack([geometry.map_to_original(one) for one, (_, geometry) in zip(maps, placed, strict=True)])


def overlap(region_map: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of a map [H, W], cut at half its maximum, and a mask [H, W]."""
    cut = region_map >= region_map.max() / 2
    return float((cut & mask).sum() / max(1, (cut | mask).sum()))


def _move(picture: np.ndarray, right: float, down: float, scale: float) -> np.ndarray:
    """Moves and scales what a film shows; its edge rows and columns continue where it has left."""
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
    matrix[:, 2] += right * width, down * height
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def table(scores: dict[str, dict[str, Localization]]) -> str:
    """In Markdown: overlap by move and region, with what a map that does not follow would have."""
    head = " | ".join(f"{region} | peak inside" for region in OUTLINED)
    lines = [f"| film | {head} | if it did not follow |", "|---|" + "---:|" * (2 * len(OUTLINED) + 1)]
    for name, regions in scores.items():
        cells = [cell for one in regions.values() for cell in (f"{one.overlap:.3f}", f"{one.peak_inside:.1%}")]
        still = mean(one.still for one in regions.values())
        lines.append(f"| {name} | {' | '.join(cells)} | {still:.3f} |")
    return "\n".join(lines)
