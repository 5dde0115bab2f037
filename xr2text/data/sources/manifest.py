"""A table of your own: a CSV file, or JSON lines.

ROOT    manifest.csv or manifest.jsonl, a folder that holds one, or any .csv, .tsv or .jsonl file
A row for each image, paths relative to it: id, image, findings; if there: impression, patient, view (frontal, PA, AP,
lateral or LL), split (train, val, test). In JSON lines, image and view may be lists.
Where no row names a split and so few patients leave none for validation, some are taken for it.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from xr2text.config import DataConfig
from xr2text.data.sources.layout import hashed_split
from xr2text.data.study import FRONTAL, LATERAL, SPLITS, DataError, Faults, ImageFile, Study
from xr2text.data.tables import read_json_lines, read_table, text_value
from xr2text.text.sections import clean_section

REQUIRED = ("id", "image", "findings")
OPTIONAL = ("impression", "patient", "view", "split")
_VIEWS = {"": None, "frontal": FRONTAL, "pa": FRONTAL, "ap": FRONTAL, "lateral": LATERAL, "ll": LATERAL}


def manifest_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """A row for each image; the rows of one id are one study, whose other columns agree."""
    path = _file(root)
    studies: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path):
        studies.setdefault(row["id"], []).append(row)
    split_of = _splits(list(studies.values()))
    return (_study(path, rows, split_of, faults) for rows in studies.values())


def _splits(studies: list[list[dict[str, str]]]) -> Callable[[str], str]:
    """A function from a patient to the split where the table names none: hashed. Where that leaves nobody for
    validation, a tenth of the patients, at least one, is taken from those with findings."""
    split_of = {_patient(rows[0]): rows[0]["split"] or hashed_split(_patient(rows[0])) for rows in studies}
    if "val" not in split_of.values() and not any(rows[0]["split"] for rows in studies):
        reported = {_patient(rows[0]) for rows in studies if rows[0]["findings"].strip()}
        chosen = sorted(reported, key=lambda patient: hashlib.sha256(patient.encode()).digest())
        split_of |= dict.fromkeys(chosen[: max(1, len(split_of) // 10)], "val")
    return split_of.__getitem__


def _patient(row: dict[str, str]) -> str:
    return row["patient"] or row["id"]


def _study(path: Path, rows: list[dict[str, str]], split_of: Callable[[str], str], faults: Faults) -> Study:
    first = rows[0]
    for name in ("patient", "split", "findings", "impression"):
        if any(row[name] != first[name] for row in rows):
            fault = "two splits" if name == "split" else "bad entry"
            values = " and ".join(repr(value) for value in dict.fromkeys(row[name][:40] for row in rows))
            faults.add(fault, f"{path}: study {first['id']!r} has two values of {name}: {values}")
    images = []
    for row in rows:
        image = path.parent / row["image"]
        if row["view"].lower() not in _VIEWS:
            faults.add("bad entry", f"{path}: view is {row['view']!r}; accepted: {', '.join(filter(None, _VIEWS))}")
        images.append(ImageFile(image, _VIEWS.get(row["view"].lower())))
    patient = _patient(first)
    split = first["split"] or split_of(patient)
    if split not in SPLITS:
        faults.add("bad entry", f"{path}: split is {split!r}; accepted: {', '.join(SPLITS)}, or nothing")
        split = "train"
    return Study(
        first["id"], patient, tuple(images), clean_section(first["findings"]), clean_section(first["impression"]),
        split, first["findings"],
    )  # fmt: skip


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    files = [root / "manifest.csv", root / "manifest.jsonl"]
    found = [file for file in files if file.is_file()]
    if not found:
        raise DataError(f"expected {files[0]} or {files[1]}, or the file itself as data.root")
    return found[0]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Each image's row with every column, "" where the table lacks it."""
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind in (".csv", ".tsv"):
        for row in read_table(path, REQUIRED).to_dict("records"):
            yield {name: row.get(name, "") for name in REQUIRED + OPTIONAL}
        return
    if kind not in (".jsonl", ".json"):
        raise DataError(f"{path} must be a .csv, .tsv or .jsonl file, or one of these gzipped")
    for where, item in read_json_lines(path):
        missing = [name for name in REQUIRED if name not in item]
        if missing:
            raise DataError(f"{where} has no {missing[0]!r}; each needs {', '.join(REQUIRED)}")
        images, views = item.pop("image"), item.pop("view", None)
        images = images if isinstance(images, list) else [images]
        views = views if isinstance(views, list) else [views] * len(images)
        if len(views) != len(images):
            raise DataError(f"{where} has {len(images)} images, but {len(views)} views")
        for image, view in zip(images, views, strict=True):
            row = item | {"image": image, "view": view}
            yield {name: text_value(row.get(name), where, name) for name in REQUIRED + OPTIONAL}
