"""PhysioNet's MIMIC-CXR-JPG, with the reports of MIMIC-CXR.

ROOT/mimic-cxr-2.0.0-split.csv.gz       dicom_id, study_id, subject_id, split (train, validate, test)
ROOT/mimic-cxr-2.0.0-metadata.csv.gz    dicom_id, ..., ViewPosition
ROOT/files/p10/p10000032/s50414267/*.jpg
ROOT/files/p10/p10000032/s50414267.txt  or below ROOT/mimic-cxr-reports/ or ROOT/../mimic-cxr-reports/, or still packed
                                        in mimic-cxr-reports.zip there
A part of the download will do, with the rows of the two tables that belong to it.
"""

import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.study import FRONTAL, LATERAL, DataError, Faults, ImageFile, Study
from xr2text.data.tables import read_table
from xr2text.text.sections import clean_section, find_sections

VIEWS = {"PA": FRONTAL, "AP": FRONTAL, "LATERAL": LATERAL, "LL": LATERAL}  # ViewPosition; others are None
_ORDER = {"PA": 0, "AP": 1, "LATERAL": 3, "LL": 3}  # order within a study; a radiograph of unknown view has 2
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_KEYS = ("dicom_id", "subject_id", "study_id")


def mimic_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """The studies of the official split, the sections found in their free text. No image file is touched."""
    metadata = read_table(_table(root, "metadata"), (*_KEYS, "ViewPosition"))
    table = read_table(_table(root, "split"), (*_KEYS, "split"))
    if not (root / "files").is_dir():
        raise DataError(f"expected the images in {root / 'files'}/p10/p10000032/s50414267/*.jpg")
    unknown = table["split"][~table["split"].isin(_SPLITS)]
    if len(unknown):
        raise DataError(f"{_table(root, 'split')}: split is {unknown.iloc[0]!r}; accepted: {', '.join(_SPLITS)}")
    _check_one_split(table, faults)
    table = table.merge(metadata[["dicom_id", "ViewPosition"]], "left", on="dicom_id").fillna("")
    table["order"] = table["ViewPosition"].map(_ORDER).fillna(2)
    table = table.drop_duplicates("dicom_id").sort_values(["subject_id", "study_id", "order", "dicom_id"])
    reports = _reports(root)
    for (subject, study), group in groupby(table.itertuples(), lambda row: (row.subject_id, row.study_id)):
        rows, folder = list(group), f"p{subject[:2]}/p{subject}"
        report = reports / folder / f"s{study}.txt"
        found = find_sections(report.read_text(encoding="utf-8", errors="replace") if report.is_file() else "")
        files = [root / "files" / folder / f"s{study}" / f"{row.dicom_id}.jpg" for row in rows]
        split, views = _SPLITS[rows[0].split], [VIEWS.get(row.ViewPosition) for row in rows]
        yield Study(
            study, subject, tuple(map(ImageFile, files, views)), clean_section(found["findings"]),
            clean_section(found["impression"]), split, found["findings"],
        )  # fmt: skip


def _table(root: Path, name: str) -> Path:
    """mimic-cxr-2.0.0-NAME.csv.gz, of any version, gzipped or not."""
    found = sorted(root.glob(f"mimic-cxr-*-{name}.csv*"))
    return found[-1] if found else root / f"mimic-cxr-2.0.0-{name}.csv.gz"


def _check_one_split(table: pd.DataFrame, faults: Faults) -> None:
    """Reports a study whose images stand in two splits; it would become two studies."""
    counts = table.groupby("study_id")["split"].nunique()
    for study in counts[counts > 1].index:
        names = sorted(_SPLITS[name] for name in set(table.loc[table["study_id"] == study, "split"]))
        faults.add("two splits", f"study {study!r} stands in {' and in '.join(names)}")


def _reports(root: Path) -> Path | zipfile.Path:
    """The folder, or the one in an archive, that holds p10/p10000032/s50414267.txt and so on."""
    places = [root / "mimic-cxr-reports", root.parent / "mimic-cxr-reports", root]
    for folder in places:
        if next((folder / "files").glob("p*/p*/s*.txt"), None):
            return folder / "files"
    archives = [place.with_suffix(".zip") for place in places[:2]]
    archive = next((archive for archive in archives if archive.is_file()), None)
    if archive is None:
        names = ", ".join(f"{place / 'files'}/p10/p10000032/s50414267.txt" for place in places)
        raise DataError(f"expected MIMIC-CXR's reports in one of {names}, or {archives[0]}")
    try:
        return zipfile.Path(archive, "files/")
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is damaged: {error}") from error
