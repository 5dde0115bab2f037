"""Pictures of an evaluation: the findings' F1, how far a finding head's probabilities hold, and single studies.

Shapes: N studies, h x w a picture's pixels.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from textwrap import fill

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from xr2text.anatomy import REGIONS
from xr2text.evaluation.clinical import CalibrationBins
from xr2text.evaluation.tables import AVERAGES, UNDEFINED, Metrics, findings_by_support, subject, systems
from xr2text.inference.overlay import DIM, INK, PAPER, TRACK, Canvas, paint
from xr2text.text.findings.labeler import NO_FINDING

NOTICE = "Research software, not a medical device."
# From Okabe and Ito's palette, told apart by colour-blind readers: the model, retrieval, constant.
SYSTEM_COLOURS = ("#56B4E9", "#E69F00", DIM)
EXAMPLES = 5  # number of studies with the lowest F1, and with the highest
STYLE = {
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "axes.edgecolor": PAPER, "axes.axisbelow": True,
    "grid.color": TRACK, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0,
    "legend.frameon": False, "text.parse_math": False,
}  # fmt: skip


def finding_bars(metrics: Metrics) -> Figure:
    """F1 of each finding that the references hold, the commonest first, for the model and the two baselines.

    The two micro-averages stand on top, with their 95 % intervals. An F1 that is not defined is drawn as a dash.
    """
    counted = metrics["clinical"]["findings"]
    findings = [name for name in findings_by_support(metrics) if counted[name]["support"] > 0]
    averages = ("micro_14", "micro_5")
    names = [AVERAGES[key] for key in averages] + [f"{name}  ({counted[name]['support']})" for name in findings]
    rows = np.arange(len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 2 + 0.5 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for place, (system, scores) in enumerate(systems(metrics).items()):
            clinical, intervals = scores["clinical"], scores["intervals"]["clinical"]
            f1 = [clinical[key]["f1"] for key in averages] + [clinical["findings"][name]["f1"] for name in findings]
            lengths = np.array([value or 0.0 for value in f1])
            ends = np.stack([lengths, lengths], axis=1)  # [rows, 2]: of the intervals, where there are any
            ends[:2] = [intervals[key]["f1"] or ends[row] for row, key in enumerate(averages)]
            errors = np.maximum((lengths - ends[:, 0], ends[:, 1] - lengths), 0)
            look = {"color": SYSTEM_COLOURS[place], "label": system, "ecolor": INK}
            bars = axes.barh(rows + 0.28 * (place - 1), lengths, 0.26, xerr=errors, **look)
            axes.bar_label(bars, [UNDEFINED if value is None else f"{value:.2f}" for value in f1], padding=4, size=9)
        axes.set(xlim=(0, 1.09), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(rows, names)
        axes.grid(axis="x")
        title = f"F1 of the findings\n{fill(subject(metrics), 110)}"
        figure.legend(loc="outside upper left", alignment="left", title=title)
        note = "In brackets: studies whose reference has the finding. Lines on the averages: 95 % intervals."
        figure.supxlabel(f"{note} {NOTICE}", size=9, color=DIM)
    return figure


def reliability_figure(bins: CalibrationBins) -> Figure:
    """A reliability diagram (Niculescu-Mizil and Caruana, ICML 2005): how often findings are present, by predicted
    probability, and how often each probability occurs. On the diagonal the probabilities hold."""
    filled = bins.counts > 0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 8.5), layout="constrained")
        figure.suptitle("Reliability of the finding head")
        main, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        main.plot((0, 1), (0, 1), "--", color=DIM)
        main.plot(bins.mean_probability[filled], bins.share_positive[filled], "o-", color=SYSTEM_COLOURS[0])
        main.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="share with the finding")
        widths = np.diff(bins.edges)
        numbers.bar(bins.edges[:-1], bins.counts, widths, align="edge", color=SYSTEM_COLOURS[1], edgecolor=PAPER)
        numbers.set(yscale="log", ylim=(0.7, 2 * bins.counts.max()))
        numbers.set(xlabel="probability given by the head", ylabel="number")
        for axes in (main, numbers):
            axes.grid()
        note = f"{bins.counts.sum()} pairs of study and finding; on the dashed line the probabilities hold."
        figure.supxlabel(f"{note}\n{NOTICE}", size=9, color=DIM)
    return figure


@dataclass(frozen=True)
class FindingMatch:
    """The positive findings of a study's two reports, without "no finding"."""

    tp: tuple[str, ...]  # findings in both
    fn: tuple[str, ...]  # findings in the reference only
    fp: tuple[str, ...]  # findings in the generated report only

    @classmethod
    def of(cls, reference: pd.Series, generated: pd.Series) -> "FindingMatch":
        """Takes one row of each label table."""
        wanted, given = (
            {name for name, value in labels.dropna().items() if value and name != NO_FINDING}
            for labels in (reference, generated)
        )
        return cls(*(tuple(sorted(names)) for names in (wanted & given, wanted - given, given - wanted)))

    @property
    def f1(self) -> float:
        """F1 of the study; 1 where neither report has a positive finding."""
        right, wrong = 2 * len(self.tp), len(self.fn) + len(self.fp)
        return right / (right + wrong) if right + wrong else 1.0


@dataclass(frozen=True, eq=False)
class Example:
    """A study that the evaluation shows, without anything else that is known of the patient."""

    study: str  # its id in the data set
    match: FindingMatch
    canvas: Canvas  # the radiograph and its region maps
    reference: str
    generated: str


def worst_and_best(matches: Sequence[FindingMatch], ties: np.ndarray) -> dict[str, list[int]]:
    """The studies shown under each heading: by F1, then by right findings less wrong ones, then by `ties` [N]."""

    def rank(index: int) -> tuple[float, int, float]:
        match = matches[index]
        return match.f1, len(match.tp) - len(match.fn) - len(match.fp), ties[index]

    order = sorted(range(len(matches)), key=rank)
    low = order[: min(EXAMPLES, math.ceil(len(order) / 2))]
    return {"Lowest F1": low, "Highest F1": order[len(low) :][::-1][:EXAMPLES]}


def examples_page(sections: Mapping[str, Sequence[Example]], title: str) -> str:
    """An HTML page of single studies: radiograph, region overlays, both texts, and the findings right and wrong."""
    key = " ".join(f'<span style="color:{region.colour}">■</span> {region.name}' for region in REGIONS)
    body = [f"<h1>{escape(title)}</h1>", f"<p>{key}</p>"]
    for heading, examples in sections.items():
        body += [f"<h2>{escape(heading)}</h2>", *map(_article, examples)] if examples else []
    note = "Regions: attention of the model, each scaled to its peak; lines at half of it."
    body.append(f"<p class=dim>{note}<br>{NOTICE}</p>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_CSS}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


_CSS = f"""
body {{ background: {PAPER}; color: {INK}; font: 15px/1.4 sans-serif; margin: 2em }}
article {{ display: grid; grid-template-columns: 300px 300px 1fr 1fr 14em; gap: 1.5em; border-top: 1px solid {TRACK} }}
h3 {{ grid-column: 1 / -1; margin: 1em 0 0 }}
h3, h4, .dim {{ color: {DIM} }} h4 {{ margin: 0 }} p {{ overflow-wrap: anywhere }} img {{ width: 100% }}
"""


def _article(example: Example) -> str:
    match = example.match
    texts = {"Reference": example.reference, "Generated": example.generated or "(no text)"}
    lists = {
        "TP, in both": match.tp,
        "FN, in the reference alone": match.fn,
        "FP, in the generated report alone": match.fp,
    }
    columns = [_picture(paint(example.canvas, ())), _picture(paint(example.canvas))]
    columns += [_paragraph(heading, text) for heading, text in texts.items()]
    columns.append("".join(_paragraph(heading, ", ".join(names) or "none") for heading, names in lists.items()))
    cells = "".join(f"<div>{column}</div>" for column in columns)
    return f"<article><h3>study {escape(example.study)} · F1 {match.f1:.3f}</h3>{cells}</article>"


def _paragraph(heading: str, text: str) -> str:
    return f"<h4>{heading}</h4><p>{escape(text)}</p>"


def _picture(pixels: np.ndarray) -> str:
    """An <img> element with the content of [h, w, 3] uint8."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'
