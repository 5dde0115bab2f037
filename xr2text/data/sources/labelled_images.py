"""Radiographs with finding labels and without reports, for training only, beside any source.

FOLDER/labels.csv       image, findings (NIH ChestX-ray14's words, parted by |), view, patient
FOLDER/images/*         frontal radiographs
"""

from collections.abc import Iterator
from pathlib import Path

from xr2text.data.study import FRONTAL, ImageFile, Study
from xr2text.data.tables import read_table
from xr2text.text.findings.table import SIDED_FINDINGS

# Our names of NIH ChestX-ray14's findings.
FINDINGS = {
    "Atelectasis": ("atelectasis",), "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation", "lung opacity"),
    "Edema": ("edema",), "Effusion": ("pleural effusion",), "Emphysema": ("emphysema or hyperinflation",),
    "Fibrosis": ("scarring or fibrosis",), "Hernia": ("hiatal hernia",), "Mass": ("mass", "lung lesion"),
    "Nodule": ("nodule", "lung lesion"), "Pleural_Thickening": ("pleural other",), "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
}  # fmt: skip


def labelled_studies(folder: str | Path) -> Iterator[Study]:
    """A training study for each row of the table."""
    folder = Path(folder)
    absent = {name: 0 for names in FINDINGS.values() for name in names}
    for row in read_table(folder / "labels.csv", ("image", "findings", "view", "patient")).itertuples():
        path = folder / "images" / row.image
        present = {name: 1 for word in row.findings.split("|") for name in FINDINGS.get(word, ())}
        # "Infiltration" is a word for any density: nothing else is then known to be absent. Other words of this
        # collection may go along with an opacity that it has no word for.
        labels = present if "infiltration" in row.findings.lower() else absent | present
        if row.findings != "No Finding" and labels.get("lung opacity") == 0:
            del labels["lung opacity"]
        labels |= {name: 0 for name, (finding, _) in SIDED_FINDINGS.items() if labels.get(finding) == 0}
        yield Study(f"labelled-{path.stem}", f"labelled-{row.patient}", (ImageFile(path, FRONTAL),), labels=labels)
