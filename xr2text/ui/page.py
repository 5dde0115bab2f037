"""The page: one radiograph at a time, a batch, two side by side. Layout and events only.

Parts stand in the modules beside: `handlers` answers, `viewer` draws, `panels` shows, `session` keeps, `uploads` takes
files in. All events that use the model wait in one queue: no report of a former file lands beside a later one, and one
report at a time has the processor.
"""

from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from xr2text.export.text import NOTICE
from xr2text.inference.reporter import Reporter
from xr2text.ui import handlers
from xr2text.ui.endpoints import MAX_FILE_SIZE, add_endpoints
from xr2text.ui.examples import Examples
from xr2text.ui.handlers import EXPORTS, MAX_BATCH, PANEL, WELCOME, labels_of
from xr2text.ui.panels import message
from xr2text.ui.session import Opened
from xr2text.ui.uploads import delete, refuse_other_files, upload
from xr2text.ui.viewer.viewer import viewer

SESSION_LIFE = 3600  # seconds that the studies of a session stay in memory
WAITING = 32  # requests in the queue; those beyond are told to come back
IN_TURN = {"concurrency_id": "radiograph", "concurrency_limit": 1}
HIDDEN = {"api_visibility": "private"}
SILENT = {"show_progress": "hidden", **HIDDEN}
QUIET = {**SILENT, **IN_TURN}
Parts = dict[str, Component]  # of the page, by the names that `handlers` gives their values under


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


CSS, SAVE, LABELS, TABLE = map(_part, ("page.css", "save.js", "labels.js", "table.js"))
THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    radius_size="sm",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)


def build_page(reporter: Reporter, examples: Examples) -> gr.Blocks:
    """Lays out the page and ties its events to the reporter."""
    with gr.Blocks(title="XR2Text", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>XR2Text</h1><p>A chest radiograph's report, written from seven anatomical regions.</p>", elem_id="head"
        )
        gr.HTML(
            f'<div class="notice"><b>{NOTICE}</b> Sides are those of the patient: right is on the left of the image. '
            f"Model: {escape(reporter.model_name)}.</div>",
            elem_id="notice",
        )
        parts: Parts = {
            "studies": gr.State([], time_to_live=SESSION_LIFE),
            "carrier": gr.JSON(visible=False),  # of a file that the browser saves
        }
        with gr.Tabs() as parts["tabs"]:
            with gr.Tab("Read", id="read"):
                parts |= _radiograph_row(examples)
                parts["reader"] = viewer("reader", "The radiograph and its report appear here.")
                parts |= _text_rows() | _chart_row()
            with gr.Tab("Batch", id="batch"):
                parts |= _batch_rows()
            with gr.Tab("Compare", id="compare"):
                _compare_tab(parts["studies"])
        _tie_reading(parts, reporter, examples, page)
        _tie_texts(parts)
        _tie_batch(parts, reporter, page)
        add_endpoints(reporter, IN_TURN)
    refuse_other_files(page)
    return page.queue(max_size=WAITING, api_open=False)  # nobody passes the queue by


def _some(parts: Parts, *names: str) -> list[Component]:
    return [parts[name] for name in names]


def _by_name(parts: Parts, handler: Callable[..., dict[str, Any]], *first: Any) -> Callable[..., dict]:
    """The handler as gradio calls it, after its `first` arguments; what its answer does not name stays as it is."""

    def answer(*values: Any) -> dict:
        return {parts[name]: value for name, value in handler(*first, *values).items()} or gr.skip()

    return answer


def _saves(parts: Parts, name: str, make: Any, inputs: list[Component]) -> None:
    """The button makes a file when it is pressed, and the browser saves it."""
    carrier = parts["carrier"]
    parts[name].click(make, inputs, carrier, **QUIET).success(None, carrier, None, js=SAVE, **HIDDEN)


def _lists_studies(choice: gr.Dropdown, studies: gr.State) -> None:
    studies.change(lambda kept: gr.Dropdown(labels_of(kept)), studies, choice, **SILENT)


def _names(examples: Examples) -> list[list[str]]:
    return [[name] for name in examples.offered]


def _radiograph_row(examples: Examples) -> Parts:
    """Which radiograph, and what is said of it."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            file = upload(label=f"Radiograph, up to {MAX_FILE_SIZE[:-2]} MB", height=150, elem_id="file")
        with gr.Column(scale=3, min_width=280):
            with gr.Row():
                generate = gr.Button("Generate report", variant="primary", size="lg", elem_id="generate")
                history = gr.Dropdown([], label="History", elem_id="history", min_width=180)
            choice = gr.Dataset(
                samples=_names(examples), label="Examples", components=["textbox"], type="index", elem_id="examples"
            )
            status = gr.HTML(message(WELCOME), elem_id="status")
            go_on = gr.Button("Write the report all the same", visible=False, size="sm", elem_id="go-on")
    return {
        "opened": gr.State(None, time_to_live=SESSION_LIFE),
        "shown": gr.Textbox(visible=False),  # label of the study that the browser shows
        "file": file, "generate": generate, "history": history, "examples": choice, "status": status, "go-on": go_on,
    }  # fmt: skip


def _text_rows() -> Parts:
    """The report's text, to be edited, and the files that it is saved to."""
    parts: Parts = {}
    with gr.Row():
        for name in ("findings", "impression"):
            parts[name] = gr.Textbox(
                label=name.capitalize(), lines=4, max_lines=14, min_width=280, buttons=["copy"], interactive=False,
                elem_id=name,
            )  # fmt: skip
    with gr.Row():
        for name, label in EXPORTS.items():
            button = gr.Button(label, size="sm", interactive=False, min_width=100, elem_id=f"save-{name}")
            parts[f"save-{name}"] = button
    return parts


def _chart_row() -> Parts:
    """Findings on one side, regions and warnings on the other."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            chart = gr.HTML(elem_id="chart")
        with gr.Column(min_width=300):
            weights, warnings = gr.HTML(elem_id="weights"), gr.HTML(elem_id="warnings")
    return {"chart": chart, "weights": weights, "warnings": warnings}


def _tie_reading(parts: Parts, reporter: Reporter, examples: Examples, page: gr.Blocks) -> None:
    """The events from a file to its report, and the history."""
    studies, history, choice = _some(parts, "studies", "history", "examples")
    panel = _some(parts, *PANEL)

    def show_example(number: int) -> dict[str, Any]:
        return handlers.show(list(examples.offered.values())[number])

    on_reader = {"show_progress_on": parts["reader"], **IN_TURN, **HIDDEN}
    take, show = _by_name(parts, handlers.show_upload), _by_name(parts, show_example)
    parts["file"].upload(take, parts["file"], [*panel, history, parts["file"]], **on_reader)
    choice.click(show, choice, [*panel, history], **on_reader)
    for name, force in (("generate", False), ("go-on", True)):
        write = _by_name(parts, handlers.write_panel, reporter, force)
        parts[name].click(write, [parts["opened"], studies], [*panel, studies], **on_reader)
    _lists_studies(history, studies)
    history.input(_by_name(parts, handlers.reopen), [studies, history], [*panel, history], **QUIET)
    page.load(lambda: gr.Dataset(samples=_names(examples)), None, choice, js=LABELS, **SILENT)


def _tie_texts(parts: Parts) -> None:
    """The events of editing and saving."""
    typed = _some(parts, "opened", "shown", "findings", "impression")
    edited = _some(parts, "status", "opened", "reader", "warnings", "studies")
    edit = _by_name(parts, handlers.apply_edit)
    for text in _some(parts, "findings", "impression"):
        text.blur(edit, [*typed, parts["studies"]], edited, trigger_mode="always_last", **QUIET)
    for name in EXPORTS:
        _saves(parts, f"save-{name}", partial(handlers.export, name), typed)


def _batch_rows() -> Parts:
    """Many radiographs, and what became of each."""
    return {
        "results": gr.State([], time_to_live=SESSION_LIFE),
        "files": upload(label=f"Radiographs, up to {MAX_BATCH}", file_count="multiple", height=160, elem_id="files"),
        "start": gr.Button("Generate reports", variant="primary", elem_id="start"),
        "batch-status": gr.HTML(message("Drop radiographs, then press Generate reports."), elem_id="batch-status"),
        "table": gr.HTML(js_on_load=TABLE, elem_id="table"),
        "save-zip": gr.Button("Save all reports (ZIP)", interactive=False, size="sm", elem_id="save-zip"),
    }


def _tie_batch(parts: Parts, reporter: Reporter, page: gr.Blocks) -> None:
    """The events of a batch."""
    waiting: dict[str, list[str]] = {}  # a session's files that no batch has read yet

    def wait(paths: list[str] | None, request: gr.Request) -> None:
        waiting[request.session_hash] = paths or []

    def leave(request: gr.Request) -> None:
        delete(waiting.pop(request.session_hash, []))

    def run(paths: list[str] | None, kept: list[Opened]) -> Iterator[dict]:
        for answer in handlers.run_batch(reporter, paths, kept):
            yield {parts[name]: value for name, value in answer.items()}

    def open_row(results: list[Opened | None], event: gr.EventData) -> dict:
        return _by_name(parts, handlers.open_row)(results, event.row)

    files, results = _some(parts, "files", "results")
    files.change(wait, files, None, queue=False, **SILENT)
    page.unload(leave)
    parts["start"].click(
        run, [files, parts["studies"]],
        _some(parts, "files", "batch-status", "table", "results", "studies", "save-zip"),
        show_progress_on=parts["batch-status"], **IN_TURN, **HIDDEN,
    )  # fmt: skip
    _saves(parts, "save-zip", handlers.export_batch, [results])
    parts["table"].select(open_row, results, _some(parts, *PANEL, "history", "tabs"), **QUIET)


def _compare_tab(studies: gr.State) -> None:
    with gr.Row(equal_height=False):
        for side in ("left", "right"):
            with gr.Column(min_width=320):
                choice = gr.Dropdown([], label=f"Study on the {side}", elem_id=f"choice-{side}")
                shown = viewer(f"compare-{side}", "Choose a study of this session.", alone=True)
                _lists_studies(choice, studies)
                choice.input(handlers.compared, [studies, choice], shown, **SILENT)
