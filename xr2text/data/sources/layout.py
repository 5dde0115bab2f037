"""Shared by several readers: image folders, R2Gen's annotation, splits by patient."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xr2text.data.study import SPLITS, DataError
from xr2text.data.study_table import StudyTable
from xr2text.data.tables import read_json, text_value

REPLAYED = "replayed-"  # prefix of replayed studies and patients, which are for training only


def image_folder(root: Path) -> Path:
    """The first of the usual folders that is there. Raises DataError where none is."""
    folders = [root / "images" / "images_normalized", root / "images_normalized", root / "images"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DataError(f"expected the images in one of {', '.join(map(str, folders))}")
    return folder


def hashed_split(patient: str) -> str:
    """Assigns 80 % of the patients to train, 10 % to val and 10 % to test by a hash of their names, on every machine
    alike."""
    tenth = int(hashlib.sha256(f"0:{patient}".encode()).hexdigest(), 16) % 10
    return {0: "val", 1: "test"}.get(tenth, "train")


def name_fraction(patient: str) -> float:
    """A number in [0, 1) from a hash of the patient's name, independent of `hashed_split`."""
    return int(hashlib.sha256(f"tuning:{patient}".encode()).hexdigest()[:8], 16) / 16**8


def set_apart(studies: StudyTable, fraction: float, fold: int = 0) -> dict[str, StudyTable]:
    """Splits training studies into "train" and "val". Validation takes `fraction` of the patients who have a study with
    findings, by a hash of their names, and no patient is in two folds. The other studies of these patients are left
    out."""
    patients, counts = np.array(studies.column("patient").to_pylist(), str), studies.text_lengths("findings")
    chosen = np.array([int(name_fraction(name) / fraction) == fold for name in patients], bool) & (counts > 0)
    chosen &= ~np.char.startswith(patients, REPLAYED)
    return {"train": studies.select(~np.isin(patients, patients[chosen])), "val": studies.select(chosen)}


def listed_split(split_file: str | None) -> Callable[[str], str]:
    """A function from a patient to the split. With R2Gen's file, patients that it does not list are for training;
    without it, the split is hashed."""
    if split_file is None:
        return hashed_split
    path = Path(split_file)
    listed: dict[str, str] = {}
    for split, items in read_annotation(path).items():
        for item in items:
            patient = patient_of(item)
            if listed.setdefault(patient, split) != split:
                raise DataError(f"{path}: patient {patient!r} stands in {listed[patient]} and in {split}")
    return lambda patient: listed.get(patient, "train")


def read_annotation(path: Path) -> dict[str, list[dict]]:
    """R2Gen's annotation.json: studies by split, each with id, report and image_path.

    Raises:
        DataError: it names what is missing.
    """
    if not path.is_file():
        raise DataError(f"expected R2Gen's annotation file {path}")
    annotation = read_json(path)
    lists = isinstance(annotation, dict) and all(isinstance(items, list) for items in annotation.values())
    if not lists or not annotation.keys() <= set(SPLITS):
        raise DataError(f"{path} must map train, val and test to lists of studies")
    return {
        split: [_checked(item, f"{path}: entry {number} of {split}") for number, item in enumerate(items, start=1)]
        for split, items in annotation.items()
    }


def _checked(item: dict, where: str) -> dict:
    if not isinstance(item, dict):
        raise DataError(f"{where} is not a JSON object")
    where = f"{where}, study {item.get('id')!r}"
    if missing := {"id", "report", "image_path"} - item.keys():
        raise DataError(f"{where}, has no {sorted(missing)[0]!r}")
    names = item["image_path"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: 'image_path' is not a list of texts, the images' names")
    return item | {name: text_value(item[name], where, name) for name in ("id", "report")}


def patient_of(item: dict) -> str:
    """The patient of an R2Gen entry: its uid, else Indiana's study number in an id such as "CXR2384_IM-0942", else its
    subject or id."""
    number = re.match(r"CXR(\d+)_", str(item["id"]))
    return str(item.get("uid") or (number and number[1]) or item.get("subject_id") or item["id"])
