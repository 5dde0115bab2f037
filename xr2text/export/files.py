"""The documents of a report, and writing them into a folder.

Nothing that names the patient is written, unless a DICOM Structured Report is asked to. report.json alone has the
file's name.
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
    from xr2text.inference.report import Report

FILES = {
    "txt": "report.txt", "json": "report.json", "png": "overlay.png", "maps": "maps.npz", "pdf": "report.pdf",
    "fhir": "report.fhir.json", "dicom-sr": "report.dcm",
}  # fmt: skip


def write_report(
    report: "Report", folder: str | Path, names: Collection[str] = ("txt", "json", "png"), source: Source | None = None,
    lateral: Source | None = None,
) -> list[Path]:  # fmt: skip
    """Writes documents into `folder`, which is made where missing. Other documents of an earlier report in it are
    written anew, or removed where they cannot be made.

    Args:
        names: out of FILES. maps: `maps` [7, H, W] float16 on the pixels of `report.radiograph`, upright where those of
            the file lay on their side, each region's peak at 1, and `regions`, their names.
        source: the radiograph's file.
        lateral: that of the lateral view.

    Returns:
        The paths of those asked for, in the order of FILES. Each file is whole or not there at all, even after a kill.

    Raises:
        ExportError: a DICOM Structured Report cannot be made of this source; the other files are there.
        ValueError: a name that is none of FILES; nothing is written.
    """
    if unknown := set(names).difference(FILES):
        raise ValueError(f"unknown documents {sorted(unknown)}; accepted: {', '.join(FILES)}")
    paths = []
    for name, file in FILES.items():
        path = Path(folder) / file
        if name not in names and not path.is_file():
            continue
        try:
            content = document(report, name, source, lateral)
        except ExportError:
            path.unlink(missing_ok=True)
            if name in names:
                raise
            continue
        with atomic_write(path) as draft:
            draft.write_bytes(content)
        paths += [path] if name in names else []
    return paths


def document(report: "Report", name: str, source: Source | None = None, lateral: Source | None = None) -> bytes:
    """The content of one of FILES, see `write_report`. Libraries for a document are imported when it is made."""
    content = BytesIO()
    if name == "txt":
        content.write(report_text(report).encode())
    elif name == "json":
        data = report_json(report, source and source.sha256, source and source.name)
        content.write((json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode())
    elif name == "png":
        from xr2text.inference.overlay import overlay_figure

        overlay_figure(report).save(content, format="PNG", compress_level=1)
    elif name == "maps":
        maps = report.maps_at(report.radiograph.height, report.radiograph.width, np.float16)
        np.savez_compressed(content, maps=maps, regions=np.array(REGION_NAMES))
    elif name == "pdf":
        from xr2text.export.pdf import report_pdf

        content.write(report_pdf(report))
    elif name == "fhir":
        from xr2text.export.fhir import diagnostic_report

        content.write((diagnostic_report(report).model_dump_json(indent=2) + "\n").encode())
    else:
        from xr2text.export.dicom_sr import quietly, structured_report

        written = structured_report(report, source, lateral)
        with quietly():
            written.save_as(content)
    return content.getvalue()
