"""The seven region maps drawn over the radiograph, by OpenCV and Pillow.

Shapes: h, w the drawn image's height and width; K = 7 regions.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xr2text.anatomy import REGION_NAMES, REGIONS

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

INK, DIM, PAPER, TRACK = "#F2F2F2", "#A8A8A8", "#101214", "#26292D"
LATERAL_COLOUR = (255, 214, 10)  # colour of the attention to the lateral view


@dataclass(frozen=True)
class Blending:
    """How region maps are laid over a radiograph. The browser's viewer gets the same values."""

    # Fraction of a region's peak from which its colour begins, and grows up to `opacity` at the peak. Attention never
    # falls to zero, and what lies below would only veil the radiograph.
    floor: float = 0.15
    opacity: float = 0.45
    outline: float = 0.5  # fraction of the peak that a line follows
    outline_opacity: float = 2.0  # opacity of the line relative to that of the colour, at most 1 in all
    mixing: str = "source-over"  # of the regions in the order of `anatomy.REGIONS`: a name of CSS compositing


BLENDING = Blending()


@dataclass(frozen=True, eq=False)
class Canvas:
    """What an overlay is drawn from; needs no model."""

    grey: np.ndarray  # [h, w] uint8, the radiograph
    maps: np.ndarray | None = None  # [K, h, w] uint8, each region's attention scaled to a peak of 255

    def resized(self, width: int, height: int) -> "Canvas":
        """The canvas at a smaller size."""
        maps = [cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA) for region in self.maps]
        return Canvas(cv2.resize(self.grey, (width, height), interpolation=cv2.INTER_AREA), np.stack(maps))


def draw_grey(pixels: np.ndarray, long_side: int = 1024) -> np.ndarray:
    """Resizes [H, W] pixels in [0, 1] to [h, w] uint8 with max(h, w) = long_side, aspect ratio kept."""
    scale = long_side / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(resized, alpha=255)  # rounded; resampling may slightly exceed the range


def make_canvas(report: "Report", long_side: int = 1024) -> Canvas:
    """The radiograph and its region maps at the size at which they are drawn."""
    grey = draw_grey(report.radiograph.pixels, long_side)
    maps = report.geometry.map_to_original(report.grid_maps, grey.shape)
    return Canvas(grey, np.stack([cv2.convertScaleAbs(region, alpha=255 / region.max()) for region in maps]))


def paint(canvas: Canvas, regions: Collection[str] = REGION_NAMES, opacity: float = BLENDING.opacity) -> np.ndarray:
    """Lays the chosen regions' maps over the radiograph, as `BLENDING` says: [h, w, 3] uint8 RGB.

    Args:
        regions: names out of anatomy.REGION_NAMES, in any order.
        opacity: 0 (the radiograph alone) to 1.
    """
    image = cv2.cvtColor(canvas.grey, cv2.COLOR_GRAY2RGB)
    if canvas.maps is None:
        return image
    drawn = [(region.rgb, level) for region, level in zip(REGIONS, canvas.maps, strict=True) if region.name in regions]
    return _lay(image, drawn, opacity)


def paint_lateral(report: "Report", height: int) -> np.ndarray:
    """The lateral view with the attention to it, [height, w, 3] uint8 RGB."""
    pixels = report.lateral.pixels
    grey = draw_grey(pixels, round(height * max(pixels.shape) / pixels.shape[0]))
    level = report.lateral_geometry.map_to_original(report.lateral_map[None], grey.shape)[0]
    level = cv2.convertScaleAbs(level, alpha=255 / level.max())
    return _lay(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), [(LATERAL_COLOUR, level)], BLENDING.opacity)


def _lay(image: np.ndarray, drawn: list[tuple[tuple[int, int, int], np.ndarray]], opacity: float) -> np.ndarray:
    """Colours and their maps [h, w] uint8 over an image [h, w, 3]."""
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    alphas = opacity * np.clip((levels - BLENDING.floor) / (1 - BLENDING.floor), 0, 1)
    mixed = image.astype(np.float32)
    for colour, level in drawn:
        left, top, width, height = cv2.boundingRect((level > 255 * BLENDING.floor).astype(np.uint8))
        place = np.s_[top : top + height, left : left + width]
        alpha = alphas[level[place]]
        mixed[place] = cv2.blendLinear(mixed[place], np.full((*alpha.shape, 3), colour, np.float32), 1 - alpha, alpha)
    image = np.rint(mixed).astype(np.uint8)
    return _outline(image, drawn, strength=min(1.0, BLENDING.outline_opacity * opacity))


def _outline(image: np.ndarray, drawn: list[tuple[tuple[int, int, int], np.ndarray]], strength: float) -> np.ndarray:
    """Lines of colours at their maps' outline; a dark line under each keeps it legible on white bone."""
    lines = image.copy()
    thin = max(1, round(max(image.shape) / 512))
    masks = [(level >= 255 * BLENDING.outline).astype(np.uint8) for _, level in drawn]
    traces = [cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0] for mask in masks]
    for contours in traces:
        cv2.drawContours(lines, contours, -1, (0, 0, 0), 2 * thin, cv2.LINE_AA)
    for contours, (colour, _) in zip(traces, drawn, strict=True):
        cv2.drawContours(lines, contours, -1, colour, thin, cv2.LINE_AA)
    return cv2.addWeighted(lines, strength, image, 1 - strength, 0)


WIDTH, MARGIN, TITLE, FOOTER = 1400, 36, 84, 56  # pixels of the figure
MAIN, TILE = (860, 800), (178, 230)  # box (width, height) for the radiograph, and for each single region
LATERAL_HEIGHT = 300


def overlay_figure(report: "Report") -> Image.Image:
    """The whole report as one figure: all regions on the radiograph, their weights, and each region by itself."""
    height, width = report.radiograph.pixels.shape
    main, tile = (min(box[0] / width, box[1] / height) for box in (MAIN, TILE))
    canvas = make_canvas(report, round(main * max(height, width)))
    main_height = max(canvas.grey.shape[0], 420 if report.lateral is None else MAIN[1])
    tile_width, tile_height = max(1, round(tile * width)), max(1, round(tile * height))
    tiles_top = TITLE + main_height + 80
    figure = Image.new("RGB", (WIDTH, tiles_top + tile_height + FOOTER + 20), PAPER)
    draw = ImageDraw.Draw(figure)
    draw.text((MARGIN, 30), "The seven regions behind the report", INK, _font(25))
    draw.text((WIDTH - MARGIN, 36), report.model, DIM, _font(17), "ra")
    _draw_radiograph(figure, draw, canvas, report.radiograph.view)
    _draw_weights(draw, report, left=MARGIN + MAIN[0] + 50)
    if report.lateral is not None:
        side = Image.fromarray(paint_lateral(report, LATERAL_HEIGHT))
        side.thumbnail((WIDTH - 2 * MARGIN - MAIN[0] - 50, LATERAL_HEIGHT))
        draw.text((MARGIN + MAIN[0] + 50, TITLE + MAIN[1] - LATERAL_HEIGHT - 12), "Lateral view", INK, _font(20), "ls")
        figure.paste(side, (MARGIN + MAIN[0] + 50, TITLE + MAIN[1] - LATERAL_HEIGHT))

    small = canvas.resized(tile_width, tile_height)
    step = (WIDTH - 2 * MARGIN - TILE[0]) / (len(REGIONS) - 1)
    for k, region in enumerate(REGIONS):
        middle = round(MARGIN + k * step + TILE[0] / 2)
        left = middle - tile_width // 2
        draw.text((middle, tiles_top - 10), region.name, INK, _font(16), "ms")
        figure.paste(Image.fromarray(paint(small, [region.name], opacity=0.6)), (left, tiles_top))
        frame = (left - 2, tiles_top - 2, left + tile_width + 1, tiles_top + tile_height + 1)
        draw.rectangle(frame, None, region.rgb, 2)
    footer = "Attention of the model, each region scaled to its own peak; lines at half of it.  "
    footer += "Research software, not a medical device."
    draw.text((MARGIN, figure.height - FOOTER // 2), footer, DIM, _font(16), "lm")
    return figure


def _draw_radiograph(figure: Image.Image, draw: ImageDraw.ImageDraw, canvas: Canvas, view: str | None) -> None:
    height, width = canvas.grey.shape
    left = MARGIN + (MAIN[0] - width) // 2
    figure.paste(Image.fromarray(paint(canvas)), (left, TITLE))
    if view != "lateral":
        draw.text((left, TITLE + height + 8), "R  patient's right", DIM, _font(17))
        draw.text((left + width, TITLE + height + 8), "patient's left  L", DIM, _font(17), "ra")


def _draw_weights(draw: ImageDraw.ImageDraw, report: "Report", left: int) -> None:
    """Bars of the router's weights, with a dashed line where all regions would be equal."""
    top, step, bar = TITLE + 70, 48, 24
    start, end = left + 170, WIDTH - MARGIN - 70
    scale = (end - start) / max(report.region_weights.values())
    draw.text((left, TITLE), "Weight of each region", INK, _font(20))
    for row, region in enumerate(REGIONS):
        y, weight = top + row * step, report.region_weights[region.name]
        draw.text((start - 12, y + bar // 2), region.name, INK, _font(17), "rm")
        draw.rectangle((start, y, end, y + bar), TRACK)
        draw.rectangle((start, y, start + scale * weight, y + bar), region.rgb)
        draw.text((end + 10, y + bar // 2), f"{weight:.1%}", INK, _font(17), "lm")
    equal, bottom = start + scale / len(REGIONS), top + len(REGIONS) * step
    for y in range(top - 10, bottom, 12):
        draw.line((equal, y, equal, y + 6), DIM, 2)
    draw.text((equal, bottom + 4), "equal share", DIM, _font(16), "ma")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
