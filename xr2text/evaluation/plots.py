"""Pictures of an evaluation: the findings' F1, single examples, and how far a finding head's probabilities hold.

Letters: h, w the height and width of a picture in pixels; K = 7 regions; M bins of probability.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D
from PIL import Image

from xr2text.anatomy import REGIONS
from xr2text.evaluation.tables import AVERAGES, UNDEFINED, Metrics, finding_name, findings_by_support, subject, systems
from xr2text.inference.overlay import DIM, INK, PAPER, TRACK, Canvas, paint

if TYPE_CHECKING:
    from xr2text.evaluation.clinical import CalibrationBins

DPI, MARGIN, LINE_SPACING = 100, 30, 1.35
_RULER = RendererAgg(1, 1, DPI)  # measures text, draws nothing
NOTICE = "Research software, not a medical device."

# From Okabe and Ito's palette, told apart by colour-blind readers: the model, retrieval, constant.
SYSTEM_COLOURS = ("#56B4E9", "#E69F00", DIM)
MATCHED, MISSED, INVENTED = "#56B4E9", "#F0E442", "#EE7733"

BARS_WIDTH, ROW_HEIGHT = 720, 54
EXAMPLES_OF_A_KIND = 5
FILM_WIDTH, FILM_HEIGHT = 300, 330  # the box of a radiograph
GAP, TEXT_WIDTH, LIST_WIDTH = 28, 380, 210
PAGE_WIDTH = 2 * MARGIN + 2 * FILM_WIDTH + 2 * TEXT_WIDTH + LIST_WIDTH + 4 * GAP


@dataclass(frozen=True, eq=False)
class Example:
    """A study that the evaluation shows.

    Attributes:
        study: its id in the data set; nothing else that is known of the patient is drawn.
        score: by which examples are ordered, the higher the better.
        canvas: the radiograph and its region maps, from `overlay.make_canvas`.
        reference, generated: the findings texts.
        matched, missed, invented: findings of both reports, of the reference alone, of the generated report alone.
    """

    study: str
    score: float
    canvas: Canvas
    reference: str
    generated: str
    matched: tuple[str, ...]
    missed: tuple[str, ...]
    invented: tuple[str, ...]


class _Page:
    """A picture laid out in pixels from its top left corner; `finish` gives it the height that it came to need."""

    def __init__(self, width: float):
        self.width = math.ceil(width)
        self.figure = Figure(figsize=(self.width / DPI, 1), dpi=DPI, facecolor=PAPER)
        self.drawing = FigureCanvasAgg(self.figure)
        self._from_top = Affine2D().scale(1, -1)  # `finish` moves it up by the page's height
        self.films: list[tuple[np.ndarray, int, int]] = []
        self._axes: list[tuple[Axes, tuple[float, float, float, float]]] = []

    def write(
        self, text: str, x: float, top: float, width: float, size: float = 11, colour: str = INK, weight: str = "normal"
    ) -> float:
        """Sets text, wrapped at `width` pixels, below `top`; returns where it ends."""
        lines = wrap(text, width, lambda line: text_width(line, size, weight))
        line = LINE_SPACING * size * DPI / 72
        below = top + len(lines) * line
        # From baseline to baseline: a line without tall letters must not move the others.
        self.figure.text(
            x, below - 0.4 * line, "\n".join(lines), transform=self._from_top, size=size, color=colour, weight=weight,
            va="baseline", linespacing=LINE_SPACING, parse_math=False,
        )  # fmt: skip
        return below

    def place(self, film: np.ndarray, x: int, top: float) -> float:
        """Puts [h, w, 3] uint8 there pixel by pixel; returns where it ends."""
        self.films.append((film, x, round(top)))
        return round(top) + len(film)

    def key(self, names: Iterable[str], colours: Iterable[str], top: float) -> float:
        """Names side by side, each after a square in its colour; returns where their last line ends."""
        x = below = MARGIN
        for name, colour in zip(names, colours, strict=True):
            width = min(text_width(name, 11) + 1, self.width - 2 * MARGIN - 20)
            if x > MARGIN and x + 20 + width > self.width - MARGIN:
                x, top = MARGIN, below + 4
            self.write("■", x, top, 20, 11, colour)
            below = self.write(name, x + 20, top, width)
            x += 20 + width + GAP
        return below

    def rule(self, top: float) -> float:
        """A thin line across the page; returns its place."""
        ends = [MARGIN, self.width - MARGIN]
        self.figure.add_artist(Line2D(ends, [top, top], transform=self._from_top, color=TRACK, linewidth=1.5))
        return top

    def axes(self, x: float, top: float, width: float, height: float) -> Axes:
        """Axes in that box, in the colours of the page; ticks and labels lie outside it."""
        axes = self.figure.add_axes((0, 0, 1, 1), label=str(len(self._axes)), facecolor=PAPER)
        axes.tick_params(labelcolor=INK, length=0, pad=8)
        axes.spines[:].set_visible(False)
        self._axes.append((axes, (x, top, width, height)))
        return axes

    def finish(self, height: float) -> Image.Image:
        height = math.ceil(height)
        # Half a pixel more, for the division by DPI must not cost one.
        self.figure.set_size_inches((self.width + 0.5) / DPI, (height + 0.5) / DPI)
        self._from_top.translate(0, height)
        for axes, (x, top, width, tall) in self._axes:
            axes.set_position((x / self.width, 1 - (top + tall) / height, width / self.width, tall / height))
        self.drawing.draw()
        picture = np.asarray(self.drawing.buffer_rgba())[..., :3].copy()
        for film, x, top in self.films:
            picture[top : top + film.shape[0], x : x + film.shape[1]] = film
        return Image.fromarray(picture)


@lru_cache(maxsize=4096)
def text_width(line: str, size: float, weight: str = "normal") -> float:
    """Pixels of a line of text at `size` points."""
    return _RULER.get_text_width_height_descent(line, FontProperties(size=size, weight=weight), ismath=False)[0]


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Breaks text between words into lines of at most `width`; a word that is longer than that breaks anywhere.

    A line is taken to be as wide as its words and spaces: reports repeat their words, which `measure` may remember.
    """
    lines, used, space = [""], 0.0, measure(" ")
    for word in text.split():
        if lines[-1] and used + space + measure(word) > width:
            lines.append("")
            used = 0.0
        elif lines[-1]:
            lines[-1] += " "
            used += space
        for piece in [word] if measure(word) <= width else word:
            if lines[-1] and used + measure(piece) > width:
                lines.append("")
                used = 0.0
            lines[-1] += piece
            used += measure(piece)
    return lines


def finding_bars(metrics: Metrics) -> Image.Image:
    """F1 of each finding that the references hold, the commonest first, for the model and the two baselines.

    The two micro-averages stand on top, with their 95 % intervals. An F1 that is not defined is drawn as a dash.

    Args:
        metrics: as in metrics.json.

    Returns:
        RGB, as tall as there are findings.
    """
    counted = metrics["clinical"]["findings"]
    findings = [key for key in findings_by_support(metrics) if counted[key]["support"] > 0]
    names = [AVERAGES[key] for key in ("micro_14", "micro_5")]
    names += [f"{finding_name(key)}  ({counted[key]['support']})" for key in findings]
    rows = np.arange(len(names)) + np.repeat((0, 0.5), (2, len(findings)))  # a gap below the averages
    left = MARGIN + 12 + max(text_width(name, 11) for name in names)

    page = _Page(left + BARS_WIDTH + MARGIN)
    inner = page.width - 2 * MARGIN
    below = page.write("F1 of the findings", MARGIN, 24, inner, 17, weight="bold")
    below = page.write(subject(metrics), MARGIN, below + 6, inner, 11, DIM)
    parts = systems(metrics)
    below = page.key(parts, SYSTEM_COLOURS, below + 16)
    axes = page.axes(left, below + 14, BARS_WIDTH, height := ROW_HEIGHT * (rows[-1] + 1))
    for scores, colour, shift in zip(parts.values(), SYSTEM_COLOURS, (-0.28, 0, 0.28), strict=True):
        clinical, intervals = scores["clinical"], scores["intervals"]["clinical"]
        averages = [(clinical[key]["f1"], intervals[key]["f1"]) for key in ("micro_14", "micro_5")]
        _draw_bars(axes, rows + shift, averages + [(clinical["findings"][key]["f1"], None) for key in findings], colour)
    axes.axhline(1.75, color=TRACK, linewidth=1.5)
    axes.set(xlim=(0, 1.09), ylim=(rows[-1] + 0.5, -0.5))
    axes.set_yticks(rows, names, fontsize=11)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", color=TRACK, linewidth=1)
    axes.set_axisbelow(True)
    note = "In brackets: studies whose reference has the finding. Lines on the averages: 95 % intervals."
    return page.finish(page.write(f"{note} {NOTICE}", MARGIN, below + height + 56, inner, 10, DIM) + 20)


def _draw_bars(
    axes: Axes, rows: np.ndarray, scores: Sequence[tuple[float | None, Sequence[float] | None]], colour: str
) -> None:
    """A bar for each F1, with a line over its interval where there is one, and the number after both."""
    for row, (f1, interval) in zip(rows, scores, strict=True):
        end = 0.0
        if f1 is not None:
            axes.barh(row, f1, height=0.26, color=colour)
            end = f1
        if interval is not None:
            axes.hlines(row, *interval, color=PAPER, linewidth=4)
            axes.hlines(row, *interval, color=INK, linewidth=1.5)
            end = max(end, interval[1])
        label = UNDEFINED if f1 is None else f"{f1:.2f}"
        axes.text(end + 0.008, row, label, color=colour, fontsize=9, va="center_baseline")


def examples_page(examples: Sequence[Example], title: str) -> Image.Image:
    """Single studies in rows: radiograph, region overlays, both texts, and the findings matched, missed and invented.

    The lower half by score stands first under a heading, the lowest on top, then the upper half, the highest on top;
    of more than ten examples the five lowest and the five highest are drawn.

    Returns:
        RGB, PAGE_WIDTH wide and as tall as its rows.

    Raises:
        ValueError: without an example.
    """
    if not examples:
        raise ValueError("There is no example to draw: examples_page takes at least one.")
    ordered = sorted(examples, key=lambda example: example.score)
    low = min(EXAMPLES_OF_A_KIND, math.ceil(len(ordered) / 2))
    high = min(EXAMPLES_OF_A_KIND, len(ordered) - low)
    sections = {"Lowest scores": ordered[:low], "Highest scores": ordered[::-1][:high]}

    page = _Page(PAGE_WIDTH)
    inner = PAGE_WIDTH - 2 * MARGIN
    below = page.write(title, MARGIN, 24, inner, 18, weight="bold")
    below = page.key([region.name for region in REGIONS], [region.colour for region in REGIONS], below + 12)
    for heading, chosen in sections.items():
        if chosen:
            below = page.write(heading, MARGIN, below + 38, inner, 15, weight="bold")
        for example in chosen:
            below = _draw_example(page, example, page.rule(below + 16) + 14)
    note = "Regions: attention of the model, each scaled to its own peak; lines at half of it."
    return page.finish(page.write(f"{note} {NOTICE}", MARGIN, below + 30, inner, 10, DIM) + 20)


def _draw_example(page: _Page, example: Example, top: float) -> float:
    """One row of the page; returns where its longest column ends."""
    name = f"study {example.study}  ·  score {example.score:.3f}"
    top = page.write(name, MARGIN, top, PAGE_WIDTH - 2 * MARGIN, 11, DIM, "bold") + 10
    canvas = _fit(example.canvas)
    x, second = MARGIN, MARGIN + FILM_WIDTH + GAP
    ends = [page.place(paint(canvas, ()), x, top), page.place(paint(canvas), second, top)]
    x = second + FILM_WIDTH + GAP
    for heading, text in (("Reference", example.reference), ("Generated", example.generated)):
        below = page.write(heading, x, top, TEXT_WIDTH, 11, DIM, "bold") + 3
        ends.append(page.write(text or "(no text)", x, below, TEXT_WIDTH))
        x += TEXT_WIDTH + GAP
    below = top
    for heading, findings, colour in (
        ("Matched", example.matched, MATCHED),
        ("Missed", example.missed, MISSED),
        ("Invented", example.invented, INVENTED),
    ):
        below = page.write(heading, x, below, LIST_WIDTH, 11, colour, "bold") + 3
        for name in findings or ("none",):
            below = page.write(finding_name(name), x, below, LIST_WIDTH, 11, colour if findings else DIM) + 3
        below += 10
    return max(*ends, below - 10)


def _fit(canvas: Canvas) -> Canvas:
    """The canvas at the size of its box, so that lines are painted as thick as they will be seen."""
    height, width = canvas.grey.shape
    scale = min(FILM_WIDTH / width, FILM_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    layers = [canvas.grey, *(() if canvas.maps is None else canvas.maps)]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey, *maps = (cv2.resize(layer, size, interpolation=way) for layer in layers)
    return Canvas(grey, np.stack(maps) if maps else None)


def reliability_figure(bins: "CalibrationBins") -> Image.Image:
    """How often a finding is there when the finding head gives it some probability, and how often it gives that.

    A reliability diagram (Niculescu-Mizil and Caruana, ICML 2005): on the diagonal the probabilities hold.

    Args:
        bins: edges [M + 1] ascending from 0 to 1; counts, mean_probability and share_positive [M], of which the last
            two are ignored in an empty bin.

    Raises:
        ValueError: arrays that do not belong together, or bins that are all empty.
    """
    edges, counts = np.asarray(bins.edges, float), np.asarray(bins.counts)
    predicted, observed = np.asarray(bins.mean_probability, float), np.asarray(bins.share_positive, float)
    if not len(edges) - 1 == len(counts) == len(predicted) == len(observed):
        raise ValueError(
            f"{len(edges)} edges, {len(counts)} counts, {len(predicted)} mean probabilities and {len(observed)} shares "
            "do not belong together: M bins have M + 1 edges and M of each other."
        )
    if not counts.sum():
        raise ValueError("All bins are empty: a reliability diagram takes at least one probability.")

    left, side = 96, 520
    page = _Page(left + side + MARGIN)
    inner = page.width - 2 * MARGIN
    below = page.write("Reliability of the finding head", MARGIN, 24, inner, 17, weight="bold")
    main = page.axes(left, below + 24, side, side)
    main.plot((0, 1), (0, 1), color=DIM, linewidth=1.2, linestyle=(0, (3, 3)))
    filled = counts > 0
    main.plot(predicted[filled], observed[filled], "o-", color=MATCHED, markersize=8, linewidth=1.8, clip_on=False)
    main.set(xlim=(0, 1), ylim=(0, 1))
    main.tick_params(labelbottom=False)
    main.set_ylabel("share with the finding", color=INK, fontsize=11, labelpad=8)
    below += 24 + side + 30
    numbers = page.axes(left, below, side, 110)
    numbers.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SYSTEM_COLOURS[1], edgecolor=PAPER)
    numbers.set(xlim=(0, 1), yscale="log", ylim=(0.7, 2 * counts.max()))
    numbers.set_xlabel("probability given by the head", color=INK, fontsize=11, labelpad=8)
    numbers.set_ylabel("number", color=INK, fontsize=11, labelpad=8)
    for axes in (main, numbers):
        axes.grid(color=TRACK, linewidth=1)
        axes.set_axisbelow(True)
    note = f"{counts.sum()} pairs of study and finding; on the dashed line the probabilities hold. {NOTICE}"
    return page.finish(page.write(note, MARGIN, below + 110 + 68, inner, 10, DIM) + 20)
