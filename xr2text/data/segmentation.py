"""Segmentation masks of the seven regions, from outlines of lungs and heart.

    FOLDER/images/*                                     frontal radiographs
    FOLDER/masks/{right_lung,left_lung,heart}/*.png     of the same names and sizes, white where the organ is

The outlines are used as they are. The other four regions follow from them by rules of proportion, since no public
collection outlines them.

Shapes: S side of the canvas, K regions, H x W patch grid.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from xr2text.anatomy import REGION_NAMES
from xr2text.data.study import FRONTAL, DataError, ImageFile, Study

OUTLINED = ("right lung", "left lung", "heart")
FOLDERS = ("right_lung", "left_lung", "heart")
HELD_OUT = 5  # every fifth radiograph, sorted by name, is held out


def segmented_studies(folder: str | Path) -> list[Study]:
    """All radiographs of a folder as studies without reports. Raises DataError where it is not laid out as expected."""
    folder = Path(folder)
    files = sorted(path for path in (folder / "images").glob("*") if path.is_file())
    if not files:
        raise DataError(f"data.segmentation: expected radiographs in {folder / 'images'}")
    studies = []
    for path in files:
        masks = tuple(folder / "masks" / name / f"{path.stem}.png" for name in FOLDERS)
        if missing := [mask for mask in masks if not mask.is_file()]:
            raise DataError(f"data.segmentation: expected the mask {missing[0]}")
        name = f"masked-{path.stem}"
        studies.append(Study(name, name, (ImageFile(path, FRONTAL),), masks=masks))
    return studies


def held_out(studies: Sequence[Study], keys: Sequence[str] | None = None) -> list[Study]:
    """The studies of `segmented_studies` that a training does not see. With `keys`: those that its checkpoint lists
    by `study_key`, since its folder may have held fewer radiographs."""
    if keys is None:
        return list(studies[HELD_OUT - 1 :: HELD_OUT])
    return [study for study in studies if study_key(study) in keys]


def study_key(study: Study) -> str:
    """Identifies a study without giving away its name. A checkpoint keeps the keys of the held-out studies."""
    return hashlib.sha256(study.id.encode()).hexdigest()[:16]


def trained_on(studies: Sequence[Study]) -> list[Study]:
    """The studies of `segmented_studies` that a training sees."""
    return [study for number, study in enumerate(studies, start=1) if number % HELD_OUT]


def read_outlines(study: Study) -> list[np.ndarray]:
    """[H, W] bool for each of OUTLINED. Raises DataError where a file cannot be read, or outlines nothing."""
    outlines = []
    for file in study.masks:
        outline = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if outline is None:
            raise DataError(f"{file} cannot be read as a mask")
        if not (outline > 127).any():
            raise DataError(f"{file} outlines nothing: an organ is white")
        outlines.append(outline > 127)
    return outlines


def all_regions(right_lung: np.ndarray, left_lung: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """Masks [S, S] bool of the lungs and the heart -> [K, S, S] bool of all regions, in the order of anatomy.REGIONS.

    The mediastinum lies between the lungs above the heart's middle, the spine on the line midway between them, the
    diaphragm in a band along each lung's lower border, and the costophrenic angles around each lung's lowest outer
    point.
    """
    lungs = (right_lung, left_lung)
    rows, columns = np.nonzero(right_lung | left_lung)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    width, height = right - left + 1, bottom - top + 1
    y, x = np.mgrid[: right_lung.shape[0], : right_lung.shape[1]]

    # The medial edges, row by row: in the image the right lung lies left.
    medial_right, medial_left = _edge(right_lung, last=True), _edge(left_lung, last=False)
    known = ~np.isnan(medial_right) & ~np.isnan(medial_left)
    line = np.arange(len(known))
    medial_right = np.interp(line, line[known], medial_right[known])
    medial_left = np.interp(line, line[known], medial_left[known])
    middle = np.polyval(np.polyfit(line[known], ((medial_right + medial_left) / 2)[known], 1), line)

    heart_rows = np.nonzero(heart.any(1))[0]
    between = (x > medial_right[:, None]) & (x < medial_left[:, None])
    mediastinum = between & (y >= top + 0.1 * height) & (y <= heart_rows.mean()) & ~right_lung & ~left_lung & ~heart
    spine = (np.abs(x - middle[:, None]) < 0.05 * width) & (y >= top) & (y <= bottom + 0.1 * height)

    diaphragm, angles = np.zeros_like(heart), np.zeros_like(heart)
    band = max(1, round(0.05 * height))
    for lung, outer in zip(lungs, (-1, 1), strict=True):
        lowest = _edge(lung.T, last=True)  # of each column
        inside = ~np.isnan(lowest)
        border = np.where(inside, lowest, -10 * len(line))
        diaphragm |= (np.abs(y - border[None]) <= band) & inside[None] & (y > heart_rows.mean() + 0.05 * height)
        points = np.argwhere(lung)
        corner = points[np.argmax(points[:, 0] + outer * points[:, 1])]
        angles |= (y - corner[0]) ** 2 + (x - corner[1]) ** 2 <= (0.08 * width) ** 2
    diaphragm &= ~angles
    masks = {
        "right lung": right_lung, "left lung": left_lung, "heart": heart, "mediastinum": mediastinum, "spine": spine,
        "diaphragm": diaphragm, "costophrenic angles": angles,
    }  # fmt: skip
    return np.stack([masks[name] for name in REGION_NAMES])


def _edge(mask: np.ndarray, last: bool) -> np.ndarray:
    """Each row's first or last column of a mask; NaN where the row has none."""
    flipped = mask[:, ::-1] if last else mask
    first = flipped.argmax(1).astype(float)
    edge = mask.shape[1] - 1 - first if last else first
    edge[~mask.any(1)] = np.nan
    return edge


def segmentation_targets(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Masks [K, S, S] -> [K, H, W] float32, how much of each patch is covered, each region summing to 1.

    A region that has left the canvas is NaN: nothing is known of where to look for it.
    """
    shares = np.stack([cv2.resize(mask.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA) for mask in masks])
    total = shares.sum((1, 2), keepdims=True)
    return np.where(total > 0.5, shares / np.maximum(total, 1e-6), np.nan).astype(np.float32)
