"""What the page's events do: by name, a value for each part that they change. The layout stands in `page`."""

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from xr2text.export.files import FILES, document
from xr2text.imaging.radiograph import ACCEPTED, ImageError
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.panels import batch_table, findings_chart, message, warnings_list, weights_chart
from xr2text.ui.session import Opened, open_radiograph, remember, write_report, zip_reports
from xr2text.ui.uploads import delete, read_once
from xr2text.ui.viewer.viewer import view

MAX_BATCH = 30
WELCOME = f"Drop a frontal chest radiograph ({ACCEPTED}), or take an example."
CHOOSE = "Choose a radiograph first: drop a file above, or take an example."
EXPORTS = {
    "txt": "Save text", "pdf": "Save PDF", "json": "Save JSON", "png": "Save picture", "fhir": "Save FHIR",
    "dicom-sr": "Save DICOM SR",
}  # fmt: skip
PANEL = (
    "status", "opened", "shown", "reader", "findings", "impression", "chart", "weights", "warnings", "go-on",
    *(f"save-{name}" for name in EXPORTS),
)  # fmt: skip


def panel(status: str, opened: Opened | None, doubtful: bool = False) -> dict[str, Any]:
    """A value for each part of PANEL; without a report the former one leaves the page.

    Args:
        doubtful: the reader is asked whether a report is to be written of this image.
    """
    report = opened.report if opened else None
    possible = set() if report is None else set(EXPORTS)
    if opened is None or opened.source.header is None:
        possible.discard("dicom-sr")
    return {
        "status": status,
        "opened": opened,
        "shown": opened.label if opened else "",
        "reader": view(opened.grey if opened else None, report),
        "findings": gr.Textbox(report.findings if report else "", interactive=report is not None),
        "impression": gr.Textbox(report.impression if report else "", interactive=report is not None),
        "chart": findings_chart(report.finding_readings) if report else "",
        "weights": weights_chart(report.region_weights) if report else "",
        "warnings": warnings_list(report.doubts) if report else "",
        "go-on": gr.Button(visible=doubtful),
        **{f"save-{name}": gr.Button(interactive=name in possible) for name in EXPORTS},
    }


def show(content: bytes) -> dict[str, Any]:
    """The radiograph of a file's content, and no choice in the history. Raises ImageError."""
    opened = open_radiograph(content)
    size = f"{opened.decoded.width} × {opened.decoded.height}"
    return {**panel(message(f"Radiograph of {size} pixels. Press Generate report."), opened), "history": None}


def show_upload(path: str) -> dict[str, Any]:
    """`show` of an upload, or what is wrong with it; its file is gone from then on, its input free for the next."""
    try:
        answer = show(read_once(path))
    except ImageError as error:
        answer = {**panel(message(str(error), "bad"), None), "history": None}
    return {**answer, "file": None}


def write_panel(reporter: Reporter, force: bool, opened: Opened | None, studies: list[Opened]) -> dict[str, Any]:
    """Generate report was pressed: the report, or why there is none; and the session's studies.

    Args:
        force: the reader has said that a doubtful image is a frontal chest radiograph.
    """
    if opened is None or opened.decoded is None:
        return panel(message(CHOOSE, "bad"), None)
    start = time.perf_counter()
    label = f"{time.strftime('%H:%M:%S')} · report {len(studies) + 1}"
    try:
        opened = write_report(reporter, opened, label, force)
    except ImageError as error:
        doubtful = isinstance(error, DoubtfulImageError)
        return panel(message(str(error), "bad"), replace(opened, bare=None, label="") if doubtful else None, doubtful)
    took = f"Report written by {opened.bare.model} in {time.perf_counter() - start:.1f} s."
    status = message(took, "good", opened.bare.warnings)
    return {**panel(status, opened), "studies": remember(studies, opened)}


def apply_edit(
    opened: Opened | None, shown: str, findings: str, impression: str, studies: list[Opened]
) -> dict[str, Any]:
    """The text was edited: sentences, warnings and files are those of the edited report from now on.

    Args:
        shown: label of the study on whose page the text was typed; another may have been opened meanwhile.
    """
    if opened is None or opened.bare is None or opened.label != shown:
        return {}
    edited = opened.edited(findings, impression)
    if edited is opened:
        return {}
    return {
        "status": message("The text is edited. Every file says so, and by which model it was drafted."),
        "opened": edited,
        "reader": view(edited.grey, edited.report),
        "warnings": warnings_list(edited.bare.doubts),
        "studies": [edited if study.label == shown else study for study in studies],
    }


def carried(name: str, content: bytes) -> dict[str, str]:
    """A file for the browser to save; there is none on the server."""
    return {"name": name, "content": base64.b64encode(content).decode()}


def export(name: str, opened: Opened | None, shown: str, findings: str, impression: str) -> dict[str, str] | None:
    """One of EXPORTS, with the text as it stands on the page; `shown` as `apply_edit` has it."""
    if opened is None or opened.bare is None or opened.label != shown:
        return None
    edited = opened.edited(findings, impression)
    return carried(FILES[name], document(edited.report, name, edited.source))


def export_batch(results: list[Opened | None]) -> dict[str, str] | None:
    return carried("reports.zip", zip_reports(results)) if any(results) else None


def run_batch(reporter: Reporter, paths: list[str] | None, studies: list[Opened]) -> Iterator[dict[str, Any]]:
    """Radiograph after radiograph; one that is refused has its sentence in the table. No file is left at the end."""
    paths = paths or []
    rows: list[tuple[str, str, str]] = []
    results: list[Opened | None] = []

    def state(text: str, tone: str = "") -> dict[str, Any]:
        return {
            "files": None, "batch-status": message(text, tone), "table": batch_table(rows, results),
            "results": list(results), "studies": studies,
            "save-zip": gr.Button(interactive=tone == "good" and any(results)),
        }  # fmt: skip

    try:
        if not 0 < len(paths) <= MAX_BATCH:
            yield state(f"Choose from 1 to {MAX_BATCH} files.", "bad")
            return
        for number, path in enumerate(paths, start=1):
            yield state(f"Radiograph {number} of {len(paths)} …")
            name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
            try:
                opened = open_radiograph(read_once(path))
                opened = write_report(reporter, opened, f"{time.strftime('%H:%M:%S')} · batch {number}")
            except ImageError as error:
                hint = " Read it alone to have a report all the same." if isinstance(error, DoubtfulImageError) else ""
                rows.append((name, f"No report: {error}{hint}", ""))
                results.append(None)
                continue
            studies = remember(studies, opened)
            count = len(opened.bare.doubts)
            result = f"Report written, {count} warning{'' if count == 1 else 's'}" if count else "Report written"
            rows.append((name, result, opened.bare.impression))
            results.append(studies[-1])
        written = sum(opened is not None for opened in results)
        yield state(f"{written} of {len(paths)} radiographs have a report. Choose a row to open it.", "good")
    finally:
        delete(paths)


def open_row(results: list[Opened | None], row: int) -> dict[str, Any]:
    """A radiograph of the batch comes to the page, and the page to it."""
    opened = results[row] if row < len(results) else None
    if opened is None:
        return {}
    status = message(f"Radiograph {row + 1} of the batch.")
    return {**panel(status, opened), "history": None, "tabs": gr.Tabs(selected="read")}


def labels_of(studies: list[Opened]) -> list[str]:
    return [study.label for study in studies]


def reopen(studies: list[Opened], label: str | None) -> dict[str, Any]:
    """A study of the history comes back to the page."""
    for study in studies:
        if study.label == label:
            return {**panel(message(f"Opened again: {label}."), study), "history": label}
    return {}


def compared(studies: list[Opened], label: str | None) -> dict[str, Any] | None:
    """The view of a study of the history."""
    return next((view(study.grey, study.report) for study in studies if study.label == label), None)
