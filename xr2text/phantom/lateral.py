"""The lateral view of a phantom: the same patient from the side, with the same findings.

A left lateral as it is hung by convention: the patient faces the left of the picture, so x is the depth from front to
back; y is that of the frontal view. Both lungs lie upon each other.

Shapes: H, W height and width of the image; N points of an outline.
"""

from dataclasses import replace

import numpy as np

from xr2text.phantom.anatomy import (
    Anatomy,
    Disease,
    Lung,
    Opacity,
    Pleural,
    by_side,
    ribbons,
    spline,
    vessel_outlines,
)
from xr2text.phantom.canvas import Canvas, expose, opacities
from xr2text.phantom.text import FINDINGS

SPINE = np.array([(0.60, -0.05), (0.67, 0.12), (0.73, 0.28), (0.755, 0.45), (0.755, 0.6), (0.73, 0.75), (0.70, 0.9),
                  (0.685, 1.05)])  # fmt: skip
BACK = 0.045  # how far the lungs reach behind the axis of the spine


def lateral_pixels(height: int, width: int, anatomy: Anatomy, disease: Disease, seed: int) -> np.ndarray:
    """Sums the attenuation of everything drawn and exposes it -> [H, W] float32 in [0, 1]."""
    rng = np.random.default_rng([seed, 8])
    canvas = Canvas(height, width, rng)
    deep = rng.uniform(0.95, 1.06)
    lungs = {side: _lung(lung, deep, rng) for side, lung in anatomy.lungs.items()}
    fields = {side: canvas.soft(canvas.fill(([outline], 1)), 0.005) for side, outline in lungs.items()}
    both = sum(fields.values())  # 2 where the lungs lie upon each other
    bones, marking, vascular = _bones(canvas, lungs["right"], rng), _marking(canvas, anatomy, rng), _vessels(canvas)
    body = canvas.fill(([_body(anatomy, rng)], 1))
    heart = canvas.soft(canvas.fill(([_heart(anatomy, lungs["left"], rng)], 1)), 0.011)
    bubble = canvas.grow(rng.uniform(0, 0.2) * canvas.blob(
        rng.uniform(0.33, 0.45), anatomy.lungs["left"].dome[:, 1].min() + rng.uniform(0.09, 0.13), 0.06, 0.025, 2,
    ))  # fmt: skip

    fluid, faint = np.zeros_like(both), np.zeros_like(both)
    for side, found in by_side(disease, "pleural effusion").items():
        fluid += canvas.soft(canvas.fill(([_fluid(anatomy.lungs[side], lungs[side], found)], 1)), 0.009) * fields[side]
    for side, found in by_side(disease, "pneumothorax").items():
        line = _pleural_line(lungs[side], found)
        faint += 0.05 * canvas.soft(canvas.fill((ribbons(line[None], np.full((1, len(line)), 0.006)), 1)), 0.0015)
    filled = np.clip(opacities(canvas, _opacities_from_the_side(disease, lungs, seed), seed), 0, 0.95)

    near = canvas.soft(both, 0.035)
    air = np.clip(both - fluid, 0, 2) * (1 - 0.45 * heart) * (0.6 + 0.4 * np.clip(near - 0.6, 0, 1))
    below = np.clip((canvas.y - 0.5) / 0.3, 0, 1) ** 2 * (1 - 0.42 * np.clip(both - fluid, 0, 2))
    above = np.clip((0.42 - canvas.y) / 0.4, 0, 1) * np.exp(-(((canvas.x - 0.52) / 0.3) ** 2))  # shoulders and arms
    density = 0.25 + 0.2 * canvas.soft(body, 0.05) + 0.06 * anatomy.build + 0.2 * below + 0.34 * above
    density += 0.16 * np.clip(near, 0, 0.5) * (1 - np.clip(both, 0, 1)) + 0.08 * heart * (1 - below)
    density += bones - bubble * (1 - np.clip(both, 0, 1))
    density += vascular + (marking + faint) * np.clip(both, 0, 1) * (1 - 0.5 * heart)
    density += 0.24 * filled * np.clip(both, 0, 1) - 0.185 * air
    return expose(canvas, density * body, rng, np.random.default_rng([seed, 9, height, width]))


def _lung(lung: Lung, deep: float, rng: np.random.Generator) -> np.ndarray:
    """Outline [N, 2] from the apex down the front, over the dome to the posterior angle, and up the back."""
    top, dome, angle = lung.outline[:, 1].min(), lung.dome[:, 1].min(), lung.tip[1] + 0.07
    rise = rng.normal(0, 0.006)
    front = np.array([(0.60, top), (0.50, 0.13), (0.385, 0.23), (0.29, 0.36), (0.235, 0.49), (0.22, 0.6),
                      (0.225, dome + 0.035), (0.225, dome + 0.035)])  # fmt: skip
    base = np.array([(0.32, dome + rise), (0.45, dome), (0.57, dome + 0.04), (0.66, dome + 0.11), (0.715, angle),
                     (0.715, angle)])  # fmt: skip
    y = np.array([angle - 0.07, 0.62, 0.47, 0.33, 0.2, 0.13])
    back = np.stack([np.interp(y, SPINE[:, 1], SPINE[:, 0]) + BACK, y], -1)
    points = np.concatenate([front, base, back])
    points[:, 0] = 0.5 + deep * (points[:, 0] - 0.5) + rng.normal(0, 0.004)
    return spline(points)


def _walls(outline: np.ndarray, y: float) -> tuple[float, float]:
    """Where a lung begins in front and ends at the back, at a given height above its dome."""
    x = outline[np.abs(outline[:, 1] - y) < 0.03, 0]
    return x.min(), x.max()


def _opacities_from_the_side(disease: Disease, lungs: dict[str, np.ndarray], seed: int) -> Disease:
    """Consolidations and nodules at their height, each at a depth of a random stream of its own."""
    moved = {}
    for finding, found in disease.items():
        if isinstance(found, Opacity):
            front, back = _walls(lungs[finding.split()[0]], found.centre[1])
            share = np.random.default_rng([seed, 8, FINDINGS.index(finding)]).uniform()
            room = found.radius + 0.02
            depth = front + room + share * (back - BACK - front - 2 * room)
            moved[finding] = replace(found, centre=np.array([depth, found.centre[1]]))
    return moved


def _fluid(lung: Lung, outline: np.ndarray, found: Pleural) -> np.ndarray:
    """Fluid as high as in the frontal view, wider than the lung that clips it; it climbs at the back."""
    high, low = lung.tip[1] - found.outline[:, 1].min(), lung.tip[1] - found.outline[:-2, 1].max()
    t = np.linspace(0, 1, 20)
    back = outline[:, 0].max() + 0.02
    top = lung.tip[1] - low - (high - low) * (np.exp(-t / 0.22) + 0.4 * np.exp((t - 1) / 0.12))
    x = back - t * (back - outline[:, 0].min())
    return np.concatenate([np.stack([x, top], -1), [[x[-1], 1.0], [x[0], 1.0]]])


def _pleural_line(outline: np.ndarray, found: Pleural) -> np.ndarray:
    """The apex of a fallen lung [N, 2], hardly seen from the side, where both lungs lie upon each other."""
    depth = found.line[:, 1].min() - outline[:, 1].min()
    t = np.linspace(0, 1, 16)
    front, back = _walls(outline, outline[:, 1].min() + depth + 0.04)
    return np.stack([front + t * (back - front), outline[:, 1].min() + depth + 0.12 * (2 * t - 1) ** 2], -1)


def _heart(anatomy: Anatomy, lung: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Outline [N, 2] of the heart on sternum and diaphragm, at its height in the frontal view; a wide one is deep."""
    width, (top, bottom) = np.ptp(anatomy.heart[:, 0]), (anatomy.heart[:, 1].min(), anatomy.heart[:, 1].max())
    shape = spline(np.array([
        (-0.02, 0.55), (0.1, 0.32), (0.36, 0.12), (0.62, -0.06), (0.82, -0.06), (0.94, 0.16), (1.0, 0.45),
        (0.97, 0.75), (0.85, 1.02), (0.5, 1.06), (0.15, 1.02), (-0.04, 0.85),
    ]) + rng.normal(0, 0.012, (12, 2)))  # fmt: skip
    front = lung[:, 0].min() + 0.015
    return np.array([front, top - 0.02]) + shape * [0.31 + 1.0 * (width - 0.33), bottom - top]


def _body(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Neck, raised arms, chest, breast and back [N, 2]."""
    front, back, breast = 0.155 - 0.05 * anatomy.build, 0.875 + 0.03 * anatomy.build, rng.uniform(0, 0.05)
    return spline(np.array([
        (0.30, -0.12), (0.12, -0.08), (0.02, 0.0), (0.10, 0.10), (0.22, 0.2), (front + 0.05, 0.34),
        (front - 0.01, 0.48), (front - breast, 0.58), (front + 0.01, 0.67), (front - 0.01, 0.85), (front - 0.02, 1.12),
        (back - 0.04, 1.12), (back - 0.03, 0.85), (back, 0.62), (back + 0.02, 0.4), (back - 0.01, 0.22),
        (back - 0.07, 0.1), (back - 0.14, 0.02), (back - 0.16, -0.12),
    ]))  # fmt: skip


def _bones(canvas: Canvas, lung: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of vertebrae, ribs and sternum [H, W]."""
    y = np.arange(-0.02, 1.03, 0.056)[:, None] + np.array([0.007, 0.048])  # [vertebrae, top and bottom]
    x = np.interp(y, SPINE[:, 1], SPINE[:, 0])
    bodies = np.stack([x, y], -1)
    widths = 0.062 + 0.02 * y
    processes = ribbons(np.add(bodies, [0.075, 0.025]), np.full(y.shape, 0.03))
    axis = spline(SPINE, closed=False)[None]
    column = canvas.fill((ribbons(axis, 0.06 + 0.02 * axis[..., 1]), 0.55), (ribbons(bodies, widths), 1),
                         (ribbons(bodies, widths * 0.75), 0.75), (processes, 0.6))  # fmt: skip
    t, ribs = np.linspace(0, 1, 14), []
    for shift in (0, rng.uniform(0.01, 0.03)):  # the ribs of both sides do not lie quite upon each other
        start = np.arange(0.1, 0.72, 0.068)[:, None] + shift
        end = np.interp(start + 0.16, lung[:64, 1], lung[:64, 0])
        back = np.interp(start, SPINE[:, 1], SPINE[:, 0]) + BACK
        ribs.append(np.stack([back + (end - back) * t, start + 0.2 * t**1.2 - 0.02 * np.sin(np.pi * t)], -1))
    ribs = np.concatenate(ribs)
    sternum = spline(np.array([(0.35, 0.24), (0.26, 0.36), (0.205, 0.49), (0.19, 0.60)]), closed=False)[None]
    bone = ribbons(sternum, np.full(sternum.shape[:2], 0.03))
    return (0.12 * column + 0.035 * canvas.fill((ribbons(ribs, np.full(ribs.shape[:2], 0.018)), 1))
            + 0.09 * canvas.soft(canvas.fill((bone, 1)), 0.003))  # fmt: skip


def _marking(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Attenuation of the vessels from the hila forwards and backwards, and of mottle [H, W]."""
    trees = np.concatenate([vessel_outlines(found, rng) for found in anatomy.lungs.values()])
    vessels = canvas.fill((trees + 0.02, 1))
    return 0.09 * canvas.soft(vessels, 0.003) + 0.012 * canvas.grow(rng.normal(size=(72, 72)))


def _vessels(canvas: Canvas) -> np.ndarray:
    """Attenuation of hila and aorta, less the air of trachea and main bronchus [H, W]."""
    aorta = spline(np.array([(0.44, 0.44), (0.45, 0.33), (0.53, 0.275), (0.62, 0.31), (0.67, 0.42), (0.69, 0.6),
                             (0.69, 0.75)]), closed=False)[None]  # fmt: skip
    arch = canvas.soft(canvas.fill((ribbons(aorta, np.full(aorta.shape[:2], 0.06)), 1)), 0.01)
    trachea = spline(np.array([(0.49, -0.05), (0.515, 0.12), (0.545, 0.28), (0.555, 0.37)]), closed=False)[None]
    windpipe = canvas.soft(canvas.fill((ribbons(trachea, np.full(trachea.shape[:2], 0.04)), 1)), 0.005)
    hila = canvas.grow(0.13 * canvas.blob(0.54, 0.43, 0.035, 0.05))
    return 0.045 * arch + hila - 0.1 * windpipe - 0.1 * canvas.disc(np.array([0.56, 0.405]), 0.016)
