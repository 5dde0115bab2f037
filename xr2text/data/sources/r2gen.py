"""The layout of R2Gen and the systems that follow it: one annotation.json for IU X-Ray or MIMIC-CXR."""

from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.sources.annotation import read_annotation, uid_of
from xr2text.data.sources.indiana import COLUMNS, mesh_labels, read_indiana_tables
from xr2text.data.study import Faults, ImageFile, Study
from xr2text.data.tables import image_finder
from xr2text.text.sections import clean_section


def r2gen_studies(root: Path, config: DataConfig, faults: Faults) -> list[Study]:
    """The studies in their own split, with views and impressions where the Indiana tables lie beside."""
    annotation = read_annotation(root / "annotation.json")
    find = image_finder(root, faults)
    reports, views, mesh = pd.DataFrame(), {}, {}
    if (root / "indiana_reports.csv").is_file():
        reports, images = read_indiana_tables(root)
        reports = reports[~reports.index.duplicated()]
        views = {name: view for pairs in images.values() for name, view in pairs}
        mesh = mesh_labels(reports["Problems"])
    studies = []
    for split, items in annotation.items():
        for item in items:
            uid = uid_of(item)
            row = reports.loc[uid] if uid in reports.index else dict.fromkeys(COLUMNS, "")
            files = tuple(ImageFile(find(name), views.get(name)) for name in item["image_path"])
            findings, impression = clean_section(item["report"]), clean_section(row["impression"])
            studies.append(
                Study(
                    str(item["id"]), uid, files, findings, impression, row["indication"], row["comparison"], split,
                    item["report"], mesh.get(uid, {}),
                )
            )  # fmt: skip
    return studies
