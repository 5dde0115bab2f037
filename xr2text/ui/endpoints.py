"""The API for programs: gradio_client, curl and MCP."""

from pathlib import Path
from typing import Any

import gradio as gr

from xr2text.anatomy import REGION_NAMES
from xr2text.export.source import OTHER_STUDY, of_one_study, source_of
from xr2text.export.text import NOTICE, report_json
from xr2text.imaging.radiograph import ACCEPTED, MAX_PIXELS, ImageError
from xr2text.imaging.read import read_radiograph
from xr2text.inference.confidence import FindingError
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.handlers import MAX_BATCH
from xr2text.ui.session import report_in_time
from xr2text.ui.uploads import delete, read_once, upload

MAX_FILE_SIZE = "64mb"


def about(reporter: Reporter) -> dict[str, Any]:
    """What the model is and what input it takes."""
    config, thresholds = reporter.model.config, reporter.model.calibration.thresholds
    return {
        "model": reporter.model_name,
        "accepted": ACCEPTED,
        "max_file_size": MAX_FILE_SIZE,
        "max_pixels": MAX_PIXELS,
        "max_batch": MAX_BATCH,
        "image_size": config.image_size,
        "regions": list(REGION_NAMES),
        "findings": {name: thresholds.get(name, 0.5) for name in config.findings},
        "not_assessed": [name for name, measure in reporter.model.calibration.measures.items() if not measure.assessed],
        "notice": NOTICE,
    }


def refusal(text: str) -> gr.Error:
    """An error for the calling program; nothing of it is written to the server's log."""
    return gr.Error(text, print_exception=False)


def write_report(
    reporter: Reporter, file: str, force: bool, findings: dict[str, str] | None = None, lateral: str | None = None
) -> dict:
    """The report of a file, and of its lateral view where given, as plain data. Raises ImageError and FindingError."""
    content = read_once(file)
    radiograph, side = read_radiograph(content), None
    source = source_of(content, radiograph)
    if lateral:
        content = read_once(lateral)
        side = read_radiograph(content)
        if not force and not of_one_study(source, source_of(content, side)):
            raise DoubtfulImageError(OTHER_STUDY)
    written = report_in_time(reporter, radiograph, force, findings, side)
    return report_json(written, source.sha256, Path(file).name)


def add_endpoints(reporter: Reporter, in_turn: dict[str, Any]) -> None:
    """Adds /report, /report_batch and /info to the page that is being built.

    Args:
        in_turn: the queue that all who use the model share.
    """

    def report(file: str, force: bool = False, findings: dict | None = None, lateral: str | None = None) -> dict:
        try:
            if not file:
                raise refusal("No file was sent.")
            if findings is not None and not isinstance(findings, dict):
                raise refusal('Findings are sent as an object, such as {"pleural effusion": "present"}.')
            return write_report(reporter, file, force, findings, lateral)
        except DoubtfulImageError as error:
            raise refusal(f"{error} Send force=true to have it all the same.") from error
        except (ImageError, FindingError) as error:
            raise refusal(str(error)) from error
        finally:
            delete(filter(None, [file, lateral]))

    def report_batch(files: list[str], force: bool = False) -> list[dict]:
        reports: list[dict] = []
        try:
            if not files or len(files) > MAX_BATCH:
                raise refusal(f"Send from 1 to {MAX_BATCH} files, not {len(files or [])}.")
            for file in files:
                try:
                    reports.append(write_report(reporter, file, force))
                except ImageError as error:
                    reports.append({"error": str(error)})
        finally:
            delete(files or [])
        return reports

    def info() -> dict[str, Any]:
        return about(reporter)

    single, lateral = upload(visible=False), upload(visible=False, label="lateral")
    many, answer = upload(visible=False, file_count="multiple"), gr.JSON(visible=False)
    force = gr.Checkbox(False, label="force", visible=False)
    findings = gr.JSON(None, label="findings", visible=False)
    # MCP's tool schemas cannot describe arbitrary JSON.
    findings.api_info = lambda: {"type": "object", "additionalProperties": {"type": "string"}}
    gr.Button(visible=False).click(
        report, [single, force, findings, lateral], answer, api_name="report", **in_turn,
        api_description="A radiograph's file -> findings, impression, sentences with their regions, doubts, model; "
        "with force also where it may be no chest radiograph of its view; findings such as "
        "{'pleural effusion': 'present'} are as a person sees them, and the report follows; lateral is the lateral "
        "view of the same study. The files are deleted once they are read.",
    )  # fmt: skip
    gr.Button(visible=False).click(
        report_batch, [many, force], answer, api_name="report_batch", **in_turn,
        api_description="Radiographs' files -> for each its report as /report gives it, or {'error': why not}.",
    )  # fmt: skip
    gr.Button(visible=False).click(
        info, None, answer, api_name="info",
        api_description="The model, its regions and findings, and what files it takes.",
    )  # fmt: skip
