"""Synthetic chest radiographs drawn from varying anatomy, with a true report.

A patient's outlines (anatomy.py) are rasterised (canvas.py), summed as attenuation, exposed, and described (text.py);
lateral.py sees the same patient from the side. The size only rasterises: the same seed is the same patient at every
size. Each finding has a random stream of its own, so the same seed with and without it differs by the finding alone.

Shapes: H, W height and width of the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from xr2text.imaging.radiograph import Radiograph
from xr2text.phantom.anatomy import (
    MIDLINE,
    Anatomy,
    Disease,
    body_outlines,
    by_side,
    draw_anatomy,
    draw_disease,
    mirrored,
    rib_paths,
    ribbons,
    spline,
    vessel_outlines,
)
from xr2text.phantom.canvas import COARSE, Canvas, expose, opacities
from xr2text.phantom.lateral import lateral_pixels
from xr2text.phantom.text import FINDINGS, write_report

NORMAL_RATIO = (0.38, 0.47)  # cardiothoracic ratio: the textbook limit is 0.50, the gap keeps the report true
ENLARGED_RATIO = (0.56, 0.65)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn patient and its findings. Its images are drawn on first use.

    Attributes:
        findings: what is drawn, a subset of FINDINGS.
        findings_text: the Findings section of its report.
        impression_text: the Impression.
        canvas, anatomy, disease, seed: what its images are drawn from.
    """

    findings: frozenset[str]
    findings_text: str
    impression_text: str
    canvas: Canvas = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    disease: Disease = field(repr=False)
    seed: int

    @cached_property
    def pixels(self) -> np.ndarray:
        """The frontal view [H, W] float32 in [0, 1], dense tissue bright; the patient's right is on the left."""
        return radiograph_pixels(self.canvas, self.anatomy, self.disease, self.seed)

    @property
    def radiograph(self) -> Radiograph:
        return Radiograph(self.pixels, "phantom", view="PA")

    @cached_property
    def lateral(self) -> Radiograph:
        """The same patient from the side, with the same findings, of the same size; see `phantom.lateral`."""
        pixels = lateral_pixels(self.canvas.height, self.canvas.width, self.anatomy, self.disease, self.seed)
        return Radiograph(pixels, "phantom", view="lateral")


def _random_findings(rng: np.random.Generator) -> frozenset[str]:
    """None in two of five patients, otherwise one to three; not fluid and air in the pleura of one side."""
    if rng.uniform() < 0.4:
        return frozenset()
    wanted = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    chosen: list[str] = []
    for i in rng.permutation(len(FINDINGS)):
        side, _, condition = FINDINGS[i].partition(" ")
        rival = {"pleural effusion": f"{side} pneumothorax", "pneumothorax": f"{side} pleural effusion"}.get(condition)
        if len(chosen) < wanted and rival not in chosen:
            chosen.append(FINDINGS[i])
    return frozenset(chosen)


def draw_phantom(seed: int, size: int | tuple[int, int] = 256, findings: Iterable[str] | None = None) -> Phantom:
    """Draws a patient.

    Args:
        seed: >= 0; decides the anatomy, the findings' shapes and the wording. Same arguments, same phantom.
        size: pixels of a square image, or (height, width); the anatomy fills either, stretched with it.
        findings: a subset of FINDINGS, drawn as given; None chooses from the seed, normal in about 40 %.

    Returns:
        The patient: report and radiographs.
    """
    height, width = (size, size) if isinstance(size, int) else size
    present = _random_findings(np.random.default_rng([seed, 6])) if findings is None else frozenset(findings)
    rng = np.random.default_rng([seed, 0])
    canvas = Canvas(height, width, rng)
    normal, enlarged = rng.uniform(*NORMAL_RATIO), rng.uniform(*ENLARGED_RATIO)
    anatomy = draw_anatomy(rng, enlarged if "cardiomegaly" in present else normal)
    disease = draw_disease(anatomy, present, seed)
    details = {finding: disease[finding].detail if finding in disease else "" for finding in present}
    text = write_report(details, np.random.default_rng([seed, 7]))
    return Phantom(present, *text, canvas, anatomy, disease, seed)


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
    """Sums the attenuation of everything drawn and exposes it -> [H, W] float32 in [0, 1]."""
    rng = np.random.default_rng([seed, 2])
    fluids, airs = (by_side(disease, name).values() for name in ("pleural effusion", "pneumothorax"))
    strips = [found.outline for found in airs]
    lines = [ribbons(found.line[None], np.full((1, len(found.line)), 0.0065))[0] for found in airs]
    body = canvas.fill((body_outlines(anatomy), 1))
    lung = canvas.fill(([found.outline for found in anatomy.lungs.values()], 1))
    heart, mediastinum = canvas.fill(([anatomy.heart], 1)), canvas.fill(([anatomy.mediastinum], 1))
    blocked = canvas.soft(1 - (1 - 0.86 * heart) * (1 - 0.9 * mediastinum), 0.004)
    fluid = canvas.soft(canvas.fill(([found.outline for found in fluids], 1)), 0.009)
    strip = canvas.fill((strips, 1))
    bones, spine = draw_bones(canvas, anatomy, rng)
    marking = _marking(canvas, anatomy, strips, strip, rng)
    veil, bubble = _soft_tissue(canvas, anatomy, rng)

    filled = 1 - (1 - 0.93 * fluid) * (1 - np.clip(opacities(canvas, disease, seed), 0, 0.95))
    near = canvas.soft(lung, 0.04)  # 0 far outside the lungs, 1/2 at their border, 1 deep inside
    air = lung * (1 - blocked) * (1 - filled) * (0.66 + 0.34 * np.clip(1.9 * near - 0.75, 0, 1))
    below = np.clip((canvas.y - 0.5) / 0.32, 0, 1) ** 2 * (1 - 0.85 * lung * (1 - blocked) * (1 - fluid))
    density = 0.24 + 0.17 * canvas.soft(body, 0.05) + 0.07 * anatomy.build + 0.24 * below + veil
    density += 0.22 * np.clip(near, 0, 0.5) * (1 - lung)  # the chest wall seen edge-on
    density += 0.07 * heart * (1 - below) + 0.09 * mediastinum * (1 - heart) * (1 - below)
    density += bones * (0.5 + 0.5 * lung * (1 - 0.8 * blocked)) + spine * (1 - 0.4 * heart - 0.2 * below)
    trachea = spline(mirrored(1, [(0.0, -0.05), (0.002, 0.15), (-0.004, 0.33)]), closed=False)[None]
    windpipe = canvas.fill((ribbons(trachea, np.full(trachea.shape[:2], 0.034)), 1))
    density -= 0.09 * canvas.soft(windpipe, 0.005) + bubble * (1 - lung)
    density -= (0.37 + 0.04 * strip) * air
    density += marking * lung * (1 - blocked) * (1 - 0.8 * filled)
    density += 0.15 * canvas.soft(canvas.fill((lines, 1)), 0.0015) * lung * (1 - blocked)
    density *= body
    return expose(canvas, density, rng, np.random.default_rng([seed, 5, canvas.height, canvas.width]))


def _marking(canvas: Canvas, anatomy: Anatomy, strips: list, strip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of vessels, hila and mottle in the lungs [H, W]; pleural air has neither vessels nor mottle."""
    trees = np.concatenate([vessel_outlines(found, rng) for found in anatomy.lungs.values()])
    vessels = canvas.fill((trees, 1), (strips, 0))
    hila = sum(
        canvas.blob(MIDLINE + found.sign * rng.uniform(0.08, 0.10), rng.uniform(0.385, 0.42), 0.028, 0.055)
        for found in anatomy.lungs.values()
    )
    mottle = canvas.grow(rng.normal(size=(72, 72)))
    return 0.13 * canvas.soft(vessels, 0.003) + canvas.grow(0.13 * hila) + 0.012 * mottle * (1 - strip)


def _soft_tissue(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What veils every patient unevenly, the breasts and the lower chest wall; and the stomach's air. Each [H, W]."""
    veil = rng.uniform(0, 0.08) * sum(canvas.blob(MIDLINE + sign * 0.21, 0.66, 0.13, 0.13, 2) for sign in (-1, 1))
    uneven = canvas.grow(veil + 0.012 * cv2.resize(rng.normal(size=(5, 5)), (COARSE, COARSE)))
    bubble = rng.uniform(0, 0.2) * canvas.blob(
        MIDLINE + rng.uniform(0.16, 0.25), anatomy.lungs["left"].dome[:, 1].min() + rng.uniform(0.09, 0.13),
        rng.uniform(0.03, 0.06), rng.uniform(0.015, 0.035), 2,
    )  # fmt: skip
    return uneven, canvas.grow(bubble)
