"""The page: a radiograph in, its report out, beside the picture of what the report was written from.

    python app.py

XR2TEXT_CHECKPOINT names the checkpoint, a folder or a model on the Hugging Face hub; gradio's own variables
(GRADIO_SERVER_NAME, GRADIO_SERVER_PORT, ...) hold. Nothing that is uploaded outlives UPLOAD_LIFE seconds.
"""

import os
import signal
import tempfile
import time
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.config import ConfigError
from xr2text.imaging.read import ACCEPTED, ImageError, read_radiograph
from xr2text.inference.examples import ExampleShelf
from xr2text.inference.export import NOTICE, report_json, write_report
from xr2text.inference.overlay import Canvas, draw_grey, make_canvas, paint
from xr2text.inference.reporter import Report, Reporter
from xr2text.model.xr2text import CheckpointError

SHIPPED_CHECKPOINT = Path(__file__).parent / "checkpoints" / "xr2text-iu"
UPLOAD_LIFE = 3600
MAX_FILE_SIZE = "64mb"
LONG_SIDE = 1024
OPACITY = 0.45

THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    radius_size="sm",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)
SWATCHES = "\n".join(
    f"#regions label:nth-of-type({k}) {{ border-left: 10px solid {region.colour} }}"
    for k, region in enumerate(REGIONS, start=1)
)
CSS = f"""
.gradio-container {{ max-width: 1440px !important; margin: 0 auto }}
#head .html-container, #notice .html-container, #status .html-container, #weights .html-container {{ padding: 0 }}
#head h1 {{ margin: 0; font-size: 1.5rem }}
#head p {{ margin: 0 }}
.notice {{ border-left: 4px solid #E69F00; padding: .5rem .75rem; background: var(--background-fill-secondary) }}
.message {{ border-left: 4px solid var(--border-color-primary); padding: .5rem .75rem }}
.message.good {{ border-color: #009E73 }}
.message.bad {{ border-color: #D55E00; font-weight: 600 }}
.message p {{ margin: .25rem 0 0; font-weight: 400 }}
#findings textarea, #impression textarea {{ font-size: 1.05rem; line-height: 1.5 }}
#picture {{ min-height: 320px }}
#picture img {{ width: 100%; height: auto; max-height: 720px; background: #000; object-fit: contain }}
.weights {{ display: grid; grid-template-columns: max-content 1fr max-content; gap: .4rem .75rem; align-items: center }}
.weights h3 {{ grid-column: 1 / -1; margin: 0; font-size: 1rem }}
.weights .track {{ position: relative; height: .9rem; background: var(--background-fill-secondary) }}
.weights .bar {{ height: 100% }}
.weights .equal {{ position: absolute; top: -.2rem; bottom: -.2rem; border-left: 2px dashed var(--body-text-color) }}
.weights .note {{ grid-column: 1 / -1; font-size: .85rem; color: var(--body-text-color-subdued) }}
.weights span:nth-of-type(even) {{ text-align: right; font-variant-numeric: tabular-nums }}
{SWATCHES}
"""
WELCOME = "Drop a frontal chest radiograph, or take an example."


def message(text: str, kind: str = "", details: tuple[str, ...] = ()) -> str:
    """A line in the page that stays, unlike a toast; `kind` is "", "good" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    lines = "".join(f"<p>{escape(detail)}</p>" for detail in details)
    return f'<div class="message {kind}" role="{role}">{escape(text)}{lines}</div>'


def weights_chart(weights: dict[str, float]) -> str:
    """Horizontal bars in the regions' colours, in HTML so that they follow the page's light or dark theme."""
    longest = max(weights.values())
    equal = 100 / len(weights) / longest
    rows = []
    for region in REGIONS:
        weight = weights[region.name]
        bar = f'<div class="bar" style="width: {100 * weight / longest:.1f}%; background: {region.colour}"></div>'
        mark = f'<div class="equal" style="left: {equal:.1f}%"></div>'
        rows.append(
            f'<span>{region.name}</span><div class="track">{bar}{mark}</div><span>{weight:.1%}</span>'
        )  # fmt: skip
    note = '<div class="note">How much the report drew on each region; the dashed line is an equal share.</div>'
    return f'<div class="weights"><h3>Region weights</h3>{"".join(rows)}{note}</div>'


def load_reporter() -> Reporter:
    """The checkpoint of XR2TEXT_CHECKPOINT, or the one that ships; ends the process in words where there is none."""
    try:
        return Reporter.from_pretrained(os.environ.get("XR2TEXT_CHECKPOINT") or SHIPPED_CHECKPOINT)
    except (CheckpointError, ConfigError) as error:
        hint = "XR2TEXT_CHECKPOINT names a checkpoint folder or a model on the Hugging Face hub."
        raise SystemExit(f"The model could not be loaded: {error}\n{hint}") from None


def report_upload(reporter: Reporter, path: str | None) -> Report:
    """The report of an upload, or an ImageError in words for the page."""
    if not path:
        raise ImageError("Choose a radiograph first: drop a file above, or take an example.")
    return reporter.report(path)


def save_downloads(report: Report) -> list[Path]:
    """The report's files, in gradio's cache, whose age limit deletes them along with the uploads."""
    cache = Path(gr.utils.get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    return write_report(report, tempfile.mkdtemp(dir=cache))


def offered_labels(shelf: ExampleShelf) -> list[list[str]]:
    return [[example.label] for example in shelf.offered()]


def fill(status: str, canvas: Canvas | None, image: np.ndarray | None, report: Report | None = None) -> list:
    """One value for each part of the page's `panel`; without a report the former one leaves the page."""
    files = save_downloads(report) if report else [None] * 3
    return [
        status,
        canvas,
        image,
        report.findings if report else "",
        report.impression if report else "",
        weights_chart(report.region_weights) if report else "",
        *(gr.DownloadButton(value=path and str(path), interactive=bool(path)) for path in files),
    ]


def show_upload(path: str | None) -> list:
    """A file was dropped or taken away: its radiograph, or what is wrong with it."""
    if not path:
        return fill(message(WELCOME), None, None)
    try:
        radiograph = read_radiograph(path)
    except ImageError as error:
        return fill(message(str(error), "bad"), None, None)
    canvas = Canvas(draw_grey(radiograph.pixels, LONG_SIDE))
    size = f"{radiograph.width} × {radiograph.height} pixels"
    return fill(message(f"Radiograph of {size}. Press Generate report."), canvas, canvas.grey)


def write_panel(reporter: Reporter, path: str | None, regions: list[str], opacity: float) -> list:
    """Generate report was pressed: the report, or why there is none."""
    start = time.perf_counter()
    try:
        report = report_upload(reporter, path)
    except ImageError as error:
        return fill(message(str(error), "bad"), None, None)
    canvas = make_canvas(report, LONG_SIDE)
    took = f"Report written by {report.model} in {time.perf_counter() - start:.1f} s."
    return fill(message(took, "good", report.warnings), canvas, paint(canvas, regions, opacity), report)


def redraw(canvas: Canvas | None, regions: list[str], opacity: float):
    """A region was switched or the opacity moved: the kept maps are painted again, without the model."""
    return gr.skip() if canvas is None else paint(canvas, regions, opacity)


def build_page(reporter: Reporter, shelf: ExampleShelf) -> gr.Blocks:
    """Lays out the page and ties its events to the reporter."""
    with gr.Blocks(title="XR2Text", analytics_enabled=False, delete_cache=(300, UPLOAD_LIFE)) as page:
        gr.HTML(
            "<h1>XR2Text</h1><p>A chest radiograph's report, written from seven anatomical regions.</p>", elem_id="head"
        )
        gr.HTML(
            f'<div class="notice"><b>{NOTICE}</b> Sides are those of the patient: right is on the left of the picture. '
            f"Model: {escape(reporter.model_name)}.</div>",
            elem_id="notice",
        )
        canvas = gr.State(None, time_to_live=UPLOAD_LIFE)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=340):
                file = gr.File(
                    label=f"Radiograph: {ACCEPTED}, up to {MAX_FILE_SIZE[:-2]} MB", height=180, elem_id="file"
                )
                examples = gr.Dataset(
                    samples=offered_labels(shelf),
                    label="Examples",
                    components=["textbox"],
                    type="index",
                    elem_id="examples",
                )
                generate = gr.Button("Generate report", variant="primary", size="lg", elem_id="generate")
                status = gr.HTML(message(WELCOME), elem_id="status")
                findings = gr.Textbox(
                    label="Findings", lines=5, max_lines=14, buttons=["copy"], interactive=False, elem_id="findings"
                )
                impression = gr.Textbox(
                    label="Impression", lines=2, max_lines=8, buttons=["copy"], interactive=False, elem_id="impression"
                )
                with gr.Row():
                    downloads = [
                        gr.DownloadButton(label, size="sm", interactive=False, min_width=90)
                        for label in ("report.txt", "report.json", "overlay.png")
                    ]
            with gr.Column(scale=6, min_width=340):
                picture = gr.Image(
                    label="Radiograph and regions", format="png", interactive=False,
                    buttons=["fullscreen"], elem_id="picture",
                    alt_text="The radiograph with the attention maps of the chosen regions in colour",
                )  # fmt: skip
                regions = gr.CheckboxGroup(
                    list(REGION_NAMES), value=list(REGION_NAMES), label="Regions shown", elem_id="regions"
                )
                opacity = gr.Slider(0, 1, value=OPACITY, step=0.05, label="Opacity of the regions", elem_id="opacity")
                weights = gr.HTML(elem_id="weights")

        panel = [status, canvas, picture, findings, impression, weights, *downloads]

        def generate_report(path: str | None, chosen: list[str], alpha: float):
            return write_panel(reporter, path, chosen, alpha)

        def report_endpoint(path: str) -> dict:
            try:
                return report_json(report_upload(reporter, path))
            except ImageError as error:
                raise gr.Error(str(error)) from error

        # One queue for reading and writing: the answers come in the order of the clicks, so that no report of a former
        # file lands beside a later one, and one report at a time has the processor.
        in_turn = {"concurrency_id": "radiograph", "concurrency_limit": 1}
        hidden = {"api_visibility": "private"}
        file.change(show_upload, file, panel, show_progress_on=picture, **in_turn, **hidden)
        shown = [canvas, regions, opacity]
        written = generate.click(
            generate_report, [file, regions, opacity], panel, show_progress_on=[findings, impression],
            **in_turn, **hidden,
        )  # fmt: skip
        # A region may have been switched while the report was being written. In turn as well: a picture of the former
        # file must not come back after a next one was dropped.
        written.then(redraw, shown, picture, show_progress="hidden", **in_turn, **hidden)
        for control in (regions, opacity):
            control.change(
                redraw, shown, picture, trigger_mode="always_last", show_progress="hidden",
                concurrency_id="redraw", concurrency_limit=4, **hidden,
            )  # fmt: skip
        examples.click(lambda k: str(shelf.offered()[k].path), examples, file, **hidden)
        page.load(lambda: gr.Dataset(samples=offered_labels(shelf)), None, examples, show_progress="hidden", **hidden)
        gr.Button(visible=False).click(
            report_endpoint, file, gr.JSON(visible=False), api_name="report", **in_turn,
            api_description="Radiograph file -> findings, impression, sentences, region weights, model, warnings.",
        )  # fmt: skip
    return page.queue(max_size=32)


def main() -> None:
    shelf = ExampleShelf()
    reporter = load_reporter()
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    # A folder of this process's own, because gradio leaves uploads behind where a reader's page is open at the stop.
    with tempfile.TemporaryDirectory(prefix="xr2text-uploads-", dir=parent, ignore_cleanup_errors=True) as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop ends like Ctrl-C
        build_page(reporter, shelf).launch(
            theme=THEME, css=CSS, share=False, ssr_mode=False, max_file_size=MAX_FILE_SIZE,
            allowed_paths=[str(shelf.cache)], state_session_capacity=100,
            run_history=False, footer_links=["api"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
