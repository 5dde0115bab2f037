"""R2Gen's annotation.json, which holds studies by split."""

import json
import re
from pathlib import Path

from xr2text.data.study import SPLITS, DataError


def read_annotation(path: Path) -> dict[str, list[dict]]:
    """Studies by split, each with id, report and image_path. Raises DataError, which names what is missing."""
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
            missing = {"id", "report", "image_path"} - item.keys()
            if missing:
                raise DataError(f"{path}: study {item.get('id')!r} in {split} has no {sorted(missing)[0]!r}")
    return annotation


def uid_of(item: dict) -> str:
    """Indiana's study number out of an R2Gen entry, whose id is "CXR2384_IM-0942"; another source's patient or id."""
    number = re.match(r"CXR(\d+)_", str(item["id"]))
    return str(item.get("uid") or (number and number[1]) or item.get("subject_id") or item["id"])
