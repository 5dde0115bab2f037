"""The page: one film read at a time, several in a row, and two side by side. Layout and events only.

Parts stand in the modules beside: `handlers` answers, `viewer` draws, `panels` shows, `session` keeps, `uploads` takes
files in. All events that use the model wait in one queue, so that no report of a former file lands beside a later one
and one report at a time has the processor.
"""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from xr2text.inference.examples import ExampleShelf
from xr2text.inference.export import NOTICE
from xr2text.inference.reporter import Reporter
from xr2text.ui import handlers
from xr2text.ui.endpoints import MAX_FILE_SIZE, add_endpoints
from xr2text.ui.handlers import EXPORTS, MAX_BATCH, WELCOME, labels_of
from xr2text.ui.panels import message
from xr2text.ui.session import Opened
from xr2text.ui.uploads import delete, upload
from xr2text.ui.viewer import viewer

UPLOAD_LIFE = 900  # seconds after which a file goes that nobody has read
SESSION_LIFE = 3600  # seconds that the studies of a session stay in memory
WAITING = 32  # requests in the queue; those beyond are told to come back
IN_TURN = {"concurrency_id": "radiograph", "concurrency_limit": 1}
HIDDEN = {"api_visibility": "private"}
QUIET = {"show_progress": "hidden", **IN_TURN, **HIDDEN}


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


CSS, SAVE = _part("page.css"), _part("save.js")
THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    radius_size="sm",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
).set(  # contrasts of 4.5 and more
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_600",
    block_title_text_color="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)


def build_page(reporter: Reporter, shelf: ExampleShelf) -> gr.Blocks:
    """Lays out the page and ties its events to the reporter."""
    with gr.Blocks(title="XR2Text", analytics_enabled=False, delete_cache=(60, UPLOAD_LIFE)) as page:
        gr.HTML(
            "<h1>XR2Text</h1><p>A chest radiograph's report, written from seven anatomical regions.</p>", elem_id="head"
        )
        gr.HTML(
            f'<div class="notice"><b>{NOTICE}</b> Sides are those of the patient: right is on the left of the picture. '
            f"Model: {escape(reporter.model_name)}.</div>",
            elem_id="notice",
        )
        history = gr.State([], time_to_live=SESSION_LIFE)
        carrier = gr.JSON(visible=False)  # of a file that the browser saves
        with gr.Tabs() as tabs:
            with gr.Tab("Read", id="read"):
                film = _reading_tab(reporter, shelf, history, carrier, page)
            with gr.Tab("Several", id="several"):
                _batch_tab(reporter, history, carrier, film, tabs, page)
            with gr.Tab("Compare", id="compare"):
                _compare_tab(history)
        add_endpoints(reporter, IN_TURN)
    return page.queue(max_size=WAITING)


def _saves(button: gr.Button, make: Any, inputs: list, carrier: gr.JSON) -> None:
    """The button makes a file when it is pressed, and the browser saves it."""
    button.click(make, inputs, carrier, **QUIET).success(None, carrier, None, js=SAVE, **HIDDEN)


def _reading_tab(reporter: Reporter, shelf: ExampleShelf, history: gr.State, carrier: gr.JSON, page: gr.Blocks) -> list:
    def offered() -> list[list[str]]:
        return [[example.label] for example in shelf.offered()]

    opened = gr.State(None, time_to_live=SESSION_LIFE)
    content = gr.State(None, time_to_live=SESSION_LIFE)  # of the film's file, until another film comes
    shown = gr.Textbox(visible=False)  # label of the study that the browser shows
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            file = upload(label=f"Radiograph, up to {MAX_FILE_SIZE[:-2]} MB", height=150, elem_id="file")
        with gr.Column(scale=3, min_width=280):
            with gr.Row():
                generate = gr.Button("Generate report", variant="primary", size="lg", elem_id="generate")
                earlier = gr.Dropdown([], label="Earlier in this session", elem_id="earlier", min_width=180)
            examples = gr.Dataset(
                samples=offered(), label="Examples", components=["textbox"], type="index", elem_id="examples"
            )
            status = gr.HTML(message(WELCOME), elem_id="status")
            go_on = gr.Button("Write the report all the same", visible=False, size="sm", elem_id="go-on")
    reader = viewer("reader", "The radiograph and its report appear here.")
    with gr.Row():
        findings = gr.Textbox(
            label="Findings, to edit", lines=4, max_lines=14, min_width=280, buttons=["copy"], interactive=False,
            elem_id="findings",
        )  # fmt: skip
        impression = gr.Textbox(
            label="Impression, to edit", lines=4, max_lines=14, min_width=280, buttons=["copy"], interactive=False,
            elem_id="impression",
        )  # fmt: skip
    with gr.Row():
        exports = {
            name: gr.Button(label, size="sm", interactive=False, min_width=125, elem_id=f"save-{name}")
            for name, label in EXPORTS.items()
        }
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            chart = gr.HTML(elem_id="chart")
        with gr.Column(min_width=300):
            weights = gr.HTML(elem_id="weights")
            doubts = gr.HTML(elem_id="doubts")
    panel = [
        status, opened, shown, reader, findings, impression, chart, weights, doubts, go_on, *exports.values(),
    ]  # fmt: skip
    film = [*panel, content, earlier]

    def take_upload(path: str) -> list[Any]:
        return [*handlers.show_upload(path), None]  # the input is free for the next file

    def take_example(k: int) -> list[Any]:
        return handlers.show_film(shelf.offered()[k].path.read_bytes())

    def generate_report(data: bytes | None, kept: list[Opened]) -> list[Any]:
        return handlers.write_panel(reporter, data, kept)

    def generate_all_the_same(data: bytes | None, kept: list[Opened]) -> list[Any]:
        return handlers.write_panel(reporter, data, kept, force=True)

    file.upload(take_upload, file, [*film, file], show_progress_on=reader, **IN_TURN, **HIDDEN)
    examples.click(take_example, examples, film, show_progress_on=reader, **IN_TURN, **HIDDEN)
    for button, write in ((generate, generate_report), (go_on, generate_all_the_same)):
        button.click(
            write, [content, history], [*panel, history], show_progress_on=reader, **IN_TURN, **HIDDEN
        )  # fmt: skip
    typed = [opened, shown, findings, impression]
    for text in (findings, impression):
        text.blur(
            handlers.apply_edit, [*typed, history], [status, opened, reader, doubts, history],
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
    for name, button in exports.items():
        _saves(button, partial(handlers.export, name), typed, carrier)
    history.change(lambda kept: gr.Dropdown(labels_of(kept)), history, earlier, show_progress="hidden", **HIDDEN)
    earlier.input(handlers.reopen, [history, earlier], film, **QUIET)
    page.load(lambda: gr.Dataset(samples=offered()), None, examples, show_progress="hidden", **HIDDEN)
    return film


def _batch_tab(
    reporter: Reporter, history: gr.State, carrier: gr.JSON, film: list, tabs: gr.Tabs, page: gr.Blocks
) -> None:
    results = gr.State([], time_to_live=SESSION_LIFE)
    files = upload(label=f"Radiographs, up to {MAX_BATCH}", file_count="multiple", height=160, elem_id="files")
    start = gr.Button("Generate reports", variant="primary", elem_id="start")
    status = gr.HTML(message("Drop several radiographs, then press Generate reports."), elem_id="batch-status")
    table = gr.HTML(
        value=None, html_template=_part("films.html"), css_template=_part("films.css"), js_on_load=_part("films.js"),
        elem_id="table", apply_default_css=False,
    )  # fmt: skip
    archive = gr.Button("Save all reports (ZIP)", interactive=False, size="sm", elem_id="save-zip")
    waiting: dict[str, list[str]] = {}  # a session's files that no batch has read yet

    def wait(paths: list[str] | None, request: gr.Request) -> None:
        waiting[request.session_hash] = paths or []

    def several(paths: list[str] | None, kept: list[Opened]):
        yield from handlers.run_batch(reporter, paths, kept)

    def leave(request: gr.Request) -> None:
        delete(waiting.pop(request.session_hash, []))

    def open_row(opened: list[Opened | None], event: gr.EventData) -> list[Any]:
        return handlers.open_row(opened, event.row)

    files.change(wait, files, None, show_progress="hidden", queue=False, **HIDDEN)
    page.unload(leave)
    start.click(
        several, [files, history], [files, status, table, results, history, archive], show_progress_on=status,
        **IN_TURN, **HIDDEN,
    )  # fmt: skip
    _saves(archive, handlers.export_batch, [results], carrier)
    table.select(open_row, results, [*film, tabs], **QUIET)


def _compare_tab(history: gr.State) -> None:
    with gr.Row(equal_height=False):
        for side in ("left", "right"):
            with gr.Column(min_width=320):
                choice = gr.Dropdown([], label=f"Study on the {side}", elem_id=f"choice-{side}")
                shown = viewer(f"compare-{side}", "Choose a study of this session.", alone=True)
                history.change(
                    lambda kept: gr.Dropdown(labels_of(kept)), history, choice, show_progress="hidden", **HIDDEN
                )
                choice.input(handlers.compared, [history, choice], shown, show_progress="hidden", **HIDDEN)
