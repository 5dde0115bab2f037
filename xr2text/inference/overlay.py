"""The seven region maps drawn over the radiograph.

Letters: H, W the original's height and width; h, w the drawn picture's; K = 7 regions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from xr2text.anatomy import REGION_NAMES, REGIONS

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

# Attention never falls to zero: below this fraction of a region's peak it is background, and would only veil the film.
FLOOR = 0.15

INK, DIM, PAPER, TRACK = "#F2F2F2", "#A8A8A8", "#101214", "#26292D"


@dataclass(frozen=True, eq=False)
class Canvas:
    """What a picture is drawn from, without the model.

    Attributes:
        grey: [h, w] uint8, the radiograph.
        maps: [K, h, w] uint8, each region's attention scaled to a peak of 255; None without a report.
    """

    grey: np.ndarray
    maps: np.ndarray | None = None


def draw_grey(pixels: np.ndarray, long_side: int = 1024) -> np.ndarray:
    """Resizes [H, W] pixels in [0, 1] to [h, w] uint8 with max(h, w) = long_side, aspect ratio kept."""
    scale = long_side / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return _to_bytes(resized)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, rounded; resampling may have left the range by a hair."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def make_canvas(report: "Report", long_side: int = 1024) -> Canvas:
    """The radiograph and its region maps at the size they are drawn in."""
    grey = draw_grey(report.radiograph.pixels, long_side)
    return Canvas(grey, _to_bytes(report.maps_at(*grey.shape)))


def paint(canvas: Canvas, regions: Iterable[str] = REGION_NAMES, opacity: float = 0.45) -> np.ndarray:
    """Lays the chosen regions' maps over the radiograph.

    A region's colour covers with `opacity` times its map; where regions overlap, their colours mix in proportion to
    that, so that no order of drawing favours one. A line follows each map's half maximum.

    Args:
        canvas: from `make_canvas`.
        regions: names out of anatomy.REGION_NAMES.
        opacity: 0 (the radiograph alone) to 1.

    Returns:
        [h, w, 3] uint8 RGB.

    Raises:
        ValueError: for a name that is no region, or an opacity outside 0 to 1.
    """
    chosen = set(regions)
    if unknown := chosen.difference(REGION_NAMES):
        raise ValueError(f"Unknown region {sorted(unknown)}: the regions are {', '.join(REGION_NAMES)}.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie between 0 and 1, not {opacity}.")
    picture = np.repeat(canvas.grey[..., None], 3, axis=2)
    if canvas.maps is None or not chosen or opacity == 0:
        return picture

    indices = [k for k, name in enumerate(REGION_NAMES) if name in chosen]
    colours = np.array([REGIONS[k].rgb for k in indices], dtype=np.float32)
    maps = canvas.maps[indices]
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    alpha = (opacity * np.clip((levels - FLOOR) / (1 - FLOOR), 0, 1))[maps]  # [k, h, w]
    cover = 1 - np.prod(1 - alpha, axis=0)[..., None]  # [h, w, 1]
    mixed = np.tensordot(alpha, colours, axes=(0, 0)) / np.maximum(alpha.sum(0), 1e-6)[..., None]  # [h, w, 3]
    picture = np.round(picture * (1 - cover) + mixed * cover).astype(np.uint8)
    return _outline(picture, maps >= 128, colours, strength=min(1.0, 2 * opacity))


def _outline(picture: np.ndarray, masks: np.ndarray, colours: np.ndarray, strength: float) -> np.ndarray:
    """Traces masks [k, h, w] on [h, w, 3] uint8; a dark line under each keeps it legible on white bone."""
    lines = picture.copy()
    thin = max(1, round(max(picture.shape) / 512))
    traces = [
        cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0] for mask in masks
    ]  # fmt: skip
    for contours in traces:
        cv2.drawContours(lines, contours, -1, (0, 0, 0), thin + 2, cv2.LINE_AA)
    for contours, colour in zip(traces, colours.tolist(), strict=True):
        cv2.drawContours(lines, contours, -1, colour, thin, cv2.LINE_AA)
    return cv2.addWeighted(lines, strength, picture, 1 - strength, 0)


def render_overlay(
    report: "Report", regions: Iterable[str] = REGION_NAMES, opacity: float = 0.45, long_side: int = 1024
) -> np.ndarray:
    """The radiograph with the chosen regions over it: [h, w, 3] uint8 RGB, max(h, w) = long_side. See `paint`."""
    return paint(make_canvas(report, long_side), regions, opacity)


def overlay_figure(report: "Report") -> Image.Image:
    """One picture of the whole report: all regions on the radiograph, their weights, and each region by itself."""
    figure = Figure(figsize=(14, 11.4), dpi=100, facecolor=PAPER)
    drawing = FigureCanvasAgg(figure)
    top, bottom = figure.add_gridspec(
        2, 1, height_ratios=(4, 1), left=0.025, right=0.975, top=0.905, bottom=0.06, hspace=0.2
    )
    main, side = top.subgridspec(1, 2, width_ratios=(1.75, 1), wspace=0.34)
    canvas = make_canvas(report)
    _draw_radiograph(figure.add_subplot(main), canvas, report.radiograph.view)
    _draw_weights(figure.add_subplot(side), report)

    for region, cell in zip(REGIONS, bottom.subgridspec(1, len(REGIONS), wspace=0.06), strict=True):
        axes = figure.add_subplot(cell)
        axes.imshow(paint(canvas, [region.name], opacity=0.6))
        axes.set_title(region.name, color=INK, fontsize=11, pad=6)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=region.colour, linewidth=2)

    figure.text(0.025, 0.955, "The seven regions behind the report", color=INK, fontsize=18, weight="bold")
    figure.text(0.975, 0.957, report.model, color=DIM, fontsize=12, ha="right")
    footer = "Attention of the model, each region scaled to its own peak; lines at half of it.  "
    figure.text(0.025, 0.022, footer + "Research software, not a medical device.", color=DIM, fontsize=11)
    drawing.draw()
    return Image.fromarray(np.asarray(drawing.buffer_rgba())[..., :3].copy())


def _draw_radiograph(axes: Axes, canvas: Canvas, view: str | None) -> None:
    axes.imshow(paint(canvas))
    axes.set_axis_off()
    axes.set_anchor("N")
    if view == "lateral":
        return
    for x, side, align in ((0, "R  patient's right", "left"), (1, "patient's left  L", "right")):
        axes.text(x, -0.01, side, transform=axes.transAxes, color=DIM, fontsize=12, ha=align, va="top")


def _draw_weights(axes: Axes, report: "Report") -> None:
    weights = [report.region_weights[name] for name in REGION_NAMES]
    rows = np.arange(len(REGIONS))
    limit = max(weights)
    axes.barh(rows, [limit] * len(rows), height=0.5, color=TRACK)
    axes.barh(rows, weights, height=0.5, color=[region.colour for region in REGIONS])
    axes.vlines(1 / len(REGIONS), -0.5, 6.5, color=DIM, linewidth=1.2, linestyle=(0, (3, 3)))
    axes.text(1 / len(REGIONS), 6.6, "equal share", color=DIM, fontsize=11, ha="center", va="top")
    for row, weight in zip(rows, weights, strict=True):
        axes.text(limit * 1.04, row, f"{weight:.1%}", color=INK, fontsize=13, va="center")
    axes.set_yticks(rows, REGION_NAMES, fontsize=13, color=INK)
    axes.set_xticks([])
    axes.set(xlim=(0, limit * 1.28), ylim=(6.9, -0.6), facecolor=PAPER)
    axes.set_title("Weight of each region", color=INK, fontsize=14, loc="left", pad=12)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
