"""What the page's events do: by name, a value for each part that they change. The layout stands in `page`."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from xr2text.export.files import document
from xr2text.imaging.radiograph import ACCEPTED, ImageError
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.panels import doubts_list, findings_chart, message, weights_chart
from xr2text.ui.session import ALL_FILES, Opened, open_film, remember, report_film, zip_reports
from xr2text.ui.uploads import delete, read_once
from xr2text.ui.viewer import view

MAX_BATCH = 30
WELCOME = f"Drop a frontal chest radiograph ({ACCEPTED}), or take an example."
EXPORTS = {
    "txt": "Save text", "pdf": "Save PDF", "json": "Save JSON", "png": "Save picture", "fhir": "Save FHIR",
    "dicom-sr": "Save DICOM SR",
}  # fmt: skip


PANEL = (
    "status", "opened", "shown", "reader", "findings", "impression", "chart", "weights", "doubts", "go-on",
    *(f"save-{name}" for name in EXPORTS),
)  # fmt: skip


def panel(status: str, opened: Opened | None, doubtful: bool = False) -> dict[str, Any]:
    """A value for each part of PANEL; without a report the former one leaves the page.

    Args:
        doubtful: the reader is asked whether a report is to be written of this picture.
    """
    report = opened.report if opened else None
    saves = {
        f"save-{name}": gr.Button(
            interactive=report is not None and (name != "dicom-sr" or opened.reference is not None)
        )
        for name in EXPORTS
    }
    return {
        "status": status,
        "opened": opened,
        "shown": opened.label if opened else "",
        "reader": view(opened.grey if opened else None, report),
        "findings": gr.Textbox(report.findings if report else "", interactive=report is not None),
        "impression": gr.Textbox(report.impression if report else "", interactive=report is not None),
        "chart": findings_chart(report.finding_readings) if report else "",
        "weights": weights_chart(report.region_weights) if report else "",
        "doubts": doubts_list(report) if report else "",
        "go-on": gr.Button(visible=doubtful),
        **saves,
    }


def show_film(content: bytes) -> dict[str, Any]:
    """The radiograph of a file's content, or what is wrong with it; the content, of which a report can be asked; and no
    choice among the earlier studies."""
    try:
        opened, (height, width) = open_film(content)
    except ImageError as error:
        return _no_film(error)
    status = message(f"Radiograph of {width} × {height} pixels. Press Generate report.")
    return {**panel(status, opened), "content": content, "earlier": None}


def show_upload(path: str) -> dict[str, Any]:
    """`show_film` of an upload, whose file is gone from then on."""
    try:
        return show_film(read_once(path))
    except ImageError as error:
        return _no_film(error)


def _no_film(error: ImageError) -> dict[str, Any]:
    return {**panel(message(str(error), "bad"), None), "content": None, "earlier": None}


def write_panel(
    reporter: Reporter, content: bytes | None, history: list[Opened], force: bool = False
) -> dict[str, Any]:
    """Generate report was pressed: the report, or why there is none; and the session's list.

    Args:
        force: the reader has said that a doubtful picture is a frontal chest radiograph.
    """
    start = time.perf_counter()
    try:
        if content is None:
            raise ImageError("Choose a radiograph first: drop a file above, or take an example.")
        opened = report_film(reporter, content, f"{time.strftime('%H:%M:%S')} · report {len(history) + 1}", force)
    except DoubtfulImageError as error:
        return panel(message(str(error), "bad"), open_film(content)[0], doubtful=True)
    except ImageError as error:
        return panel(message(str(error), "bad"), None)
    took = f"Report written by {opened.report.model} in {time.perf_counter() - start:.1f} s."
    status = message(took, "good", opened.report.warnings)
    return {**panel(status, opened), "history": remember(history, opened)}


def apply_edit(
    opened: Opened | None, shown: str, findings: str, impression: str, history: list[Opened]
) -> dict[str, Any]:
    """The text was edited: sentences, doubts and files are those of the edited report from now on.

    Args:
        shown: label of the study on whose page the text was typed; another one may have been opened meanwhile.
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
        "doubts": doubts_list(edited.bare),
        "history": [edited if one is opened else one for one in history],
    }


def carried(name: str, content: bytes) -> dict[str, str]:
    """A file for the browser to save; there is none on the server."""
    return {"name": name, "content": base64.b64encode(content).decode()}


def export(name: str, opened: Opened | None, shown: str, findings: str, impression: str) -> dict[str, str] | None:
    """One of EXPORTS, with the text as it stands on the page; `shown` as `apply_edit` has it."""
    if opened is None or opened.bare is None or opened.label != shown:
        return None
    edited = opened.edited(findings, impression)
    return carried(ALL_FILES[name], document(edited.report, name, edited.reference))


def export_batch(opened: list[Opened | None]) -> dict[str, str] | None:
    return carried("reports.zip", zip_reports(opened)) if any(opened) else None


def run_batch(reporter: Reporter, paths: list[str] | None, history: list[Opened]) -> Iterator[dict[str, Any]]:
    """Film after film; a bad one has its sentence in the table and stops nothing. No file is left at the end."""
    paths = paths or []
    try:
        yield from _read_batch(reporter, paths, history)
    finally:
        delete(paths)


def _read_batch(reporter: Reporter, paths: list[str], history: list[Opened]) -> Iterator[dict[str, Any]]:
    rows: list[list[Any]] = []
    opened: list[Opened | None] = []

    def state(text: str, kind: str = "") -> dict[str, Any]:
        archive = gr.Button(interactive=kind == "good" and any(opened))
        return {
            "files": None, "batch-status": message(text, kind), "table": rows, "results": opened, "history": history,
            "save-zip": archive,
        }  # fmt: skip

    if not paths or len(paths) > MAX_BATCH:
        yield state(f"Choose up to {MAX_BATCH} files at once." if paths else "Choose one or more files first.", "bad")
        return
    for number, path in enumerate(paths, start=1):
        yield state(f"Film {number} of {len(paths)} …")
        name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
        try:
            one = report_film(reporter, read_once(path), f"{time.strftime('%H:%M:%S')} · batch {number}")
        except ImageError as error:
            hint = " Read it alone to have one all the same." if isinstance(error, DoubtfulImageError) else ""
            rows, opened = [*rows, [name, f"No report: {error}{hint}", "", False]], [*opened, None]
            continue
        doubts = len(one.bare.doubts)
        result = f"Report written, {doubts} {'doubt' if doubts == 1 else 'doubts'}" if doubts else "Report written"
        rows, opened = [*rows, [name, result, one.bare.impression, True]], [*opened, one]
        history = remember(history, one)
    written = sum(one is not None for one in opened)
    yield state(f"{written} of {len(paths)} films have a report. Choose a row to open it.", "good")


def open_row(opened: list[Opened | None], row: int) -> dict[str, Any]:
    """A film of the batch comes to the page, and the page to it."""
    one = opened[row] if row < len(opened) else None
    if one is None:
        return {}
    status = message(f"Film {row + 1} of the batch.")
    return {**panel(status, one), "content": None, "earlier": None, "tabs": gr.Tabs(selected="read")}


def labels_of(history: list[Opened]) -> list[str]:
    return [one.label for one in history]


def reopen(history: list[Opened], label: str | None) -> dict[str, Any]:
    """A study of the session's list comes back to the page."""
    found = next((one for one in history if one.label == label), None)
    if found is None:
        return {}
    return {**panel(message(f"Opened again: {found.label}."), found), "content": None, "earlier": label}


def compared(history: list[Opened], label: str | None) -> dict[str, Any] | None:
    found = next((one for one in history if one.label == label), None)
    return view(found.grey, found.report) if found else None
