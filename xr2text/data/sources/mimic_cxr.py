"""MIMIC-CXR-JPG as PhysioNet gives it, with MIMIC-CXR's reports."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.study import FRONTAL, LATERAL, DataError, Faults, ImageFile, Study
from xr2text.data.tables import read_table
from xr2text.text.sections import clean_section, find_sections

VIEWS = {"PA": FRONTAL, "AP": FRONTAL, "LATERAL": LATERAL, "LL": LATERAL}  # ViewPosition; others are None
_ORDER = {"PA": 0, "AP": 1, "LATERAL": 3, "LL": 3}  # within a study; a film of unknown view stands between
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_KEYS = ["dicom_id", "subject_id", "study_id"]


def mimic_studies(root: Path, config: DataConfig, faults: Faults) -> list[Study]:
    """The studies of the official split, the sections found in their free text. No image file is touched."""
    metadata = read_table(_table(root, "metadata"), (*_KEYS, "ViewPosition"))
    splits = read_table(_table(root, "split"), (*_KEYS, "split"))
    if not (root / "files").is_dir():
        raise DataError(f"expected the images in {root / 'files'}/p10/p10000032/s50414267/*.jpg")
    table = splits.merge(metadata[["dicom_id", "ViewPosition"]], "left", on="dicom_id").fillna("")
    unknown = table[~table["split"].isin(_SPLITS)]
    if len(unknown):
        raise DataError(
            f"{_table(root, 'split')}: split is {unknown['split'].iloc[0]!r}; accepted: {', '.join(_SPLITS)}"
        )
    table["split"], table["order"] = table["split"].map(_SPLITS), table["ViewPosition"].map(_ORDER).fillna(2)
    _check_one_split(table, faults)
    table = table.drop_duplicates("dicom_id").sort_values(["subject_id", "study_id", "order", "dicom_id"])
    read, studies = _report_reader(root), []
    for (subject, study), rows in table.groupby(["subject_id", "study_id"], sort=False):
        folder = Path(f"p{subject[:2]}") / f"p{subject}"
        images = tuple(
            ImageFile(root / "files" / folder / f"s{study}" / f"{name}.jpg", VIEWS.get(view))
            for name, view in zip(rows["dicom_id"], rows["ViewPosition"], strict=True)
        )
        found = find_sections(read(f"{folder.as_posix()}/s{study}.txt"))
        studies.append(
            Study(
                study, subject, images, clean_section(found["findings"]), clean_section(found["impression"]),
                found["indication"], found["comparison"], rows["split"].iloc[0], found["findings"],
            )
        )  # fmt: skip
    return studies


def _table(root: Path, kind: str) -> Path:
    """mimic-cxr-2.0.0-KIND.csv.gz, of any version, gzipped or not."""
    found = sorted(root.glob(f"mimic-cxr-*-{kind}.csv*"))
    return found[-1] if found else root / f"mimic-cxr-2.0.0-{kind}.csv.gz"


def _check_one_split(table: pd.DataFrame, faults: Faults) -> None:
    """A study in two splits, which would become two studies."""
    counts = table.groupby("study_id")["split"].nunique()
    for study in counts[counts > 1].index:
        names = sorted(set(table.loc[table["study_id"] == study, "split"]))
        faults.add("two splits", f"study {study!r} stands in {' and in '.join(names)}")


def _report_reader(root: Path) -> Callable[[str], str]:
    """A function from pNN/pSUBJECT/sSTUDY.txt to a report's text, "" where there is none."""
    archives = [root / "mimic-cxr-reports.zip", root.parent / "mimic-cxr-reports.zip"]
    folders = [one / "files" for one in (root / "mimic-cxr-reports", root.parent / "mimic-cxr-reports", root)]
    folder = next((one for one in folders if next(one.glob("p*/p*/s*.txt"), None)), None)
    if folder is not None:

        def read(name: str) -> str:
            path = folder / name
            return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

        return read
    archive = next((one for one in archives if one.is_file()), None)
    if archive is None:
        places = ", ".join(f"{one}/p10/p10000032/s50414267.txt" for one in folders)
        raise DataError(f"expected MIMIC-CXR's reports in one of {places}, or {archives[0]}")
    try:
        opened = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    present = set(opened.namelist())

    def read_packed(name: str) -> str:
        name = f"files/{name}"
        return opened.read(name).decode("utf-8", errors="replace") if name in present else ""

    return read_packed
