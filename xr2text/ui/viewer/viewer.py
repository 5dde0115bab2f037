"""The viewer: one HTML component with a radiograph, its regions, and the report's sentences beside it.

What it shows is drawn in the browser (film.js, report.js, room.js), so that window, zoom and sentences answer at once.
Nothing is computed there that the report does not hold: the maps are the model's attention, the strengths a
sentence's weights. It has four properties, which are sent again only where they change: `film`, `maps`, `examples`, and
the value, which is the report.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.export.text import measure_words
from xr2text.imaging.radiograph import ACCEPTED
from xr2text.inference.confidence import MODERATE, FindingReading
from xr2text.inference.overlay import BLENDING, LATERAL_COLOUR
from xr2text.inference.report import Report, Sentence

MAP_SIDE = 384  # pixels of the longer side of a region's map for the browser
NOT_MEASURED = "How well the model knows it has not been measured."
FIRST_FINDINGS = 6  # findings shown before "more" is pressed
TEMPLATE, CSS, *SCRIPTS = (
    Path(__file__).with_name(name).read_text("utf-8")
    for name in ("room.html", "room.css", "film.js", "report.js", "room.js")
)


def viewer(elem_id: str, empty: str, title: str = "", **properties: Any) -> gr.HTML:
    """The viewer component of the page.

    Args:
        empty: shown where there is no radiograph.
        title: of a viewer that only shows a study, by which it is chosen; without, radiographs are read in it.
        properties: for the scripts: examples, keeping (what a reader is told of corrections), lateral.
    """
    hint = f"{ACCEPTED}. Drop it, choose it or paste it; a frontal and its lateral together; or many, for a batch."
    template = TEMPLATE
    fields = {
        "id": elem_id, "mode": "compare" if title else "read", "title": title, "empty": empty, "hint": hint,
        "opacity": f"{100 * BLENDING.opacity:.0f}",
    }  # fmt: skip
    for name, text in fields.items():
        template = template.replace(f"{{{name}}}", text)
    return gr.HTML(
        html_template=template, css_template=CSS, js_on_load="\n".join(SCRIPTS), elem_id=elem_id,
        apply_default_css=False, film=None, maps=[], blending=asdict(BLENDING), **properties,
    )  # fmt: skip


def film_view(grey: np.ndarray, lateral: np.ndarray | None = None, credit: str = "") -> dict[str, Any]:
    """The value of `film`: the radiographs [h, w] uint8, and a credit line for examples."""
    return {"image": picture(grey), "lateral": None if lateral is None else picture(lateral), "credit": credit}


def map_views(report: Report | None, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """The value of `maps`: name, colour and attention of each region, for a radiograph of `shape`. Where a lateral view
    was read, its map is the last, marked as such."""
    if report is None:
        return []
    scale = MAP_SIDE / max(shape)
    maps = report.maps_at(*(max(1, round(side * scale)) for side in shape))
    views = [_map_view(region.name, region.colour, level) for region, level in zip(REGIONS, maps, strict=True)]
    if report.lateral is not None:
        height, width = report.lateral.pixels.shape
        scale = MAP_SIDE / max(height, width)
        size = max(1, round(scale * height)), max(1, round(scale * width))
        level = report.lateral_geometry.map_to_original(report.lateral_map[None], size)[0]
        colour = "#{:02x}{:02x}{:02x}".format(*LATERAL_COLOUR)
        views.append(_map_view("lateral view", colour, level / level.max()) | {"lateral": True})
    return views


def _map_view(name: str, colour: str, level: np.ndarray) -> dict[str, Any]:
    return {"name": name, "colour": colour, "map": picture(np.round(255 * level.clip(0, 1)).astype(np.uint8))}


def report_view(report: Report, changed: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The report as plain data for the viewer. `changed` has (section, text) of the sentences to be marked as
    changed."""
    readings = sorted(report.finding_readings, key=_rank)
    seen = sum(reading.probability >= reading.threshold for reading in readings)
    return {
        "sentences": [
            _sentence_view(sentence) | {"changed": (sentence.section, sentence.text) in changed}
            for sentence in report.sentences
        ],
        "weights": [report.region_weights[name] for name in REGION_NAMES],
        "findings": [
            {
                "name": reading.name, "probability": reading.probability, "threshold": reading.threshold,
                "seen": reading.seen, "set": reading.set_to, "assessed": reading.assessed,
                "measure": measure_words(reading.measure) if reading.measure else NOT_MEASURED,
            }
            for reading in readings
        ],
        "first": max(FIRST_FINDINGS, seen),
        "doubts": report.doubts,
    }  # fmt: skip


def _rank(reading: FindingReading) -> tuple:
    """Sorts findings: those that the model sees and assesses, then the others that it assesses, then the rest, each by
    probability. What a person has set does not change the order."""
    seen = reading.probability >= reading.threshold
    return not (seen and reading.assessed), not reading.assessed, -reading.probability


def _sentence_view(sentence: Sentence) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "section": sentence.section,
        "weights": [sentence.region_weights[name] for name in REGION_NAMES] if sentence.region_weights else [],
        "lateral": sentence.lateral_weight,
        "region": sentence.region,
        "certainty": sentence.certainty,
        "by": "person" if sentence.confidence is None else "model",
        "doubtful": sentence.confidence is not None
        and (
            sentence.confidence < MODERATE or bool(sentence.not_assessed or sentence.possible or sentence.against_set)
        ),
    }


def picture(pixels: np.ndarray) -> str:
    """A grey image [h, w] uint8 as a data URL."""
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
