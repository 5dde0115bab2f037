"""Event handlers of the page: each takes the session and returns new values by the name of the page's part. The layout
is in `page`."""

import base64
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from xr2text.errors import XR2TextError
from xr2text.export.files import FILES
from xr2text.imaging.radiograph import ACCEPTED, ImageError
from xr2text.inference.confidence import with_finding, without_finding
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.corrections import CorrectionError, keep_correction
from xr2text.ui.examples import Example
from xr2text.ui.session import (
    THUMBNAIL,
    Opened,
    Row,
    Session,
    findings_table,
    open_radiograph,
    pair,
    with_lateral,
    write_report,
    zip_reports,
)
from xr2text.ui.uploads import delete, read_once
from xr2text.ui.viewer.viewer import film_view, map_views, picture, report_view
from xr2text.ui.worklist import batch_rows, worklist_view

MAX_BATCH = 30
CHOOSE = f"Open a radiograph first ({ACCEPTED}), or take an example."
EXPORTS = {"txt": "Text", "pdf": "PDF", "json": "JSON", "png": "Picture", "fhir": "FHIR", "dicom-sr": "DICOM SR"}
GONE = "That study is no longer kept: after an hour without use nothing is. Please open the radiograph again."
NO_PAIR = "Two files that are no frontal and lateral view of one study are a batch."
UNREAD_LATERAL = "The lateral view stands beside it; this checkpoint reads the frontal one alone."
Answer = dict[str, Any]  # new values by the name of the page's part


def status(text: str, tone: str = "", details: Iterable[str] = (), ask: str = "") -> dict[str, Any]:
    """A status line, which stays on the page unlike a toast.

    Args:
        tone: "", "good" or "bad".
        ask: on a button that has the report written all the same.
    """
    return {"text": text, "tone": tone, "details": list(details), "ask": ask}


def reader_value(session: Session, message: dict[str, Any] | None = None, busy: str = "") -> dict[str, Any]:
    """The open report and the status line, as the viewer takes them.

    Args:
        message: a `status`; None: the former one stays.
        busy: what is being done meanwhile.
    """
    opened = session.opened
    value = {"label": "", "status": message, "busy": busy, "history": [study.label for study in session.studies]}
    value["adds"] = opened is not None and opened.decoded is not None
    value["own"] = any(study.is_edited for study in session.everything)  # lost if the page is closed
    value["turn"] = time.monotonic()  # a new value, so that the browser notices every answer
    if opened and opened.bare:
        value |= report_view(opened.bare, opened.changed)
        value |= {
            "label": opened.label, "saves": saves(opened), "undo": len(opened.versions) > 1, "edits": edits(opened),
            "kept": opened.kept, "sides": _sided(opened),
        }  # fmt: skip
    return value


def _sided(opened: Opened) -> bool:
    """Whether the patient's right is known to be on the left of the image, as in every frontal radiograph that passed
    the gate."""
    return opened.bare.radiograph.view != "lateral"


def _film(opened: Opened | None) -> dict[str, Any] | None:
    return opened and film_view(opened.grey, opened.lateral and opened.lateral.grey, opened.credit)


def _maps(opened: Opened | None) -> list[dict[str, Any]]:
    return map_views(opened.report, opened.grey.shape) if opened else []


def saves(opened: Opened) -> dict[str, tuple[str, bool]]:
    """The label of each file that can be saved, and whether it can be made for this study."""
    return {name: (text, name != "dicom-sr" or opened.source.header is not None) for name, text in EXPORTS.items()}


def edits(opened: Opened) -> str:
    """A sentence that says what a person has changed in the report."""
    version = opened.versions[-1]
    drafted, stands = (
        {(sentence.section, sentence.text) for sentence in report.sentences}
        for report in (version.draft, version.report)
    )
    parts = [f"{name} set to {state}" for name, state in version.draft.set_findings.items()]
    if version.report.edited:
        parts.append(f"{len(stands - drafted)} written, {len(drafted - stands)} taken out")
    return f"Yours: {'; '.join(parts)}." if parts else "As the model wrote it."


def open_files(reporter: Reporter, session: Session, paths: list[str], where: str, write: bool) -> Iterator[Answer]:
    """Opens one or two uploads: shows the radiograph at once and then, with `write`, its report. Two files that are no
    frontal and lateral pair are read as a batch. The uploads are deleted.

    Args:
        where: "lateral": the file is the lateral view of the study that is open.
    """
    former = session.opened if where == "lateral" else None
    try:
        if where == "lateral" and (former is None or former.decoded is None):
            raise ImageError(GONE)
        if where == "lateral" and len(paths) != 1:
            raise ImageError("Choose one file as the lateral view.")
        opened = [open_radiograph(read_once(path)) for path in paths]
        if former is not None:
            opened = [with_lateral(former, opened[0])]
    except ImageError as error:
        yield reader_answer(session.show(former), status(str(error), "bad"))
        return
    finally:
        delete(paths)
    if len(opened) == 2:
        paired = pair(reporter, *opened)
        if paired is None:
            yield {"reader": gr.HTML(value=reader_value(session, status(NO_PAIR)) | {"view": "batch"})}
            first = len(session.batch) + 1
            rows = [Row(f"Radiograph {number}", study) for number, study in enumerate(opened, first)]
            yield from run_batch(reporter, session, rows)
            return
        opened = [paired]
    yield from open_study(reporter, session, opened[0], write)


def open_study(reporter: Reporter, session: Session, opened: Opened, write: bool) -> Iterator[Answer]:
    """Shows the radiograph at once and then, with `write`, its report."""
    opened = replace(opened, versions=(), label="")
    session = session.show(opened)
    height, width = opened.decoded.pixels.shape
    message = status(f"Radiograph of {width} × {height} pixels.", "", _about(reporter, opened))
    yield reader_answer(session, message, "Writing the report …" if write else "")
    if write:
        yield write_open(reporter, session)


def _about(reporter: Reporter, opened: Opened) -> tuple[str, ...]:
    return (UNREAD_LATERAL,) if opened.lateral and not reporter.takes_lateral else ()


def reader_answer(session: Session, message: dict[str, Any], busy: str = "") -> Answer:
    """The answer that puts another radiograph on the page, or none."""
    opened = session.opened
    room = gr.HTML(value=reader_value(session, message, busy), film=_film(opened), maps=_maps(opened))
    return {"session": session, "reader": room}


def write_open(reporter: Reporter, session: Session, force: bool = False) -> Answer:
    """Writes the report of the open radiograph, or says why there is none.

    Args:
        force: the reader wants the report of doubtful images all the same.
    """
    opened = session.opened
    if opened is None or opened.decoded is None:
        return reader_answer(session.show(None), status(CHOOSE, "bad"))
    start = time.perf_counter()
    label = f"{time.strftime('%H:%M:%S')} · report {len(session.studies) + 1}"
    try:
        opened = write_report(reporter, opened, label, force)
    except DoubtfulImageError as error:
        message = status(str(error), "bad", ask="Write the report all the same")
        return {"reader": gr.HTML(value=reader_value(session, message))}
    except ImageError as error:
        return reader_answer(session.show(None), status(str(error), "bad"))
    took = f"Report written by {opened.bare.model} in {time.perf_counter() - start:.1f} s."
    message = status(took, "good", (*opened.bare.warnings, *_about(reporter, opened)))
    turned = opened.grey.shape != session.opened.grey.shape or (opened.grey != session.opened.grey).any()
    session = session.show(opened)
    film = {"film": _film(opened)} if turned else {}
    return {"session": session, "reader": gr.HTML(value=reader_value(session, message), maps=_maps(opened), **film)}


def change_study(session: Session, label: str, change: Any, words: str) -> Answer:
    """Applies `change` to the study of `label`. If another study has been opened meanwhile, it stays on the page with
    its status line."""
    opened, front = session.find(label), session.opened
    if opened is None or opened.bare is None:
        return {"reader": gr.HTML(value=reader_value(session, status(GONE, "bad")))}
    try:
        after = change(opened)
    except XR2TextError as error:
        return {"reader": gr.HTML(value=reader_value(session, status(str(error), "bad")))}
    if after is opened:
        return {"reader": gr.HTML(value=reader_value(session))}
    in_front = opened is front
    session = replace(session.show(after), opened=after if in_front else front)
    message = status(words) if in_front else None
    return {"session": session, "reader": gr.HTML(value=reader_value(session, message))} | worklist_answer(session)


def edit(
    session: Session, label: str, findings: str, impression: str, former_findings: str, former_impression: str
) -> Answer:
    """A person edited the former text; sentences, warnings and files follow."""
    words = "The text is edited. Every file says so, and by which model it was drafted."
    text, former = (findings, impression), (former_findings, former_impression)
    return change_study(session, label, lambda opened: opened.edited(text, former), words)


def set_finding(reporter: Reporter, session: Session, label: str, finding: str, state: str) -> Answer:
    """A person set a finding to `state`, or back to what the head sees where `state` is empty; the report is written
    anew."""

    def change(opened: Opened) -> Opened:
        draft = opened.versions[-1].draft
        known = [reading.name for reading in draft.finding_readings]
        setting = without_finding(draft.set_findings, finding, known)
        if state:
            setting = with_finding(setting, finding, state, known)
        return opened if setting == draft.set_findings else opened.rewritten(reporter, setting)

    words = f"{finding} is set to {state}" if state else f"{finding} is again as the model sees it"
    return change_study(
        session, label, change, f"{words[:1].upper()}{words[1:]}; the report is written anew from that."
    )


def undo(session: Session, label: str) -> Answer:
    return change_study(session, label, Opened.undone, "The last change is undone.")


def keep(folder: Path | None, session: Session, label: str) -> Answer:
    """Keeps the current report as a correction in `folder`."""

    def change(opened: Opened) -> Opened:
        if folder is None:
            raise CorrectionError("This page keeps no corrections.")
        keep_correction(folder, opened)
        return replace(opened, kept=True)

    return change_study(session, label, change, "Kept as a correction: the pixels, the text and the findings you set.")


def file_to_save(name: str, content: bytes) -> dict[str, str]:
    """A file for the browser to save. It is never written on the server."""
    return {"name": name, "content": base64.b64encode(content).decode()}


def save(session: Session, label: str, name: str) -> dict[str, str]:
    """One of EXPORTS for the study of `label`. Raises gr.Error where there is none."""
    opened = session.find(label)
    if opened is None or opened.bare is None or name not in EXPORTS:
        raise gr.Error(GONE, print_exception=False)
    return file_to_save(FILES[name], opened.document(name))


def save_batch(session: Session, name: str) -> dict[str, str]:
    """The batch as "csv" or "zip". Raises gr.Error where there is none."""
    if not any(row.opened for row in session.batch):
        raise gr.Error(GONE, print_exception=False)
    if name == "csv":
        return file_to_save("findings.csv", findings_table(session.batch))
    return file_to_save("reports.zip", zip_reports(session.batch))


def worklist_answer(session: Session, message: dict[str, Any] | None = None) -> Answer:
    """The worklist of the session; empty where there is neither a batch nor a message."""
    return {"worklist": gr.HTML(value=worklist_view(session.batch, message))} if session.batch or message else {}


def read_batch(reporter: Reporter, session: Session, paths: list[str]) -> Iterator[Answer]:
    """Reads many uploads, one report after the other. All uploads are deleted at the end."""
    try:
        if not 0 < len(paths) <= MAX_BATCH:
            yield worklist_answer(session, status(f"Choose from 1 to {MAX_BATCH} files.", "bad"))
            return
        yield worklist_answer(session, status(f"Reading {len(paths)} files …"))
        yield from run_batch(reporter, session, batch_rows(reporter, paths))
    finally:
        delete(paths)


def run_batch(reporter: Reporter, session: Session, rows: list[Row]) -> Iterator[Answer]:
    """Adds the studies to the worklist and writes their reports one by one. A refused study shows the reason in its
    row."""
    session = session.listing(rows)
    before = len(session.batch) - len(rows)
    for place, row in enumerate(rows, before):
        if row.opened is None:
            continue
        yield {
            "session": session,
            **worklist_answer(session, status(f"Radiograph {place - before + 1} of {len(rows)} …")),
        }
        label = f"{time.strftime('%H:%M:%S')} · batch {place + 1}"
        try:
            after = replace(row, opened=write_report(reporter, row.opened, label))
            kept = session.opened
            session = replace(session.show(after.opened), opened=kept)
            after = replace(after, opened=session.studies[-1])
        except ImageError as error:
            hint = " Read it alone to have a report all the same." if isinstance(error, DoubtfulImageError) else ""
            after = replace(row, opened=None, refusal=f"{error}{hint}")
        session = replace(session, batch=(*session.batch[:place], after, *session.batch[place + 1 :]))
    written = sum(row.opened is not None for row in session.batch[before:])
    message = status(f"{written} of {len(rows)} have a report. Open one, then ↓ and ↑ go through them.", "good")
    yield {"session": session, "reader": gr.HTML(value=reader_value(session)), **worklist_answer(session, message)}


def open_row(session: Session, label: str) -> Answer:
    """Opens a study of the worklist that has a report."""
    row = next((row for row in session.batch if label and row.opened and row.opened.label == label), None)
    if row is None:
        return {"reader": gr.HTML(value=reader_value(session, status(GONE, "bad")))}
    return reader_answer(session.show(row.opened), status(f"From the worklist: {row.name}"))


def reopen(session: Session, label: str) -> Answer:
    """Opens a study of the history."""
    study = session.find(label)
    if study is None:
        return {"reader": gr.HTML(value=reader_value(session, status(GONE, "bad")))}
    return reader_answer(session.show(study), status(f"Opened again: {label}."))


def close(session: Session) -> Answer:
    return reader_answer(session.show(None), status(""))


def compare(session: Session, label: str) -> gr.HTML:
    """A study of the history, to be shown beside another."""
    study = session.find(label)
    if study is None:
        value = {"label": "", "status": status(GONE, "bad")} if label else None
        return gr.HTML(value=value, film=None, maps=[])
    value = {"label": label, "status": status(""), "sides": _sided(study), **report_view(study.bare)}
    return gr.HTML(value=value, film=_film(study), maps=_maps(study))


def example_cards(examples: Mapping[str, Example]) -> list[dict[str, str]]:
    """The examples as thumbnails."""
    return [
        {"name": name, "about": example.about, "image": picture(example.thumbnail(THUMBNAIL))}
        for name, example in examples.items()
    ]
