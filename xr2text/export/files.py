"""Which documents there are of a report, and their writing into a folder.

Nothing that names the patient or the file is written, unless a DICOM Structured Report is asked to.
"""

import json
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xr2text.anatomy import REGION_NAMES
from xr2text.export.source import ExportError, Source
from xr2text.export.text import report_json, report_text
from xr2text.files import atomic_write

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

FILES = {"txt": "report.txt", "json": "report.json", "png": "overlay.png"}
DOCUMENTS = {"pdf": "report.pdf", "fhir": "report.fhir.json", "dicom-sr": "report.dcm"}
MAPS = "maps.npz"


def write_report(
    report: "Report",
    folder: str | Path,
    source: Source | None = None,
    overlay: bool = True,
    maps: bool = False,
    documents: Collection[str] = (),
) -> list[Path]:
    """Writes report.txt, report.json and overlay.png into `folder`, which is made if need be.

    Args:
        source: the radiograph's file.
        overlay: false: no overlay.png.
        maps: also maps.npz: `maps` [7, H, W] float16 on the original's pixels, each region's peak at 1, and
            `regions`, their names.
        documents: names out of DOCUMENTS, to write also.

    Returns:
        The files' paths, in the order named above. Each file is whole or not there at all, even after a kill.

    Raises:
        ExportError: one of `documents` cannot be made of this report; the other files are there.
        ValueError: a name that is none of DOCUMENTS; nothing is written.
    """
    if unknown := set(documents).difference(DOCUMENTS):
        raise ValueError(f"unknown documents {sorted(unknown)}; accepted: {', '.join(DOCUMENTS)}")
    paths = []

    def write(file: str, content: bytes) -> None:
        paths.append(Path(folder) / file)
        with atomic_write(paths[-1]) as draft:
            draft.write_bytes(content)

    for name, file in FILES.items():
        if overlay or name != "png":
            write(file, document(report, name, source))
    if maps:
        write(MAPS, _maps(report))
    for name, file in DOCUMENTS.items():  # the Structured Report last, which not every source allows
        if name in documents:
            write(file, document(report, name, source))
    return paths


def document(report: "Report", name: str, source: Source | None = None) -> bytes:
    """The content of one of FILES or DOCUMENTS, see `write_report`."""
    if name == "txt":
        return report_text(report).encode()
    if name == "json":
        data = report_json(report, source and source.sha256)
        return (json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()
    if name == "png":
        from xr2text.inference.overlay import overlay_figure

        content = BytesIO()
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
        content = BytesIO()
        structured_report(report, source).save_as(content)
        return content.getvalue()
    raise ValueError(f"unknown document {name!r}; accepted: {', '.join([*FILES, *DOCUMENTS])}")


def _maps(report: "Report") -> bytes:
    content = BytesIO()
    maps = report.maps_at(report.radiograph.height, report.radiograph.width, np.float16)
    np.savez_compressed(content, maps=maps, regions=np.array(REGION_NAMES))
    return content.getvalue()
