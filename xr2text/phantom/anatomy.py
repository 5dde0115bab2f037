"""The patient of a phantom: outlines of the chest's structures, and of what disease adds to them.

Everything is placed in the patient's frame: x and y in fractions of the image's width and height, the sides mirrored
about the midline by a distance from it.

Shapes: N points of an outline; n paths of m points each.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from xr2text.phantom.text import FINDINGS

MIDLINE = 0.515
SIGN = {"right": -1, "left": 1}


@dataclass(frozen=True, eq=False)
class Lung:
    """One lung: `sign` is -1 for the right one and 1 for the left one."""

    sign: int
    outline: np.ndarray  # [N, 2] closed
    lateral: np.ndarray  # [N, 2] from the apex along the chest wall to the costophrenic angle
    dome: np.ndarray  # [N, 2] from the costophrenic angle to the cardiophrenic one

    @property
    def tip(self) -> np.ndarray:
        return self.lateral[-1]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The outlines of a healthy chest."""

    lungs: dict[str, Lung]  # by side
    heart: np.ndarray  # [N, 2]
    mediastinum: np.ndarray  # [N, 2]
    spine: np.ndarray  # [N, 2] its axis from top to bottom
    build: float  # 0 slim .. 1 stout


def spline(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve through control points [N, 2]; a point given twice makes a corner."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.arange(steps)[:, None] / steps
    basis = np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1
    )  # [steps, 4]
    segments = np.stack([p[i : len(p) - 3 + i] for i in range(4)])  # [4, segments, 2]
    curve = 0.5 * np.einsum("tk,ksc->stc", basis, segments).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def mirrored(sign: int, half: Iterable[tuple[float, float]]) -> np.ndarray:
    """(distance from the midline, y) on one side of the patient -> (x, y)."""
    points = np.array(half, np.float64)
    points[:, 0] = MIDLINE + sign * points[:, 0]
    return points


def ribbons(paths: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Bands of the given widths [n, m] along paths [n, m, 2] -> outlines [n, 2m, 2]."""
    along = np.diff(paths, axis=1)
    along = np.concatenate([along[:, :1], along[:, 1:] + along[:, :-1], along[:, -1:]], axis=1)
    normal = np.stack([-along[..., 1], along[..., 0]], -1) / (np.linalg.norm(along, axis=-1, keepdims=True) + 1e-9)
    offset = normal * widths[..., None] / 2
    return np.concatenate([paths + offset, (paths - offset)[:, ::-1]], axis=1)


def draw_anatomy(rng: np.random.Generator, ratio: float) -> Anatomy:
    """A random patient with a cardiothoracic ratio of `ratio`."""
    wide, base = rng.uniform(0.94, 1.05), rng.normal(0, 0.012)
    lungs = {}
    for side, sign in SIGN.items():
        low = base + (0.022 if side == "left" else 0) + rng.normal(0, 0.004)
        flat = rng.uniform(0, 0.02)
        half = np.array([
            (0.165, 0.085), (0.25, 0.125), (0.325, 0.24), (0.365, 0.40), (0.382, 0.58), (0.387, 0.70 + low),
            (0.388, 0.785 + low), (0.388, 0.785 + low), (0.335, 0.715 + low + flat), (0.235, 0.675 + low + flat),
            (0.14, 0.685 + low), (0.085, 0.71 + low), (0.085, 0.71 + low), (0.075, 0.6), (0.07, 0.42),
            (0.06, 0.25), (0.08, 0.13),
        ])  # fmt: skip
        jitter = rng.normal(0, 0.005, half.shape)
        jitter[[5, 6, 7, 11, 12]] = 0
        half += jitter
        half[1:9, 0] *= wide
        outline = spline(mirrored(sign, half))
        lungs[side] = Lung(sign, outline, outline[: 6 * 8 + 1], outline[7 * 8 : 11 * 8 + 1])

    u_v = np.array([
        (0.34, 0.0), (0.56, 0.0), (0.70, 0.12), (0.84, 0.36), (0.95, 0.62), (1.0, 0.82), (0.93, 0.96), (0.7, 1.02),
        (0.35, 1.0), (0.10, 0.9), (0.0, 0.58), (0.06, 0.30), (0.2, 0.1),
    ]) + rng.normal(0, 0.012, (13, 2))  # fmt: skip
    heart = spline(u_v)
    heart = (heart - heart.min(0)) / np.ptp(heart, axis=0)
    walls = [lungs["left"].lateral[:, 0].max(), lungs["right"].lateral[:, 0].min()]
    width = ratio * (walls[0] - walls[1])
    bottom = lungs["left"].dome[:, 1].min() + 0.07
    height = rng.uniform(0.27, 0.30) + 0.25 * (width - 0.33)
    left_share = rng.uniform(0.66, 0.72)
    heart = heart * [width, height] + [MIDLINE - (1 - left_share) * width, bottom - height]

    knob, knob_y = rng.uniform(0.075, 0.095), rng.uniform(0.27, 0.30)
    mediastinum = np.concatenate([
        mirrored(-1, [(0.052, 0.05), (0.05, 0.13), (0.062, 0.24), (0.07, 0.34), (0.082, 0.42), (0.09, 0.56)]),
        mirrored(1, [(0.09, 0.56), (0.098, 0.47), (0.086, 0.42), (0.062, knob_y + 0.065), (knob, knob_y + 0.015),
                      (knob - 0.01, knob_y - 0.025), (0.052, knob_y - 0.07), (0.048, 0.12), (0.05, 0.05)]),
    ])  # fmt: skip
    mediastinum[:, 0] += rng.normal(0, 0.004, len(mediastinum))
    y = np.linspace(-0.05, 1.05, 24)
    bend = rng.normal(0, 0.007) * np.sin(2 * np.pi * (y + rng.uniform()))
    spine = np.stack([MIDLINE + bend, y], -1)
    return Anatomy(lungs, heart, spline(mediastinum), spine, rng.uniform())


def body_outlines(anatomy: Anatomy) -> list[np.ndarray]:
    """The two halves of neck, shoulders, arms and trunk, each [N, 2]."""
    hip = 0.445 + 0.075 * anatomy.build
    shapes = []
    for sign in SIGN.values():
        half = [(-0.01, -0.1), (0.10, -0.1), (0.105, 0.01), (0.15, 0.06), (0.28, 0.10), (0.40, 0.135), (0.49, 0.2),
                (0.56, 0.34), (0.62, 0.7), (0.54, 0.72), (0.49, 0.50), (hip - 0.01, 0.40), (hip, 0.55), (hip, 0.8),
                (hip + 0.02, 1.1), (-0.01, 1.1)]  # fmt: skip
        shapes.append(spline(mirrored(sign, half), steps=4))
    return shapes


def rib_paths(lung: Lung, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Posterior and anterior ribs of one side: paths [n, m, 2] and widths [n, m] of each."""
    first, pitch = 0.095 + rng.normal(0, 0.008), rng.uniform(0.066, 0.071)
    wall_y, wall_d = lung.lateral[:, 1], np.abs(lung.lateral[:, 0] - MIDLINE) + 0.008
    i, t = np.arange(10)[:, None], np.linspace(0, 1, 14)[None]
    start = first + pitch * i
    drop = 0.055 + 0.012 * i
    wall = np.interp(start + drop, wall_y, wall_d)
    distance = 0.035 + (wall - 0.035) * np.sin(np.pi / 2 * t)
    y = start - 0.018 * np.sin(np.pi * t) + drop * (1 - np.cos(np.pi / 2 * t)) ** 1.3
    posterior = np.stack([MIDLINE + lung.sign * distance, y], -1)
    thick = rng.uniform(0.021, 0.025)

    i = np.arange(7)[:, None]
    begin = (first + pitch * i + 0.055 + 0.012 * i)[:7] + 0.012
    wall = np.interp(begin, wall_y, wall_d)
    inner = 0.13 + 0.018 * i
    distance = inner + (wall - inner) * np.cos(np.pi / 2 * t) ** 0.8
    y = begin + (0.05 + 0.012 * i) * np.sin(np.pi / 2 * t) ** 1.5 * (0.6 + 0.6 * t)
    anterior = np.stack([MIDLINE + lung.sign * distance, y], -1)
    return (posterior, np.full(posterior.shape[:2], thick), anterior,
            np.full(anterior.shape[:2], thick) * (1 + 0.25 * t))  # fmt: skip


def vessel_outlines(lung: Lung, rng: np.random.Generator) -> np.ndarray:
    """Outlines [n, 2m, 2] of the vessels that branch from the hilum of one lung."""
    hilum = np.array([MIDLINE + lung.sign * 0.085, 0.41 if lung.sign < 0 else 0.39])
    angles = np.deg2rad(np.linspace(-78, 80, 10) + rng.normal(0, 5, 10))
    reach = np.interp(np.rad2deg(angles), [-80, 0, 80], [0.28, 0.26, 0.33]) * rng.uniform(0.85, 1.05, 10)
    t = np.linspace(0, 1, 9)

    def grow(start, angle, length, bend):  # each [n] or [n, 2] -> paths [n, m, 2]
        turn = angle[:, None] + bend[:, None] * t
        step = np.stack([lung.sign * np.cos(turn), np.sin(turn)], -1) * (length / len(t))[:, None, None]
        return start[:, None] + np.cumsum(step, 1)

    roots = hilum + [lung.sign * 0.004, 0.05] * np.stack([np.cos(angles), np.sin(angles)], -1)
    trunks = grow(roots, angles, reach, rng.normal(0, 0.6, 10))
    parents = np.repeat(np.arange(10), 3)
    nodes = rng.integers(1, 7, 30)
    fork = angles[parents] + rng.choice([-1, 1], 30) * rng.uniform(0.4, 0.8, 30)
    twigs = grow(trunks[parents, nodes], fork, reach[parents] * rng.uniform(0.3, 0.5, 30), rng.normal(0, 0.4, 30))
    calibre = rng.uniform(0.009, 0.012)
    return np.concatenate([
        ribbons(trunks, calibre * (1.12 - t)[None] ** 1.3 * rng.uniform(0.8, 1.1, (10, 1))),
        ribbons(twigs, calibre * 0.55 * (1.1 - t)[None] * (1.1 - nodes[:, None] / 9)),
    ])  # fmt: skip


def _depth(outline: np.ndarray, point: np.ndarray) -> float:
    """How far inside an outline a point lies; negative outside."""
    return cv2.pointPolygonTest(outline.astype(np.float32), (float(point[0]), float(point[1])), True)


@dataclass(frozen=True, eq=False)
class Pleural:
    """Fluid or air between a lung and the chest wall."""

    outline: np.ndarray  # [N, 2]; of fluid, wider than the lung that clips it
    detail: str
    line: np.ndarray | None = None  # [N, 2] the visceral pleura, seen against air


@dataclass(frozen=True, eq=False)
class Opacity:
    """A consolidation or a nodule."""

    centre: np.ndarray  # [2]
    radius: float
    detail: str


Disease = dict[str, Pleural | Opacity]  # the shapes by finding; cardiomegaly has none: the heart itself is larger


def by_side(disease: Disease, condition: str) -> dict[str, Pleural | Opacity]:
    """The shapes of one condition, grouped by side."""
    return {side: disease[f"{side} {condition}"] for side in SIGN if f"{side} {condition}" in disease}


def _effusion(lung: Lung, rng: np.random.Generator) -> Pleural:
    detail = ("small", "moderate")[rng.integers(2)]
    amount = rng.uniform(0.085, 0.115) if detail == "small" else rng.uniform(0.17, 0.25)
    medial = amount * rng.uniform(0.45, 0.6)
    t = np.linspace(0, 1, 20)
    distance = np.abs(lung.tip[0] - MIDLINE)
    x = MIDLINE + lung.sign * (distance * (1 - t) + 0.03)
    top = lung.tip[1] - medial - (amount - medial) * np.exp(-t / 0.22)  # the meniscus climbs along the chest wall
    return Pleural(np.concatenate([np.stack([x, top], -1), [[x[-1], 1.0], [x[0], 1.0]]]), detail)


def _pneumothorax(lung: Lung, rng: np.random.Generator) -> Pleural:
    """The lung falls away from apex and side: both depths fade to nothing between mid height and the lower third."""
    detail = ("small", "moderate")[rng.integers(2)]
    depth = rng.uniform(0.035, 0.05) if detail == "small" else rng.uniform(0.075, 0.11)
    end = rng.uniform(0.52, 0.68)
    apex = np.concatenate([lung.outline[-8:], lung.lateral])  # from the medial side of the apex downwards
    fade = np.clip((end - apex[:, 1]) / 0.3, 0, 1) ** 0.7
    fade[:8] *= np.linspace(0, 1, 8)
    inward = np.stack([-lung.sign * np.full(len(apex), 0.8), np.interp(apex[:, 1], [0.08, 0.2], [1.2, 0.25])], -1)
    inward[:12, 0] *= np.linspace(0.1, 1, 12)
    pleura = apex + depth * fade[:, None] * inward
    visible = pleura[7:][fade[7:] > 0.04]  # its first stretch runs along the mediastinum
    return Pleural(np.concatenate([apex, pleura[::-1]]), detail, visible)


def _place(anatomy: Anatomy, side: str, detail: str, rng: np.random.Generator, radius: float) -> np.ndarray:
    """A point in the upper or lower zone of the aerated lung, `radius` away from its borders where there is room."""
    lung = anatomy.lungs[side]
    top, low = lung.outline[:, 1].min(), lung.dome[:, 1].min()
    band = (0.22, 0.42) if detail == "upper" else (0.64, 0.88)
    x, y = MIDLINE + lung.sign * rng.uniform(0.14, 0.34, 60), top + (low - top) * rng.uniform(*band, 60)
    candidates = np.stack([x, y], -1)
    best, most = candidates[0], -np.inf
    for point in candidates:
        room = min(_depth(lung.outline, point), -_depth(anatomy.heart, point))
        if room > radius:
            return point
        if room > most:
            best, most = point, room
    return best


def _consolidation(anatomy: Anatomy, side: str, present: frozenset[str], rng: np.random.Generator) -> Opacity:
    detail = ("upper", "lower")[rng.integers(2)]
    if f"{side} pleural effusion" in present:  # fluid would hide the lower zone, pleural air the upper
        detail = "upper"
    elif f"{side} pneumothorax" in present:
        detail = "lower"
    return Opacity(_place(anatomy, side, detail, rng, 0.045), rng.uniform(0.06, 0.085), detail)


def _nodule(
    anatomy: Anatomy, side: str, rng: np.random.Generator, avoid: list[np.ndarray], patch: Opacity | None
) -> Opacity:
    """A nodule at the first of 40 tried places that nothing else drawn on this side covers, else at the last."""
    radius = rng.uniform(0.025, 0.043)  # 17 to 30 mm on a detector of 35 cm
    for _ in range(40):
        detail = ("upper", "lower")[rng.integers(2)]
        centre = _place(anatomy, side, detail, rng, radius + 0.02)
        covered = any(_depth(outline, centre) > -radius - 0.01 for outline in avoid)
        if not covered and (patch is None or np.hypot(*(centre - patch.centre)) > 2 * patch.radius + radius):
            break
    return Opacity(centre, radius, detail)


def draw_disease(anatomy: Anatomy, present: frozenset[str], seed: int) -> Disease:
    """Shapes of the findings in `present`, a subset of FINDINGS; each finding has a random stream of its own."""
    disease: Disease = {}
    for index, finding in enumerate(FINDINGS):  # nodules last: they keep clear of the rest
        side, _, condition = finding.partition(" ")
        if finding not in present or side not in SIGN:
            continue
        lung, rng = anatomy.lungs[side], np.random.default_rng([seed, 1, index])
        if condition == "pleural effusion":
            disease[finding] = _effusion(lung, rng)
        elif condition == "pneumothorax":
            disease[finding] = _pneumothorax(lung, rng)
        elif condition == "lung consolidation":
            disease[finding] = _consolidation(anatomy, side, present, rng)
        else:
            pleural = (disease.get(f"{side} {name}") for name in ("pleural effusion", "pneumothorax"))
            avoid = [found.outline for found in pleural if found]
            disease[finding] = _nodule(anatomy, side, rng, avoid, disease.get(f"{side} lung consolidation"))
    return disease
