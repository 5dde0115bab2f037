"""A page of studies: radiographs with what the reports say of them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xr2text.data.study import SPLITS, Study, UnreadableImageError
from xr2text.imaging.transform import letterbox

COLUMNS, ROWS, SIDE = 4, 3, 256
WIDTH, LINES = 44, 9  # letters of a line, and lines, under a radiograph


def draw_page(splits: dict[str, Sequence[Study]], path: Path) -> None:
    """Writes a PNG of up to twelve studies, evenly from all splits; one whose image cannot be read says so.

    Shown of a study are its id, split, view, picture and report, nothing of the patient.
    """
    studies = [study for split in SPLITS for study in splits[split] if study.images]
    count = min(COLUMNS * ROWS, len(studies))
    chosen = [studies[round(place * (len(studies) - 1) / max(count - 1, 1))] for place in range(count)]
    figure = Figure(figsize=(COLUMNS * 3.2, ROWS * 4.6), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    for place, study in enumerate(chosen, start=1):
        axes = figure.add_subplot(ROWS, COLUMNS, place)
        axes.set_axis_off()
        image = (study.frontal_images or study.images)[0]
        axes.set_title(f"{study.id[:30]}\n{study.split}, {image.view or 'view unknown'}", fontsize=8)
        try:
            axes.imshow(letterbox(image.read().pixels, SIDE)[0], cmap="gray", vmin=0, vmax=1)
        except UnreadableImageError:
            axes.text(0.5, 0.5, "not readable", ha="center", fontsize=9, color="#B00020", transform=axes.transAxes)
        text = f"{study.findings} / {study.impression}" if study.impression else study.findings
        lines = textwrap.wrap(text or "no report", WIDTH)
        lines = lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: WIDTH - 3] + " ..."]
        axes.text(
            0, -0.03, "\n".join(lines).replace("$", r"\$"), va="top", fontsize=7, transform=axes.transAxes, wrap=False
        )
    figure.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.11, hspace=0.6, wspace=0.08)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
