"""training_report.md: how a run has gone so far, in pictures, written anew at the end of every epoch.

Letters: K regions, H x W patch grid.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xr2text.anatomy import REGIONS
from xr2text.data.curriculum import Stage
from xr2text.inference.overlay import Canvas, draw_grey, paint
from xr2text.text.sections import ReportText

FOLDER = "report"
BANDS = ("#EEF2F6", "#FFFFFF")
CHANGES = {
    "train loss": "train loss",
    "validation tokens": "validation loss",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "combined": "Combined",
    "findings_f1": "findings F1",
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A validation study's report as the model writes it now.

    Attributes:
        study_id: of the data source.
        radiograph: [S, S] in [0, 1], as the model sees it.
        maps: [K, H, W] attention of each region, summing to 1; None for a model without regions.
        reference: by the radiologist.
        report: by the model.
    """

    study_id: str
    radiograph: np.ndarray
    maps: np.ndarray | None
    reference: ReportText
    report: ReportText


def write_training_report(
    output: Path, name: str, history: pd.DataFrame, stages: Sequence[Stage], samples: Sequence[Sample]
) -> None:
    """Draws `output`/report/*.png and writes `output`/training_report.md, which shows them.

    Args:
        history: history.csv, one row for each epoch.
        stages: of the whole run, also those not yet reached.
    """
    folder = output / FOLDER
    folder.mkdir(exist_ok=True)
    _save(_curves(history, stages, {"train tokens": "training", "validation tokens": "validation"},
                  "cross-entropy per token"), folder / "losses.png")  # fmt: skip
    _save(_curves(history, stages, {"bleu_4": "BLEU-4", "rouge_l": "ROUGE-L", "combined": "Combined"}, "score"),
          folder / "scores.png")  # fmt: skip
    found = {
        "findings_f1": "micro-F1, 14 findings",
        "findings_f1_5": "micro-F1, 5 findings",
        "finding_auc": "head's mean AUC",
    }
    _save(_curves(history, stages, found, "score"), folder / "findings.png")
    _save(_terms(history, stages), folder / "terms.png")
    _save(_resources(history, stages), folder / "resources.png")
    regional = f"region {REGIONS[0].name}" in history
    if regional:
        _save(_regions(history, stages), folder / "regions.png")
    for place, sample in enumerate(samples):
        _save_picture(_overlaid(sample), folder / f"sample-{place + 1}.png")

    done, total = int(history["epoch"].iloc[-1]), stages[-1].last_epoch + 1
    best = history.loc[history["score"].idxmax()]
    lines = [
        f"# {name}: epoch {done} of {total}", "",
        f"Best so far: epoch {int(best['epoch'])} ({best['stage']}), Combined {best['combined']:.4f} "
        f"(BLEU-4 {best['bleu_4']:.4f} + ROUGE-L {best['rouge_l']:.4f}).", "",
        "![Cross-entropy per token, training and validation](report/losses.png)", "",
        "![BLEU-4, ROUGE-L and Combined](report/scores.png)", "",
        "![Findings in the reports, and the finding head](report/findings.png)", "",
        "## From stage to stage", "", _transitions(history), "",
        "## Loss terms", "", "![Each term of the loss](report/terms.png)", "",
    ]  # fmt: skip
    if regional:
        lines += ["## Region weights", "", "The router's mean weight of each region; equal weights are 1/7.", "",
                  "![Mean weight of each region](report/regions.png)", ""]  # fmt: skip
    lines += ["## Speed and memory", "", "![Samples a second and peak memory](report/resources.png)", "",
              "## Sample reports", ""]  # fmt: skip
    for place, sample in enumerate(samples):
        lines += [
            f"### {sample.study_id}", "", f"![{sample.study_id} with its regions](report/sample-{place + 1}.png)", "",
            f"**Radiologist.** {sample.reference.findings} *{sample.reference.impression}*", "",
            f"**Model.** {sample.report.findings} *{sample.report.impression}*", "",
        ]  # fmt: skip
    draft = output / ".training_report.draft"
    draft.write_text("\n".join(lines))
    os.replace(draft, output / "training_report.md")


def _transitions(history: pd.DataFrame) -> str:
    """What the first epoch of each stage changed against the last one before it."""
    lines = [f"| from | to | epoch | {' | '.join(CHANGES.values())} |", "|---|---|---:|" + "---:|" * len(CHANGES)]
    for (_, before), (_, after) in zip(history.iloc[:-1].iterrows(), history.iloc[1:].iterrows(), strict=True):
        if before["stage"] != after["stage"]:
            cells = (f"{before[key]:.3f} → {after[key]:.3f} ({after[key] - before[key]:+.3f})" for key in CHANGES)
            lines.append(f"| {before['stage']} | {after['stage']} | {int(after['epoch'])} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "No stage has ended yet."


def _figure(rows: int = 1, columns: int = 1, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    return figure, axes


def _bands(axes: Axes, stages: Sequence[Stage], named: bool = True) -> None:
    """The stages behind the curves; epochs count from 1."""
    for place, stage in enumerate(stages):
        left, right = stage.first_epoch + 0.5, stage.last_epoch + 1.5
        axes.axvspan(left, right, color=BANDS[place % 2], zorder=0, lw=0)
        if named:
            axes.text((left + right) / 2, 1.01, stage.name, transform=axes.get_xaxis_transform(), ha="center",
                      va="bottom", fontsize=8, color="#555555")  # fmt: skip
    axes.set_xlim(0.5, stages[-1].last_epoch + 1.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#DDDDDD", lw=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _curves(history: pd.DataFrame, stages: Sequence[Stage], columns: dict[str, str], unit: str) -> Figure:
    figure, (axes,) = _figure()
    _bands(axes, stages)
    for column, label in columns.items():
        if column in history:
            axes.plot(history["epoch"], history[column], marker="o", ms=3, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.legend(frameon=False)
    return figure


def _terms(history: pd.DataFrame, stages: Sequence[Stage]) -> Figure:
    columns = [column for column in history if column.startswith("train ")]
    figure, all_axes = _figure(-(-len(columns) // 3), 3, height=2.0)
    for axes, column in zip(all_axes, columns, strict=False):
        _bands(axes, stages, named=False)
        axes.plot(history["epoch"], history[column], marker="o", ms=2.5)
        axes.set_title(column.removeprefix("train "), fontsize=9)
    for axes in all_axes[len(columns) :]:
        axes.set_visible(False)
    return figure


def _regions(history: pd.DataFrame, stages: Sequence[Stage]) -> Figure:
    figure, (axes,) = _figure()
    _bands(axes, stages)
    for region in REGIONS:
        axes.plot(history["epoch"], history[f"region {region.name}"], marker="o", ms=3, color=region.colour,
                  label=region.name)  # fmt: skip
    axes.axhline(1 / len(REGIONS), color="#999999", lw=0.8, ls=":")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean weight")
    axes.legend(frameon=False, fontsize=8, ncols=4)
    return figure


def _resources(history: pd.DataFrame, stages: Sequence[Stage]) -> Figure:
    figure, all_axes = _figure(1, 2, height=2.6)
    titles = {"samples_per_second": "samples a second", "peak_memory_gib": "peak memory, GiB"}
    for axes, (column, title) in zip(all_axes, titles.items(), strict=True):
        _bands(axes, stages, named=False)
        axes.plot(history["epoch"], history[column], marker="o", ms=3)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=9)
    return figure


def _overlaid(sample: Sample, side: int = 512) -> np.ndarray:
    """[side, side, 3] uint8, the radiograph beside itself with the regions' attention over it."""
    grey = draw_grey(sample.radiograph, side)
    plain = np.repeat(grey[..., None], 3, axis=2)
    if sample.maps is None:
        return plain
    scaled = sample.maps / sample.maps.max(axis=(1, 2), keepdims=True) * 255
    maps = np.stack([cv2.resize(one, grey.shape[::-1], interpolation=cv2.INTER_LINEAR) for one in scaled])
    return np.concatenate([plain, paint(Canvas(grey, maps.astype(np.uint8)))], axis=1)


def _save(figure: Figure, path: Path) -> None:
    """Drawn beside the picture before, which stays whole until then."""
    draft = path.with_name(f".{path.name}")
    figure.savefig(draft, format="png", dpi=100)
    os.replace(draft, path)


def _save_picture(pixels: np.ndarray, path: Path) -> None:
    draft = path.with_name(f".draft-{path.name}")
    cv2.imwrite(str(draft), pixels[..., ::-1])
    os.replace(draft, path)
