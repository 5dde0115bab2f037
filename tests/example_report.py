"""A report made by hand: the phantom, with each region's prior for its map."""

import numpy as np

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.imaging.transform import Geometry
from xr2text.inference.reporter import Report, Sentence
from xr2text.phantom.drawing import draw_phantom


def make_report(
    size: tuple[int, int] = (240, 200), grid: int = 16, warnings: tuple[str, ...] = (), readings=()
) -> Report:
    """A report on a phantom of (height, width); its maps are the lobes of anatomy.REGIONS on a square canvas."""
    centres = (np.arange(grid) + 0.5) / grid
    x, y = np.meshgrid(centres, centres)
    maps = np.stack([sum(_gaussian(x, y, lobe) for lobe in region.lobes) for region in REGIONS])
    radiograph = draw_phantom(3, size, ()).radiograph
    return Report(
        findings="The heart is normal. The lungs are clear.",
        impression="No acute disease.",
        sentences=(
            Sentence("The heart is normal.", "findings", _mostly("heart")),
            Sentence("The lungs are clear.", "findings", _mostly("right lung")),
            Sentence("No acute disease.", "impression", _mostly("left lung")),
        ),
        region_weights=dict(zip(REGION_NAMES, (0.1, 0.1, 0.3, 0.2, 0.1, 0.1, 0.1), strict=True)),
        grid_maps=(maps / maps.sum((1, 2), keepdims=True)).astype(np.float32),
        geometry=Geometry.fit(*size, 256),
        radiograph=radiograph,
        model="example 0.1.0",
        warnings=warnings,
        finding_readings=tuple(readings),
    )


def _mostly(region: str) -> dict[str, float]:
    return {name: 0.4 if name == region else 0.1 for name in REGION_NAMES}


def _gaussian(x: np.ndarray, y: np.ndarray, lobe) -> np.ndarray:
    (centre_x, centre_y), (spread_x, spread_y) = lobe.centre, lobe.spread
    return np.exp(-((x - centre_x) ** 2) / (2 * spread_x**2) - (y - centre_y) ** 2 / (2 * spread_y**2))
