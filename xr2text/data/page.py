"""A page of studies: radiographs with what the reports say of them."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from xr2text.data.study import UnreadableImageError
from xr2text.data.study_table import StudyTable
from xr2text.imaging.transform import letterbox

COLUMNS, ROWS, SIDE = 4, 3, 256


def draw_page(splits: dict[str, StudyTable], path: Path) -> None:
    """Writes a PNG of up to twelve studies, evenly from all splits; one whose image cannot be read says so.

    Shown of a study are its id, split, view, image and report, nothing of the patient.
    """
    places = [(split, row) for split, studies in splits.items() for row in range(len(studies))]
    count = min(COLUMNS * ROWS, len(places))
    figure = Figure(figsize=(COLUMNS * 3.2, ROWS * 4.6), dpi=100)
    for number in range(count):
        split, row = places[round(number * (len(places) - 1) / max(count - 1, 1))]
        study = splits[split][row]
        axes = figure.add_subplot(ROWS, COLUMNS, number + 1)
        axes.set_axis_off()
        image = study.main_image
        axes.set_title(f"{study.id[:30]}\n{study.split}, {image.view or 'view unknown'}", fontsize=8)
        try:
            axes.imshow(letterbox(image.read().pixels, SIDE)[0], cmap="gray", vmin=0, vmax=1)
        except UnreadableImageError:
            axes.text(0.5, 0.5, "not readable", ha="center", color="#B00020", transform=axes.transAxes)
        report = f"{study.findings} / {study.impression}".strip(" /") or "no report"
        text = textwrap.fill(report, 44, max_lines=9, placeholder=" ...").replace("$", r"\$")
        axes.text(0, -0.03, text, va="top", fontsize=7, transform=axes.transAxes)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.11, hspace=0.6, wspace=0.08)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
