"""A table of one's own: a CSV file, or JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path

from xr2text.config import DataConfig
from xr2text.data.study import FRONTAL, LATERAL, SPLITS, DataError, Faults, ImageFile, Study
from xr2text.data.tables import hashed_split, read_table
from xr2text.text.sections import clean_section

REQUIRED = ("id", "image", "findings")
OPTIONAL = ("impression", "indication", "comparison", "patient", "view", "split")
_VIEWS = {"": None, "frontal": FRONTAL, "pa": FRONTAL, "ap": FRONTAL, "lateral": LATERAL, "ll": LATERAL}


def manifest_studies(root: Path, config: DataConfig, faults: Faults) -> list[Study]:
    """A row for each image; the rows of one id are one study, whose other columns agree."""
    path = _file(root)
    split_of = hashed_split(config.seed)
    studies: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path):
        studies.setdefault(row["id"], []).append(row)
    return [_study(path, rows, split_of, faults) for rows in studies.values()]


def _study(path: Path, rows: list[dict[str, str]], split_of, faults: Faults) -> Study:
    first = rows[0]
    for name in ("patient", "split", "findings", "impression"):
        if any(row[name] != first[name] for row in rows):
            kind = "two splits" if name == "split" else "bad entry"
            values = " and ".join(repr(one) for one in dict.fromkeys(row[name][:40] for row in rows))
            faults.add(kind, f"{path}: study {first['id']!r} has two values of {name}: {values}")
    images = []
    for row in rows:
        image = path.parent / row["image"]
        if not image.is_file():
            faults.add("missing image", f"{path} lists {row['image']}, which is not in {path.parent}")
        if row["view"].lower() not in _VIEWS:
            faults.add("bad entry", f"{path}: view is {row['view']!r}; accepted: {', '.join(filter(None, _VIEWS))}")
        images.append(ImageFile(image, _VIEWS.get(row["view"].lower())))
    patient = first["patient"] or first["id"]
    split = first["split"] or split_of(patient)
    if split not in SPLITS:
        faults.add("bad entry", f"{path}: split is {split!r}; accepted: {', '.join(SPLITS)}, or nothing")
        split = "train"
    return Study(
        first["id"], patient, tuple(images), clean_section(first["findings"]), clean_section(first["impression"]),
        first["indication"], first["comparison"], split, first["findings"],
    )  # fmt: skip


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    names = ("manifest.csv", "manifest.jsonl")
    found = [root / name for name in names if (root / name).is_file()]
    if not found:
        raise DataError(f"expected {' or '.join(str(root / name) for name in names)}, or the file itself as data.root")
    return found[0]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Each image's row with every column, "" where one is not there. In JSON lines, `image` may also be a list."""
    if path.suffix == ".csv":
        for row in read_table(path, REQUIRED).to_dict("records"):
            yield {name: row.get(name, "") for name in REQUIRED + OPTIONAL}
        return
    if path.suffix not in (".jsonl", ".json"):
        raise DataError(f"{path} must be a .csv or a .jsonl file")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number} is not valid JSON: {error}") from error
        missing = [name for name in REQUIRED if not isinstance(item, dict) or name not in item]
        if missing:
            raise DataError(f"{path}, line {number} has no {missing[0]!r}; each needs {', '.join(REQUIRED)}")
        images = item["image"] if isinstance(item["image"], list) else [item["image"]]
        views = item.get("view")
        views = views if isinstance(views, list) else [views] * len(images)
        if len(views) != len(images):
            raise DataError(f"{path}, line {number} has {len(images)} images, but {len(views)} views")
        rest = {name: str(item.get(name) or "") for name in REQUIRED + OPTIONAL}
        for image, view in zip(images, views, strict=True):
            yield rest | {"image": str(image), "view": str(view or "")}
