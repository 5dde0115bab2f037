"""What the readers of several layouts share: tables, image folders, R2Gen's annotation, splits by patient."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from xr2text.data.study import SPLITS, DataError, Faults


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file, also a gzipped one, as text, an empty cell as "".

    Raises:
        DataError: the file or one of the columns is missing.
    """
    if not path.is_file():
        raise DataError(f"expected the table {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from error
    require_columns(path, table.columns, columns)
    return table


def require_columns(path: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises DataError, which names the first missing column."""
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(present)}")


def image_finder(root: Path, faults: Faults) -> Callable[[str], Path]:
    """A function from an image's name to its path, in the first of the usual folders that is there."""
    folders = [root / "images" / "images_normalized", root / "images_normalized", root / "images"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DataError(f"expected the images in one of {', '.join(map(str, folders))}")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def find(name: str) -> Path:
        if name not in present:
            faults.add("missing image", f"{name} is listed but not in {folder}")
        return folder / name

    return find


def hashed_split(patient: str) -> str:
    """80 % train, 10 % val, 10 % test, decided by the patient alone, so that it holds on every machine."""
    tenth = int(hashlib.sha256(f"0:{patient}".encode()).hexdigest(), 16) % 10
    return {0: "val", 1: "test"}.get(tenth, "train")


def name_fraction(patient: str) -> float:
    """A number in [0, 1) that depends on the patient's name alone, whatever split `hashed_split` gives."""
    return int(hashlib.sha256(f"tuning:{patient}".encode()).hexdigest()[:8], 16) / 16**8


def listed_split(split_file: str | None) -> Callable[[str], str]:
    """A function from a patient to the split: R2Gen's, which leaves what it does not list for training, or by hash."""
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
    try:
        annotation = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(annotation, dict) or not annotation.keys() <= set(SPLITS):
        raise DataError(f"{path} must map train, val and test to lists of studies")
    for split, items in annotation.items():
        for item in items:
            if missing := {"id", "report", "image_path"} - item.keys():
                raise DataError(f"{path}: study {item.get('id')!r} in {split} has no {sorted(missing)[0]!r}")
    return annotation


def patient_of(item: dict) -> str:
    """Indiana's study number out of an R2Gen entry, whose id is "CXR2384_IM-0942"; else its subject or its id."""
    number = re.match(r"CXR(\d+)_", str(item["id"]))
    return str(item.get("uid") or (number and number[1]) or item.get("subject_id") or item["id"])
