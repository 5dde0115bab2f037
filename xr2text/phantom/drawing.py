"""Rasterise a phantom's patient: attenuation summed structure by structure and exposed, and the region masks.

H x W is the picture. Shapes arrive in the patient's frame (see phantom_anatomy).
"""

from collections.abc import Iterable

import cv2
import numpy as np

from xr2text.anatomy import REGION_NAMES
from xr2text.phantom.anatomy import (
    MIDLINE,
    Anatomy,
    Disease,
    Opacity,
    body_outlines,
    mirrored,
    rib_paths,
    ribbons,
    spline,
    vessel_outlines,
)

COARSE = 64  # side of the grid on which smooth fields are computed
SIDE_NUMBER = {"right": 0, "left": 1}


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

    def fill(self, *groups: tuple[Iterable[np.ndarray], float], fine: bool = True) -> np.ndarray:
        """Paint groups of (outlines, value 0..1), the later over the earlier -> [H, W] float32.

        `fine` antialiases; without it a pixel is in or out, which is what a mask needs.
        """
        shapes = [(outline, int(255 * value)) for outlines, value in groups for outline in outlines]
        if not shapes:
            return np.zeros((self.height, self.width), np.float32)
        factor = self.factor if fine else 1
        scale = np.array([self.width, self.height]) * factor
        layer = np.zeros((self.height * factor, self.width * factor), np.uint8)
        points = np.concatenate([outline for outline, _ in shapes]) @ self.turn.T + self.origin
        points = np.rint((points * scale - 0.5) * 16).astype(np.int32)  # cv2 counts in sixteenths of a pixel
        begin, line = 0, cv2.LINE_AA if factor == 1 and fine else cv2.LINE_8
        for outline, value in shapes:
            cv2.fillPoly(layer, [points[begin : begin + len(outline)]], value, line, 4)
            begin += len(outline)
        if factor > 1:
            layer = cv2.resize(layer, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return layer * np.float32(1 / 255)

    def soft(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """Blur by a Gaussian of `sigma`, a fraction of the picture; wide ones on a small copy, for speed."""
        if sigma > 0.012 and min(layer.shape) > COARSE:
            reduced = cv2.resize(layer, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
            return self.grow(cv2.GaussianBlur(reduced, (0, 0), sigma * COARSE))
        return cv2.GaussianBlur(layer, (0, 0), sigma * self.width, sigmaY=sigma * self.height)

    def grow(self, field: np.ndarray) -> np.ndarray:
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


def draw_bones(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation of ribs, clavicles and shoulders, and of the spine, each [H, W]."""
    posterior, anterior, scapulae, girdle, marrow = [], [], [], [], []
    for lung in anatomy.lungs.values():
        back, back_width, front, front_width = rib_paths(lung, rng)
        posterior.append((ribbons(back, back_width), ribbons(back, back_width * 0.55)))
        anterior.append(ribbons(front, front_width))
        lift = rng.normal(0, 0.01)
        clavicle = [(0.03, 0.185), (0.12, 0.165), (0.22, 0.135 + lift), (0.31, 0.115 + lift), (0.40, 0.125)]
        clavicle = spline(mirrored(lung.sign, clavicle), closed=False)[None]
        width = np.interp(np.linspace(0, 1, clavicle.shape[1]), [0, 0.15, 0.6, 1], [0.034, 0.024, 0.021, 0.03])[None]
        blade = [(0.34, 0.165), (0.40, 0.15), (0.455, 0.175), (0.42, 0.26), (0.405, 0.38), (0.385, 0.43), (0.36, 0.33)]
        scapulae.append(spline(mirrored(lung.sign, blade)))
        humerus = mirrored(lung.sign, [(0.47, 0.2), (0.51, 0.35), (0.55, 0.6)])[None]
        head = mirrored(lung.sign, [(0.43, 0.2), (0.455, 0.165), (0.495, 0.185), (0.495, 0.235), (0.45, 0.24)])
        girdle += [spline(head), *ribbons(humerus, np.full((1, 3), 0.042)), *ribbons(clavicle, width)]
        marrow += [*ribbons(clavicle, width * 0.5)]
    outer, core = (np.concatenate(part) for part in zip(*posterior, strict=True))
    ribs = 0.095 * canvas.fill((outer, 1), (core, 0.6)) + 0.045 * canvas.fill((np.concatenate(anterior), 1))
    ribs += 0.11 * canvas.fill((scapulae, 0.4), (girdle, 1), (marrow, 0.75))

    y = np.arange(-0.02, 1.03, 0.054)[:, None] + np.array([0.006, 0.048])  # [vertebrae, top and bottom]
    x = np.interp(y, anatomy.spine[:, 1], anatomy.spine[:, 0])
    widths = 0.062 + 0.026 * y
    bodies = ribbons(np.stack([x, y], -1), widths)
    middle = np.stack([x.mean(1), y.mean(1)], -1)[:, None]
    ring = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 9)[:-1]), np.sin(a)], -1)
    pedicles = [middle + side * np.stack([widths.mean(1) * 0.32, 0 * y[:, 0]], -1)[:, None] + ring * [0.006, 0.009]
                for side in (-1, 1)]  # fmt: skip
    process = middle + [0, 0.018] + ring * [0.005, 0.013]
    column = ribbons(anatomy.spine[None], 0.055 + 0.026 * anatomy.spine[None, :, 1])
    spine = canvas.fill((column, 0.55), (bodies, 1), (ribbons(np.stack([x, y], -1), widths * 0.8), 0.85),
                        ([*pedicles[0], *pedicles[1], *process], 1))  # fmt: skip
    return ribs, 0.13 * spine


def radiograph_pixels(canvas: Canvas, anatomy: Anatomy, disease: Disease, seed: int) -> np.ndarray:
    """Sum the attenuation of everything drawn and expose it -> [H, W] float32 in [0, 1]."""
    rng = np.random.default_rng([seed, 2])
    strips = [found.strip for found in disease.pneumothoraces.values()]
    lines = [ribbons(found.line[None], np.full((1, len(found.line)), 0.0065))[0]
             for found in disease.pneumothoraces.values()]  # fmt: skip
    body = canvas.fill((body_outlines(anatomy), 1))
    lung = canvas.fill(([found.outline for found in anatomy.lungs.values()], 1))
    heart, mediastinum = canvas.fill(([anatomy.heart], 1)), canvas.fill(([anatomy.mediastinum], 1))
    blocked = canvas.soft(1 - (1 - 0.86 * heart) * (1 - 0.9 * mediastinum), 0.004)
    fluid = canvas.soft(canvas.fill(([found.outline for found in disease.effusions.values()], 1)), 0.009)
    bones, spine = draw_bones(canvas, anatomy, rng)
    trees = np.concatenate([vessel_outlines(found, rng) for found in anatomy.lungs.values()])
    vessels = canvas.fill((trees, 1), (strips, 0))
    strip = canvas.fill((strips, 1))
    hila = sum(
        canvas.blob(MIDLINE + found.sign * rng.uniform(0.08, 0.10), rng.uniform(0.385, 0.42), 0.028, 0.055)
        for found in anatomy.lungs.values()
    )
    mottle = canvas.grow(rng.normal(size=(72, 72)))
    # The breasts and the lower chest wall veil the bases of every patient to some degree.
    veil = rng.uniform(0, 0.08) * sum(canvas.blob(MIDLINE + sign * 0.21, 0.66, 0.13, 0.13, 2) for sign in (-1, 1))
    uneven = canvas.grow(veil + 0.012 * cv2.resize(rng.normal(size=(5, 5)), (COARSE, COARSE)))
    bubble = rng.uniform(0, 0.2) * canvas.blob(
        MIDLINE + rng.uniform(0.16, 0.25), anatomy.lungs["left"].dome[:, 1].min() + rng.uniform(0.09, 0.13),
        rng.uniform(0.03, 0.06), rng.uniform(0.015, 0.035), 2,
    )  # fmt: skip

    opaque = np.zeros_like(lung)
    for side, found in disease.consolidations.items():
        opaque += 0.9 * (1 - np.exp(-1.6 * _patch(canvas, found, np.random.default_rng([seed, 3, SIDE_NUMBER[side]]))))
    for side, found in disease.nodules.items():
        solid = np.random.default_rng([seed, 4, SIDE_NUMBER[side]]).uniform(0.5, 0.68)
        opaque += solid * canvas.disc(found.centre, 0.85 * found.radius)

    filled = 1 - (1 - 0.93 * fluid) * (1 - np.clip(opaque, 0, 0.95))
    near = canvas.soft(lung, 0.04)  # 0 far outside the lungs, 1/2 at their border, 1 deep inside
    air = lung * (1 - blocked) * (1 - filled) * (0.66 + 0.34 * np.clip(1.9 * near - 0.75, 0, 1))
    below = np.clip((canvas.y - 0.5) / 0.32, 0, 1) ** 2 * (1 - 0.85 * lung * (1 - blocked) * (1 - fluid))
    density = 0.24 + 0.17 * canvas.soft(body, 0.05) + 0.07 * anatomy.build + 0.24 * below + uneven
    density += 0.22 * np.clip(near, 0, 0.5) * (1 - lung)  # the chest wall seen edge-on
    density += 0.07 * heart * (1 - below) + 0.09 * mediastinum * (1 - heart) * (1 - below)
    density += bones * (0.5 + 0.5 * lung * (1 - 0.8 * blocked)) + spine * (1 - 0.4 * heart - 0.2 * below)
    trachea = spline(mirrored(1, [(0.0, -0.05), (0.002, 0.15), (-0.004, 0.33)]), closed=False)[None]
    windpipe = canvas.fill((ribbons(trachea, np.full(trachea.shape[:2], 0.034)), 1))
    density -= 0.09 * canvas.soft(windpipe, 0.005) + canvas.grow(bubble) * (1 - lung)
    density -= (0.37 + 0.04 * strip) * air
    marking = 0.13 * canvas.soft(vessels, 0.003) + canvas.grow(0.13 * hila) + 0.012 * mottle * (1 - strip)
    density += marking * lung * (1 - blocked) * (1 - 0.8 * filled)
    density += 0.15 * canvas.soft(canvas.fill((lines, 1)), 0.0015) * lung * (1 - blocked)
    density *= body
    return _expose(canvas, density, rng, np.random.default_rng([seed, 5, canvas.height, canvas.width]))


def _patch(canvas: Canvas, found: Opacity, rng: np.random.Generator) -> np.ndarray:
    """A fuzzy patch: overlapping blobs around its centre, broken up by a coarse texture."""
    patch = np.zeros((COARSE, COARSE), np.float32)
    for _ in range(6):
        x, y = found.centre + rng.normal(0, 0.55, 2) * found.radius
        patch += rng.uniform(0.2, 0.42) * canvas.blob(x, y, *(found.radius * rng.uniform(0.45, 0.8, 2)))
    return canvas.grow(patch) * np.clip(1 + 0.28 * canvas.grow(rng.normal(size=(30, 30))), 0.3, 1.8)


def _expose(canvas: Canvas, density: np.ndarray, rng: np.random.Generator, grain: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, uneven beam, lead marker and noise; `grain` alone depends on the size."""
    black, white, gamma = rng.uniform(-0.03, 0.05), rng.uniform(0.74, 0.84), rng.uniform(0.8, 1.15)
    tilt = rng.normal(0, 0.03, 2).tolist()
    beam = 1 - rng.uniform(0, 0.10) * ((canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2) * 2
    beam += tilt[0] * (canvas.x - 0.5) + tilt[1] * (canvas.y - 0.5)
    pixels = np.clip((density * beam - black) / (white - black), 0, None)
    pixels = pixels / (1 + np.clip(pixels - 0.75, 0, None))  # a shoulder, as of film: the abdomen does not burn out
    pixels = np.clip(pixels, 0, 1) ** gamma
    if rng.uniform() < 0.5:
        x, y = rng.uniform(0.9, 0.95), rng.uniform(0.03, 0.07)
        letter = np.array([(0, 0), (8, 0), (8, 30), (24, 30), (24, 37), (0, 37)]) / 1000 + np.array([x, y])
        pixels = np.maximum(pixels, 0.95 * canvas.fill(([letter], 1)))
    noise = grain.standard_normal(pixels.shape, dtype=np.float32)
    pixels += rng.uniform(0.008, 0.02) * noise
    return np.clip(pixels, 0, 1).astype(np.float32)


def region_masks(canvas: Canvas, anatomy: Anatomy) -> np.ndarray:
    """Contours of the seven regions -> [7, H, W] bool in the order of anatomy.REGIONS."""
    right, left = anatomy.lungs["right"], anatomy.lungs["left"]
    heart = canvas.fill(([anatomy.heart], 1), fine=False) > 0
    domes = np.concatenate([right.dome, left.dome[::-1]])
    diaphragm = np.concatenate([domes, np.add(domes, [0, 0.14])[::-1]])
    circle = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 24)), np.sin(a)], -1) * [0.05, 0.065]
    angles = [lung.tip - [lung.sign * 0.025, 0.035] + circle for lung in (right, left)]
    width = 0.075 + 0.026 * anatomy.spine[:, 1]
    inner = (anatomy.spine[:, 1] > 0.02) & (anatomy.spine[:, 1] < 0.98)
    shapes = {
        "right lung": [right.outline],
        "left lung": [left.outline],
        "heart": [anatomy.heart],
        "mediastinum": [anatomy.mediastinum],
        "spine": ribbons(anatomy.spine[None, inner], width[None, inner]),
        "diaphragm": [diaphragm],
        "costophrenic angles": angles,
    }
    masks = {name: canvas.fill((outlines, 1), fine=False) > 0 for name, outlines in shapes.items()}
    for name in ("right lung", "left lung", "mediastinum"):
        masks[name] &= ~heart
    return np.stack([masks[name] for name in REGION_NAMES])
