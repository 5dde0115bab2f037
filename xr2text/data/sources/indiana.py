"""The Indiana University collection of chest radiographs (Open-i) in Kaggle's layout.

ROOT/indiana_reports.csv        uid, findings, impression, Problems (MeSH terms that people chose, in lower case here,
                                or "normal")
ROOT/indiana_projections.csv    uid, filename, projection (Frontal or Lateral)
ROOT/images/*                   or ROOT/images/images_normalized/*, ROOT/images_normalized/*
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.sources.layout import image_folder, listed_split
from xr2text.data.study import Faults, ImageFile, Study
from xr2text.data.tables import read_table
from xr2text.text.sections import clean_section

COLUMNS = ("uid", "findings", "impression", "Problems")


def indiana_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """The studies that have images."""
    reports, images = read_indiana_tables(root)
    folder, split_of, mesh = image_folder(root), listed_split(config.split_file), mesh_labels(reports["Problems"])
    doubled = reports.index.duplicated()
    for uid in reports.index[doubled].unique():
        faults.add("duplicate study", f"{root / 'indiana_reports.csv'} lists study {uid!r} more than once")
    for uid, row in reports[~doubled].iterrows():
        if uid in images:
            yield Study(
                uid, uid, tuple(ImageFile(folder / name, view) for name, view in images[uid]),
                clean_section(row["findings"]), clean_section(row["impression"]), split_of(uid), row["findings"],
                mesh[uid],
            )  # fmt: skip


def read_indiana_tables(root: Path) -> tuple[pd.DataFrame, dict[str, list[tuple[str, str]]]]:
    """Reports by uid, and by uid the list of (file name, view), frontal first."""
    reports = read_table(root / "indiana_reports.csv", COLUMNS)
    return reports.set_index("uid"), read_projections(root / "indiana_projections.csv")


def read_projections(path: Path) -> dict[str, list[tuple[str, str]]]:
    """By uid the list of (file name, view), frontal first."""
    projections = read_table(path, ("uid", "filename", "projection"))
    images: dict[str, list[tuple[str, str]]] = {}
    for row in projections.sort_values(["projection", "filename"]).itertuples():
        images.setdefault(row.uid, []).append((row.filename, row.projection.lower()))
    return images


def mesh_labels(problems: pd.Series) -> dict[str, dict[str, int]]:
    """By uid, a label for each term that occurs in any study's "Problems" (separated by semicolons): 1 where this study
    has it, else 0.

    Nothing is known of a study that nobody indexed.
    """
    named = {uid: {term.strip().lower() for term in cell.split(";")} - {""} for uid, cell in problems.items()}
    every = sorted(set().union(*named.values()) - {"normal", "no indexing"})
    return {
        uid: {} if not terms or "no indexing" in terms else {term: int(term in terms) for term in every}
        for uid, terms in named.items()
    }
