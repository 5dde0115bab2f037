"""The canvas of a phantom: outlines in the patient's frame become layers, and attenuation becomes pixels.

Shapes: H, W height and width of the image; N points of an outline.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from xr2text.phantom.anatomy import MIDLINE, Disease, Opacity, by_side
from xr2text.phantom.text import SIDES

COARSE = 64  # side of the grid on which smooth fields are computed


class Canvas:
    """Rasterises shapes of the patient's frame: [H, W] layers in 0..1, antialiased by supersampling."""

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.height, self.width = height, width
        self.factor = 2 if max(height, width) < 400 else 1
        angle, scale = np.deg2rad(rng.normal(0, 1.3)), rng.uniform(0.95, 1.03)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.array([MIDLINE, 0.45])
        self.turn, self.origin = turn, centre + rng.normal(0, 0.01, 2) - turn @ centre

        self.x, self.y = self._grid(height, width)
        self.coarse = self._grid(COARSE, COARSE)

    def _grid(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The patient's x and y at the pixel centres, each [height, width] float32."""
        x = (np.arange(width) + 0.5) / width - self.origin[0]
        y = ((np.arange(height) + 0.5) / height - self.origin[1])[:, None]
        back = np.linalg.inv(self.turn)
        return tuple((row[0] * x + row[1] * y).astype(np.float32) for row in back)

    def fill(self, *groups: tuple[Iterable[np.ndarray], float]) -> np.ndarray:
        """Paints groups of (outlines, value 0..1), the later over the earlier -> [H, W] float32."""
        shapes = [(outline, int(255 * value)) for outlines, value in groups for outline in outlines]
        if not shapes:
            return np.zeros((self.height, self.width), np.float32)
        factor = self.factor
        scale = np.array([self.width, self.height]) * factor
        layer = np.zeros((self.height * factor, self.width * factor), np.uint8)
        points = np.concatenate([outline for outline, _ in shapes]) @ self.turn.T + self.origin
        points = np.rint((points * scale - 0.5) * 16).astype(np.int32)  # cv2 counts in sixteenths of a pixel
        begin, line = 0, cv2.LINE_AA if factor == 1 else cv2.LINE_8
        for outline, value in shapes:
            cv2.fillPoly(layer, [points[begin : begin + len(outline)]], value, line, 4)
            begin += len(outline)
        if factor > 1:
            layer = cv2.resize(layer, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return layer * np.float32(1 / 255)

    def soft(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """Blurs by a Gaussian of `sigma`, a fraction of the image; wide ones on a small copy, for speed."""
        if sigma > 0.012 and min(layer.shape) > COARSE:
            reduced = cv2.resize(layer, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
            return self.grow(cv2.GaussianBlur(reduced, (0, 0), sigma * COARSE))
        return cv2.GaussianBlur(layer, (0, 0), sigma * self.width, sigmaY=sigma * self.height)

    def grow(self, field: np.ndarray) -> np.ndarray:
        """Enlarges a coarse field to [H, W] float32."""
        return cv2.resize(field.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    def blob(self, x: float, y: float, radius_x: float, radius_y: float, hardness: float = 1) -> np.ndarray:
        """exp(-r^(2 hardness) / 2) of the normalised distance r, on a coarse grid for `grow` -> [64, 64]."""
        return _bell(self.coarse, (x, y), (radius_x, radius_y), hardness)

    def disc(self, centre: np.ndarray, radius: float) -> np.ndarray:
        """A disc with a soft edge -> [H, W]."""
        return _bell((self.x, self.y), centre, (radius, radius), 2)


def _bell(grid: tuple[np.ndarray, np.ndarray], centre, radii, hardness: float) -> np.ndarray:
    squared = sum(((axis - float(c)) / float(r)) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return np.exp(-0.5 * (squared if hardness == 1 else squared**hardness))


def opacities(canvas: Canvas, disease: Disease, seed: int) -> np.ndarray:
    """Consolidations and nodules [H, W], 0 for clear lung."""
    opaque = np.zeros((canvas.height, canvas.width), np.float32)
    for side, found in by_side(disease, "lung consolidation").items():
        opaque += 0.9 * (1 - np.exp(-1.6 * _patch(canvas, found, np.random.default_rng([seed, 3, SIDES.index(side)]))))
    for side, found in by_side(disease, "lung nodule").items():
        solid = np.random.default_rng([seed, 4, SIDES.index(side)]).uniform(0.5, 0.68)
        opaque += solid * canvas.disc(found.centre, 0.85 * found.radius)
    return opaque


def _patch(canvas: Canvas, found: Opacity, rng: np.random.Generator) -> np.ndarray:
    """A fuzzy patch: overlapping blobs around its centre, broken up by a coarse texture."""
    patch = np.zeros((COARSE, COARSE), np.float32)
    for _ in range(6):
        x, y = found.centre + rng.normal(0, 0.55, 2) * found.radius
        patch += rng.uniform(0.2, 0.42) * canvas.blob(x, y, *(found.radius * rng.uniform(0.45, 0.8, 2)))
    return canvas.grow(patch) * np.clip(1 + 0.28 * canvas.grow(rng.normal(size=(30, 30))), 0.3, 1.8)


def expose(canvas: Canvas, density: np.ndarray, rng: np.random.Generator, grain: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, uneven beam, lead marker and noise; `grain` alone depends on the size."""
    black, white, gamma = rng.uniform(-0.03, 0.05), rng.uniform(0.74, 0.84), rng.uniform(0.8, 1.15)
    tilt = rng.normal(0, 0.03, 2).tolist()
    beam = 1 - rng.uniform(0, 0.10) * ((canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2) * 2
    beam += tilt[0] * (canvas.x - 0.5) + tilt[1] * (canvas.y - 0.5)
    pixels = np.clip((density * beam - black) / (white - black), 0, None)
    pixels = pixels / (1 + np.clip(pixels - 0.75, 0, None))  # a film's shoulder: the abdomen does not burn out
    pixels = np.clip(pixels, 0, 1) ** gamma
    if rng.uniform() < 0.5:
        x, y = rng.uniform(0.9, 0.95), rng.uniform(0.03, 0.07)
        letter = np.array([(0, 0), (8, 0), (8, 30), (24, 30), (24, 37), (0, 37)]) / 1000 + np.array([x, y])
        pixels = np.maximum(pixels, 0.95 * canvas.fill(([letter], 1)))
    noise = grain.standard_normal(pixels.shape, dtype=np.float32)
    pixels += rng.uniform(0.008, 0.02) * noise
    return np.clip(pixels, 0, 1).astype(np.float32)
