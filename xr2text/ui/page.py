"""The page: one film read at a time, several in a row, and two side by side. Layout and events only.

Parts stand in the modules beside: `viewer` draws, `panels` shows, `session` keeps. All events that use the model wait
in one queue, so that no report of a former file lands beside a later one and one report at a time has the processor.
"""

import time
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.read import ACCEPTED, MAX_PIXELS, ImageError
from xr2text.inference.examples import ExampleShelf
from xr2text.inference.export import NOTICE, report_json
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.panels import doubts_list, findings_chart, message, weights_chart
from xr2text.ui.session import Opened, open_film, remember, report_film, report_in_time, save_files, zip_reports
from xr2text.ui.viewer import view, viewer

UPLOAD_LIFE = 900  # seconds that a file stays, since equal files of two readers are one
SESSION_LIFE = 3600  # seconds that the studies of a session stay in memory
MAX_FILE_SIZE = "64mb"
MAX_BATCH = 30
WAITING = 32  # requests in the queue; those beyond are told to come back
WELCOME = "Drop a frontal chest radiograph, or take an example."
IN_TURN = {"concurrency_id": "radiograph", "concurrency_limit": 1}
HIDDEN = {"api_visibility": "private"}
FILES = {
    "txt": "Text", "pdf": "PDF", "json": "JSON", "png": "Picture", "fhir": "FHIR", "dicom-sr": "DICOM SR",
}  # fmt: skip
COLUMNS = ["Film", "Result", "Impression"]

CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto }
#head .html-container, #notice .html-container, #status .html-container { padding: 0 }
#head h1 { margin: 0; font-size: 1.5rem }
#head p { margin: 0 }
.notice { border-left: 4px solid #E69F00; padding: .5rem .75rem; background: var(--background-fill-secondary) }
.message { border-left: 4px solid var(--border-color-primary); padding: .5rem .75rem }
.message.good { border-color: #009E73 }
.message.bad { border-color: #D55E00; font-weight: 600 }
.message p { margin: .25rem 0 0; font-weight: 400 }
#findings textarea, #impression textarea { font-size: 1.05rem; line-height: 1.5 }
.bars { display: grid; grid-template-columns: minmax(5rem, 12rem) minmax(5rem, 1fr) max-content; gap: .35rem .75rem }
.bars { align-items: center }
.bars h3, .doubts h3 { grid-column: 1 / -1; margin: 0; font-size: 1rem }
.bars .track { position: relative; height: .9rem; background: var(--background-fill-secondary) }
.bars .bar { height: 100%; background: #8AA4B8 }
.bars .bar.seen { background: #D55E00 }
.bars .mark { position: absolute; top: -.2rem; bottom: -.2rem; border-left: 2px solid var(--body-text-color) }
.bars .mark.dashed { border-left-style: dashed }
.bars .note { grid-column: 1 / -1; font-size: .85rem; color: var(--body-text-color-subdued) }
.bars > span:nth-of-type(even) { text-align: right; font-variant-numeric: tabular-nums }
.doubts ul { margin: .3rem 0 0; padding-left: 1.2rem }
"""
THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    radius_size="sm",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)


def fill(status: str, opened: Opened | None, doubtful: bool = False) -> list[Any]:
    """One value for each part of the `panel` that shows a film; without a report the former one leaves the page.

    Args:
        doubtful: the reader is asked whether a report is to be written of this picture.
    """
    report = opened.report if opened else None
    return [
        status,
        opened,
        view(opened.grey if opened else None, report),
        gr.Textbox(report.findings if report else "", interactive=report is not None),
        gr.Textbox(report.impression if report else "", interactive=report is not None),
        findings_chart(report.finding_readings) if report else "",
        weights_chart(report.region_weights) if report else "",
        doubts_list(report) if report else "",
        gr.Button(visible=doubtful),
        *no_files(),
    ]


def no_files() -> list[Any]:
    return [gr.DownloadButton(value=None, interactive=False) for _ in FILES]


def show_upload(path: str | None) -> list[Any]:
    """A file was dropped or taken away: its radiograph, or what is wrong with it."""
    if not path:
        return fill(message(WELCOME), None)
    try:
        opened, (height, width) = open_film(path)
    except ImageError as error:
        return fill(message(str(error), "bad"), None)
    return fill(message(f"Radiograph of {width} × {height} pixels. Press Generate report."), opened)


def write_panel(reporter: Reporter, path: str | None, history: list[Opened], force: bool = False) -> list[Any]:
    """Generate report was pressed: the report, or why there is none; and the session's list.

    Args:
        force: the reader has said that a doubtful picture is a frontal chest radiograph.
    """
    start = time.perf_counter()
    try:
        if not path:
            raise ImageError("Choose a radiograph first: drop a file above, or take an example.")
        opened = report_film(reporter, path, f"{time.strftime('%H:%M:%S')} · report {len(history) + 1}", force)
    except DoubtfulImageError as error:
        return [*fill(message(str(error), "bad"), open_film(path)[0], doubtful=True), history]
    except ImageError as error:
        return [*fill(message(str(error), "bad"), None), history]
    took = f"Report written by {opened.report.model} in {time.perf_counter() - start:.1f} s."
    return [*fill(message(took, "good", opened.report.warnings), opened), remember(history, opened)]


def apply_edit(opened: Opened | None, findings: str, impression: str, history: list[Opened]) -> list[Any]:
    """The text was edited: sentences, doubts and files are those of the edited report from now on."""
    unchanged = [gr.skip()] * (5 + len(FILES))
    if opened is None or opened.bare is None:
        return unchanged
    edited = opened.edited(findings, impression)
    if edited is opened:
        return unchanged
    status = message("The text is edited. Every file says so, and by which model it was drafted.")
    history = [edited if one is opened else one for one in history]
    return [status, edited, view(edited.grey, edited.report), doubts_list(edited.bare), history, *no_files()]


def prepare_files(opened: Opened | None) -> list[Any]:
    """The report's files, for the buttons."""
    if opened is None or opened.bare is None:
        return no_files()
    files = save_files(opened)
    return [gr.DownloadButton(value=files[name] and str(files[name]), interactive=bool(files[name])) for name in FILES]


def run_batch(reporter: Reporter, paths: list[str] | None, history: list[Opened]) -> Iterator[list[Any]]:
    """Film after film; a bad one has its sentence in the table and stops nothing."""
    paths = paths or []
    rows: list[list[str]] = []
    opened: list[Opened | None] = []
    if not paths or len(paths) > MAX_BATCH:
        text = f"Choose up to {MAX_BATCH} files at once." if paths else "Choose one or more files first."
        yield [message(text, "bad"), rows, opened, history, gr.DownloadButton(value=None, interactive=False)]
        return
    idle = gr.DownloadButton(value=None, interactive=False)
    for number, path in enumerate(paths, start=1):
        yield [message(f"Film {number} of {len(paths)} …"), rows, opened, history, idle]
        name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
        try:
            one = report_film(reporter, path, f"{time.strftime('%H:%M:%S')} · batch {number}")
        except ImageError as error:
            hint = " Read it alone to have one all the same." if isinstance(error, DoubtfulImageError) else ""
            rows, opened = [*rows, [name, f"No report: {error}{hint}", ""]], [*opened, None]
            continue
        result = f"{len(one.bare.doubts)} doubts" if one.bare.doubts else "Report written"
        rows, opened = [*rows, [name, result, one.bare.impression]], [*opened, one]
        history = remember(history, one)
    archive = zip_reports(opened)
    written = sum(one is not None for one in opened)
    done = message(f"{written} of {len(paths)} films have a report. Choose a row to open it.", "good")
    yield [done, rows, opened, history, gr.DownloadButton(value=str(archive), interactive=written > 0)]


def labels_of(history: list[Opened]) -> list[str]:
    return [one.label for one in history]


def reopen(history: list[Opened], label: str | None) -> list[Any]:
    """A study of the session's list comes back to the page."""
    found = next((one for one in history if one.label == label), None)
    if found is None:
        return [gr.skip()] * (9 + len(FILES))
    return fill(message(f"Opened again: {found.label}."), found)


def compared(history: list[Opened], label: str | None) -> dict[str, Any] | None:
    found = next((one for one in history if one.label == label), None)
    return view(found.grey, found.report) if found else None


def about(reporter: Reporter) -> dict[str, Any]:
    """What the model is and what it takes, for programs."""
    config = reporter.model.config
    return {
        "model": reporter.model_name,
        "accepted": ACCEPTED,
        "max_file_size": MAX_FILE_SIZE,
        "max_pixels": MAX_PIXELS,
        "max_batch": MAX_BATCH,
        "image_size": config.image.size,
        "regions": list(REGION_NAMES),
        "findings": {name: config.finding_thresholds.get(name, 0.5) for name in config.findings},
        "notice": NOTICE,
    }


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
        with gr.Tabs() as tabs:
            with gr.Tab("Read", id="read"):
                panel = _reading_tab(reporter, shelf, history, page)
            with gr.Tab("Several", id="several"):
                _batch_tab(reporter, history, panel, tabs)
            with gr.Tab("Compare", id="compare"):
                _compare_tab(history)
        _endpoints(reporter)
    return page.queue(max_size=WAITING)


def _reading_tab(reporter: Reporter, shelf: ExampleShelf, history: gr.State, page: gr.Blocks) -> list:
    def offered() -> list[list[str]]:
        return [[example.label] for example in shelf.offered()]

    opened = gr.State(None, time_to_live=SESSION_LIFE)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            file = gr.File(
                label=f"Radiograph: {ACCEPTED}, up to {MAX_FILE_SIZE[:-2]} MB", height=130, elem_id="file"
            )  # fmt: skip
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
        downloads = [
            gr.DownloadButton(label, size="sm", interactive=False, min_width=90, elem_id=f"save-{name}")
            for name, label in FILES.items()
        ]
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            chart = gr.HTML(elem_id="chart")
        with gr.Column(min_width=300):
            weights = gr.HTML(elem_id="weights")
            doubts = gr.HTML(elem_id="doubts")
    panel = [status, opened, reader, findings, impression, chart, weights, doubts, go_on, *downloads]

    def generate_report(path: str | None, kept: list[Opened]):
        return write_panel(reporter, path, kept)

    def generate_all_the_same(path: str | None, kept: list[Opened]):
        return write_panel(reporter, path, kept, force=True)

    file.change(show_upload, file, panel, show_progress_on=reader, **IN_TURN, **HIDDEN)
    quiet = {"show_progress": "hidden", **IN_TURN, **HIDDEN}
    for button, write in ((generate, generate_report), (go_on, generate_all_the_same)):
        button.click(
            write, [file, history], [*panel, history], show_progress_on=reader, **IN_TURN, **HIDDEN
        ).then(prepare_files, opened, downloads, **quiet)  # fmt: skip
    editing = [opened, findings, impression, history]
    after_edit = [status, opened, reader, doubts, history, *downloads]
    for text in (findings, impression):
        text.blur(apply_edit, editing, after_edit, trigger_mode="always_last", **quiet).then(
            prepare_files, opened, downloads, **quiet
        )
    history.change(lambda kept: gr.Dropdown(labels_of(kept)), history, earlier, show_progress="hidden", **HIDDEN)
    earlier.input(reopen, [history, earlier], panel, **quiet).then(prepare_files, opened, downloads, **quiet)
    examples.click(lambda k: str(shelf.offered()[k].path), examples, file, **HIDDEN)
    page.load(lambda: gr.Dataset(samples=offered()), None, examples, show_progress="hidden", **HIDDEN)
    return panel


def _batch_tab(reporter: Reporter, history: gr.State, panel: list, tabs: gr.Tabs) -> None:
    results = gr.State([], time_to_live=SESSION_LIFE)
    files = gr.File(
        label=f"Radiographs, up to {MAX_BATCH}: {ACCEPTED}", file_count="multiple", height=160, elem_id="files"
    )
    start = gr.Button("Generate reports", variant="primary", elem_id="start")
    status = gr.HTML(message("Drop several radiographs."), elem_id="batch-status")
    table = gr.Dataframe(headers=COLUMNS, interactive=False, wrap=True, elem_id="table")
    archive = gr.DownloadButton("All reports (ZIP)", interactive=False, size="sm", elem_id="save-zip")

    def several(paths: list[str] | None, kept: list[Opened]):
        yield from run_batch(reporter, paths, kept)

    start.click(
        several, [files, history], [status, table, results, history, archive], show_progress_on=status,
        **IN_TURN, **HIDDEN,
    )  # fmt: skip

    def open_row(opened: list[Opened | None], event: gr.SelectData):
        one = opened[event.index[0]] if event.index[0] < len(opened) else None
        if one is None:
            return [gr.skip()] * (len(panel) + 1)
        return [*fill(message(f"Film {event.index[0] + 1} of the batch."), one), gr.Tabs(selected="read")]

    quiet = {"show_progress": "hidden", **IN_TURN, **HIDDEN}
    table.select(open_row, results, [*panel, tabs], **quiet).then(prepare_files, panel[1], panel[9:], **quiet)


def _compare_tab(history: gr.State) -> None:
    with gr.Row(equal_height=False):
        for side in ("left", "right"):
            with gr.Column(min_width=320):
                choice = gr.Dropdown([], label=f"Study on the {side}", elem_id=f"choice-{side}")
                shown = viewer(f"compare-{side}", "Choose a study of this session.", alone=True)
                history.change(
                    lambda kept: gr.Dropdown(labels_of(kept)), history, choice, show_progress="hidden", **HIDDEN
                )
                choice.input(compared, [history, choice], shown, show_progress="hidden", **HIDDEN)


def refusal(text: str) -> gr.Error:
    """What a program is answered; nothing of it goes to the server's log."""
    return gr.Error(text, print_exception=False)


def _endpoints(reporter: Reporter) -> None:
    """For programs: what gradio_client, curl and MCP call."""

    def report(file: str, force: bool = False) -> dict:
        try:
            if not file:
                raise ImageError("No file was sent.")
            return report_json(report_in_time(reporter, file, force))
        except DoubtfulImageError as error:
            raise refusal(f"{error} Send force=true to have it all the same.") from error
        except ImageError as error:
            raise refusal(str(error)) from error

    def report_batch(files: list[str], force: bool = False) -> list[dict]:
        if not files or len(files) > MAX_BATCH:
            raise refusal(f"Send from 1 to {MAX_BATCH} files, not {len(files or [])}.")
        reports: list[dict] = []
        for file in files:
            try:
                reports.append(report_json(report_in_time(reporter, file, force)))
            except ImageError as error:
                reports.append({"error": str(error)})
        return reports

    def info() -> dict:
        return about(reporter)

    one, many, nothing = gr.File(visible=False), gr.File(visible=False, file_count="multiple"), gr.JSON(visible=False)
    force = gr.Checkbox(False, label="force", visible=False)
    gr.Button(visible=False).click(
        report, [one, force], nothing, api_name="report", **IN_TURN,
        api_description="A radiograph's file -> findings, impression, sentences with their regions, doubts, model; "
        "with force also where it may be no frontal chest radiograph.",
    )  # fmt: skip
    gr.Button(visible=False).click(
        report_batch, [many, force], nothing, api_name="report_batch", **IN_TURN,
        api_description="Radiographs' files -> for each its report as /report gives it, or {'error': why not}.",
    )  # fmt: skip
    gr.Button(visible=False).click(
        info, None, nothing, api_name="info",
        api_description="The model, its regions and findings, and what files it takes.",
    )  # fmt: skip
