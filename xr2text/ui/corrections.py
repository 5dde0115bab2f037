"""Corrections by readers, kept as a data set to train on. Only a page that is set up for it keeps them.

ROOT/manifest.csv    a row for each image, see `xr2text.data.sources.manifest`, and what findings a person has set
ROOT/images/         the radiographs' pixels, named by what they hold; nothing of a patient's identity
"""

import csv
import hashlib
import os
import threading
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import cv2

from xr2text.errors import XR2TextError
from xr2text.files import atomic_write
from xr2text.ui.session import Opened

VARIABLE = "XR2TEXT_CORRECTIONS"
_COLUMNS = ("id", "findings", "impression", "patient", "split", "set_findings", "image", "view")
_turn = threading.Lock()


class CorrectionError(XR2TextError):
    """A correction that could not be kept."""


def corrections_folder() -> Path | None:
    """The folder for corrections; None where the page keeps none."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def notice(folder: Path | None) -> str:
    """What the page tells its readers about corrections; empty where none are kept."""
    if folder is None:
        return ""
    return "This page keeps a radiograph's pixels and your report, to train on, when you press Keep as correction."


def keep_correction(folder: Path, opened: Opened) -> None:
    """Adds a study, or replaces an earlier correction of the same radiograph. Raises CorrectionError where the folder
    cannot be written."""
    name = hashlib.sha256(opened.grey.tobytes()).hexdigest()[:16]
    images = [(f"images/{name}.png", opened.grey, "frontal")]
    if opened.lateral:
        images.append((f"images/{name}-lateral.png", opened.lateral.grey, "lateral"))
    report = opened.bare
    try:
        for file, pixels, _ in images:
            with atomic_write(folder / file) as draft:
                draft.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        states = "; ".join(f"{finding}={state}" for finding, state in report.set_findings.items())
        with _turn:
            before = _rows(folder / "manifest.csv")
            splits = {row.get("id"): row.get("split") for row in before}
            split = splits.get(name) or ("val" if len(splits) % 5 == 1 else "train")
            texts = name, report.findings, report.impression, name, split, states
            rows = [dict(zip(_COLUMNS, (*texts, file, view), strict=True)) for file, _, view in images]
            _write(folder / "manifest.csv", [row for row in before if row.get("id") != name] + rows)
    except OSError as error:
        raise CorrectionError(f"The correction could not be kept: {error.strerror}.") from None
    except ValueError as error:  # of a table that somebody has edited
        raise CorrectionError(f"The correction could not be kept; manifest.csv is damaged: {error}.") from None


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(path.read_bytes().decode()))) if path.is_file() else []


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Writes the table with its own columns, and with columns that somebody has added."""
    content = StringIO()
    table = csv.DictWriter(content, dict.fromkeys([*_COLUMNS, *(column for row in rows for column in row if column)]))
    table.writeheader()
    table.writerows(rows)
    with atomic_write(path) as draft:
        draft.write_bytes(content.getvalue().encode())
