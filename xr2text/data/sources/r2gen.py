"""The layout of R2Gen and the systems that follow it, for IU X-Ray or MIMIC-CXR.

ROOT/annotation.json            {"train": [{id, report, image_path: [...], ...}], "val": [...], "test": [...]}
ROOT/images/*                   image_path is relative to it
With the two Indiana CSV files beside it, views, impressions and MeSH terms are read from them.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.sources.indiana import COLUMNS, mesh_labels, read_indiana_tables
from xr2text.data.sources.layout import image_folder, patient_of, read_annotation
from xr2text.data.study import Faults, ImageFile, Study
from xr2text.text.sections import clean_section


def r2gen_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """The studies in the split of the annotation."""
    annotation = read_annotation(root / "annotation.json")
    folder = image_folder(root)
    reports, views, mesh = pd.DataFrame(), {}, {}
    if (root / "indiana_reports.csv").is_file():
        reports, images = read_indiana_tables(root)
        reports = reports[~reports.index.duplicated()]
        views = {name: view for pairs in images.values() for name, view in pairs}
        mesh = mesh_labels(reports["Problems"])
    for split, items in annotation.items():
        for item in items:
            uid = patient_of(item)
            row = reports.loc[uid] if uid in reports.index else dict.fromkeys(COLUMNS, "")
            yield Study(
                item["id"], uid, tuple(ImageFile(folder / name, views.get(name)) for name in item["image_path"]),
                clean_section(item["report"]), clean_section(row["impression"]), split, item["report"],
                mesh.get(uid, {}),
            )  # fmt: skip
