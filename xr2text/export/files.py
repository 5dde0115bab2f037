"""A report as files: text to read, JSON to compute with, a picture to look at, maps to measure, documents for others.

Nothing that names the patient or the uploaded file is written, unless a DICOM Structured Report is asked to.
"""

import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xr2text.anatomy import REGION_NAMES
from xr2text.errors import XR2TextError
from xr2text.inference.overlay import overlay_figure

if TYPE_CHECKING:
    from pydicom import Dataset

    from xr2text.inference.reporter import Report

NOTICE = "Research software, not a medical device. Not for clinical decisions."
NOT_WRITTEN = "(none written)"
FILES = {"txt": "report.txt", "json": "report.json", "png": "overlay.png"}
DOCUMENTS = {"pdf": "report.pdf", "fhir": "report.fhir.json", "dicom-sr": "report.dcm"}


class ExportError(XR2TextError, ValueError):
    """A document that cannot be made of this report; the message says why, in words for the reader."""


def origin(report: "Report") -> str:
    """Who wrote it, in a sentence."""
    if report.edited:
        return f"Drafted by {report.model} and edited by a person."
    return f"Written by {report.model}."


def report_text(report: "Report") -> str:
    """Findings, Impression, any warnings, the notice and the model's name, one paragraph each."""
    return "\n\n".join([
        f"Findings:\n{report.findings or NOT_WRITTEN}",
        f"Impression:\n{report.impression or NOT_WRITTEN}",
        *(f"Warning: {warning}" for warning in report.warnings),
        *((origin(report),) if report.edited else ()),
        NOTICE,
        f"Model: {report.model}\n",
    ])  # fmt: skip


def report_json(report: "Report") -> dict[str, Any]:
    """The report as plain data: sentences in reading order, regions in the order of anatomy.REGIONS."""
    return {
        "findings": report.findings,
        "impression": report.impression,
        "sentences": [
            {
                "section": one.section,
                "text": one.text,
                "regions": {name: float(w) for name, w in one.region_weights.items()},
                "confidence": one.confidence,
            }
            for one in report.sentences
        ],
        "regions": [{"name": name, "weight": float(report.region_weights[name])} for name in REGION_NAMES],
        "findings_seen": [
            {"name": one.name, "probability": one.probability, "threshold": one.threshold, "written": one.written}
            for one in report.finding_readings
        ],
        "model": report.model,
        "edited": report.edited,
        "warnings": list(report.warnings),
        "doubts": list(report.doubts),
        "notice": NOTICE,
    }


def write_report(
    report: "Report",
    folder: str | Path,
    with_maps: bool = False,
    documents: Collection[str] = (),
    source: "str | os.PathLike | Dataset | None" = None,
    identity: bool = False,
) -> list[Path]:
    """Writes report.txt, report.json and overlay.png into `folder`, which is made if need be.

    Args:
        with_maps: also maps.npz: `maps` [7, H, W] float16 on the original's pixels, each region's peak at 1, and
            `regions`, their names.
        documents: names out of DOCUMENTS, to write also.
        source: the radiograph's file, to which a DICOM Structured Report refers, or its `image_reference`.
        identity: that report takes the patient over from `source`.

    Returns:
        The files' paths, in the order named above. Each file is whole or not there at all, even after a kill.

    Raises:
        ExportError: one of `documents` cannot be made of this report; the other files are there.
        ValueError: a name that is none of DOCUMENTS; nothing is written.
    """
    if unknown := set(documents).difference(DOCUMENTS):
        raise ValueError(f"unknown documents {sorted(unknown)}; accepted: {', '.join(DOCUMENTS)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def write(name: str, file: str) -> None:
        content = document(report, name, source, identity)
        paths.append(folder / file)
        with replacing(paths[-1]) as partial:
            partial.write(content)

    for name, file in FILES.items():
        write(name, file)
    if with_maps:
        paths.append(folder / "maps.npz")
        height, width = report.radiograph.height, report.radiograph.width
        with replacing(paths[-1]) as file:
            np.savez_compressed(file, maps=report.maps_at(height, width, np.float16), regions=np.array(REGION_NAMES))
    # Structured reports last, which not every source allows.
    for name, file in DOCUMENTS.items():
        if name in documents:
            write(name, file)
    return paths


def document(
    report: "Report", name: str, source: "str | os.PathLike | Dataset | None" = None, identity: bool = False
) -> bytes:
    """The content of one of FILES or DOCUMENTS, see `write_report`."""
    if name == "txt":
        return report_text(report).encode()
    if name == "json":
        return (json.dumps(report_json(report), ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()
    content = BytesIO()
    if name == "png":
        overlay_figure(report).save(content, format="PNG")
        return content.getvalue()
    if name == "pdf":
        from xr2text.export.pdf import report_pdf

        return report_pdf(report)
    if name == "fhir":
        from xr2text.export.fhir import diagnostic_report

        return (diagnostic_report(report).model_dump_json(indent=2) + "\n").encode()
    if name == "dicom-sr":
        from xr2text.export.dicom_sr import structured_report

        if source is None:
            raise ExportError("A DICOM Structured Report refers to a DICOM file, and there is none.")
        structured_report(report, source, identity).save_as(content)
        return content.getvalue()
    raise ValueError(f"unknown document {name!r}; accepted: {', '.join([*FILES, *DOCUMENTS])}")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a neighbour of `path` for writing and moves it there once it is complete."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
