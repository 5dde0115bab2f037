"""The training report: history.csv, the trackers, training_report.md with its pictures, and the validation reports.

Shapes: S image side, K regions, H x W patch grid.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure

from xr2text.anatomy import REGIONS
from xr2text.config import Config
from xr2text.data.curriculum import Stage
from xr2text.data.dataset import ReportDataset
from xr2text.data.study import Study
from xr2text.files import atomic_write
from xr2text.inference.overlay import Canvas, draw_grey, paint
from xr2text.text.sections import ReportText

BANDS = ("#EEF2F6", "#FFFFFF")  # background of the curves, alternating by stage
SCORES = {
    "combined": "Combined", "bleu_4": "BLEU-4", "rouge_l": "ROUGE-L", "findings_f1": "findings F1",
    "finding_auc": "mean AUC of the head",
}  # fmt: skip
CHANGES = {"train loss": "train loss", "validation ce": "validation loss", **SCORES}
COLOURS = {f"region {region.name}": region.colour for region in REGIONS}
Panel = tuple[str, dict[str, str]]  # a title, and the columns of history.csv that it shows with their labels


@dataclass(frozen=True, eq=False)
class Sample:
    """A validation study: its radiograph [S, S] in [0, 1], the regions' attention [K, H, W] (None without regions), and
    the model's report of it (None where no reports are learned)."""

    study: Study
    radiograph: np.ndarray
    maps: np.ndarray | None
    report: ReportText | None


def write_epoch(
    config: Config, stages: Sequence[Stage], figures: dict, samples: Sequence[Sample], accelerator: Accelerator
) -> None:
    """Writes an epoch to the log, the trackers, history.csv and training_report.md.

    Args:
        stages: of the whole run, also those not yet reached.
        figures: of the epoch, by column of history.csv; "epoch" counts from 1.
    """
    stage = next(stage.name for stage in stages if stage.first_epoch < figures["epoch"] <= stage.last_epoch + 1)
    row = {"epoch": figures["epoch"], "stage": stage, **figures, "peak_memory_gib": round(peak_memory(), 3)}
    numbers = {name: value for name, value in row.items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items() if not name.startswith("region "))
    accelerator.print(f"epoch {row['epoch']} ({stage}): {shown}")
    accelerator.log({name.replace(" ", "/", 1): value for name, value in numbers.items()}, step=row["epoch"])
    if accelerator.is_main_process:
        output = Path(config.output)
        write_training_report(output, config.name, append_history(output / "history.csv", row), stages, samples)


def peak_memory() -> float:
    """Peak memory of this process in GiB, on the GPU where there is one, else on the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return math.nan
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def append_history(path: Path, row: dict) -> pd.DataFrame:
    """Adds an epoch to history.csv and returns the whole table. A resumed run that repeats an epoch replaces its
    row."""
    rows = pd.DataFrame([row])
    if path.is_file():
        before = pd.read_csv(path)
        rows = pd.concat([before[before["epoch"] != row["epoch"]], rows], ignore_index=True)
    with atomic_write(path) as draft:
        rows.to_csv(draft, index=False)
    return rows


def best_epoch(history: pd.DataFrame) -> pd.Series:
    """The row of history.csv whose weights were kept: highest score, then lowest validation loss where there is one,
    then the earliest."""
    order = {"score": False} | ({"validation ce": True} if "validation ce" in history else {})
    return history.sort_values([*order], ascending=[*order.values()], kind="stable").iloc[0]


def write_table(path: Path, data: ReportDataset, reports: dict[int, ReportText]) -> None:
    """Writes validation_reports.csv: the reference and generated sections of each study."""
    columns = ("id", "reference_findings", "reference_impression", "findings", "impression")
    pairs = [(data.examples[index][0], report) for index, report in sorted(reports.items())]
    rows = [(study.id, study.findings, study.impression, report.findings, report.impression) for study, report in pairs]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def write_training_report(
    output: Path, name: str, history: pd.DataFrame, stages: Sequence[Stage], samples: Sequence[Sample]
) -> None:
    """Draws `output`/report/*.png and writes `output`/training_report.md, which shows them."""
    best = best_epoch(history)
    lines = [
        f"# {name}: epoch {int(history['epoch'].iloc[-1])} of {stages[-1].last_epoch + 1}",
        ", ".join(
            [
                f"Best so far: epoch {int(best['epoch'])} ({best['stage']})",
                *(f"{label} {best[column]:.4f}" for column, label in SCORES.items() if column in best),
            ]
        )
        + ".",
        _transitions(history),
    ]
    for heading, panels in _pictures(history).items():
        file = f"report/{heading.split()[0].strip(':').lower()}.png"
        with atomic_write(output / file) as draft:
            _draw(history, stages, panels).savefig(draft, format="png", dpi=100)
        lines += [f"## {heading}", f"![{heading}]({file})"]
    lines.append("## Samples")
    for number, sample in enumerate(samples, 1):
        study, file = sample.study, f"report/sample-{number}.png"
        with atomic_write(output / file) as draft:
            cv2.imencode(".png", _overlaid(sample)[..., ::-1])[1].tofile(draft)
        lines += [
            f"### {study.id}",
            f"![{study.id} with its regions]({file})",
            f"**Radiologist.** {study.findings} *{study.impression}*",
        ]
        if sample.report is not None:
            lines.append(f"**Model.** {sample.report.findings} *{sample.report.impression}*")
    with atomic_write(output / "training_report.md") as draft:
        draft.write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def _transitions(history: pd.DataFrame) -> str:
    """How the scores changed from the last epoch of each stage to the first of the next."""
    changes = {column: label for column, label in CHANGES.items() if column in history}
    lines = [f"| from | to | epoch | {' | '.join(changes.values())} |", "|---|---|---:|" + "---:|" * len(changes)]
    for (_, before), (_, after) in zip(history.iloc[:-1].iterrows(), history.iloc[1:].iterrows(), strict=True):
        if before["stage"] != after["stage"]:
            cells = (f"{before[key]:.3f} → {after[key]:.3f} ({after[key] - before[key]:+.3f})" for key in changes)
            lines.append(f"| {before['stage']} | {after['stage']} | {int(after['epoch'])} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "No stage has ended yet."


def _pictures(history: pd.DataFrame) -> dict[str, list[Panel]]:
    """The panels of each picture, by heading."""
    terms = [column for column in history if column.startswith("train ")]
    return {
        "Curves": [
            ("cross-entropy per token", {"train ce": "training", "validation ce": "validation"}),
            ("language of reports", {"bleu_4": "BLEU-4", "rouge_l": "ROUGE-L", "combined": "Combined"}),
            ("findings", {"findings_f1": "F1 of 14", "findings_f1_5": "F1 of 5", "finding_auc": "AUC of the head"}),
            ("mean region weights; equal ones are 1/7", {f"region {region.name}": region.name for region in REGIONS}),
            ("samples a second", {"samples_per_second": ""}),
            ("peak memory, GiB", {"peak_memory_gib": ""}),
        ],
        "Terms of the loss": [(term.removeprefix("train "), {term: ""}) for term in terms],
    }


def _draw(history: pd.DataFrame, stages: Sequence[Stage], panels: Sequence[Panel]) -> Figure:
    panels = [(title, columns) for title, columns in panels if not history.columns.intersection(columns).empty]
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9, 2.4 * rows), layout="tight")
    all_axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, (title, shown) in zip(all_axes, panels, strict=False):
        for place, stage in enumerate(stages):  # epochs count from 1
            axes.axvspan(stage.first_epoch + 0.5, stage.last_epoch + 1.5, color=BANDS[place % 2], zorder=0, lw=0)
            axes.text((stage.first_epoch + stage.last_epoch) / 2 + 1, 1.01, stage.name, ha="center", va="bottom",
                      transform=axes.get_xaxis_transform(), fontsize=7, color="#555555")  # fmt: skip
        for column, label in shown.items():
            if column in history:
                axes.plot(history["epoch"], history[column], marker="o", ms=3, label=label, color=COLOURS.get(column))
        if len(shown) > 1 and axes.lines:
            axes.legend(frameon=False, fontsize=7)
        axes.set_title(title, fontsize=9, pad=14)
        axes.set_xlim(0.5, stages[-1].last_epoch + 1.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color="#DDDDDD", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    return figure


def _overlaid(sample: Sample, side: int = 512) -> np.ndarray:
    """[side, side or 2 * side, 3] uint8: the radiograph, with the regions' attention over it to its right."""
    grey = draw_grey(sample.radiograph, side)
    plain = np.repeat(grey[..., None], 3, axis=2)
    if sample.maps is None:
        return plain
    scaled = sample.maps / sample.maps.max(axis=(1, 2), keepdims=True) * 255
    maps = np.stack([cv2.resize(attention, (side, side), interpolation=cv2.INTER_LINEAR) for attention in scaled])
    return np.concatenate([plain, paint(Canvas(grey, maps.astype(np.uint8)))], axis=1)
