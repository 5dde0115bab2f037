"""The viewer: one HTML component that draws a radiograph with its regions, and the report's sentences beside it.

What it shows is drawn in the browser (viewer.js), so that window, zoom, regions and sentences answer at once. Nothing
is computed there that the report does not hold: the maps are the model's attention, the strengths a sentence's weights.
"""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.confidence import confidence_in_words
from xr2text.inference.overlay import BLENDING
from xr2text.inference.reporter import Report

MAP_SIDE = 384  # pixels of a region's map as it is sent
TEMPLATE, CSS, SCRIPT = (
    Path(__file__).with_name(f"viewer.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
)


def viewer(elem_id: str, empty: str, alone: bool = False) -> gr.HTML:
    """The component; its value is what `view` gives, or None.

    Args:
        empty: shown where there is no radiograph.
        alone: the report stands under the radiograph, for two viewers side by side.
    """
    template = TEMPLATE
    fields = {"layout": " alone" if alone else "", "empty": empty, "opacity": f"{100 * BLENDING.opacity:.0f}"}
    for name, text in fields.items():
        template = template.replace(f"{{{name}}}", text)
    return gr.HTML(
        html_template=template, css_template=CSS, js_on_load=SCRIPT, elem_id=elem_id, apply_default_css=False
    )


def view(grey: np.ndarray | None, report: Report | None = None) -> dict[str, Any] | None:
    """What the viewer draws: the radiograph [h, w] uint8, and of its report the maps and sentences. Plain data."""
    if grey is None:
        return None
    regions, sentences = [], []
    if report is not None:
        scale = MAP_SIDE / max(grey.shape)
        maps = report.maps_at(*(max(1, round(side * scale)) for side in grey.shape))
        for region, level in zip(REGIONS, maps, strict=True):
            pixels = np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)
            regions.append({"name": region.name, "colour": region.colour, "map": _png(pixels)})
    for sentence in report.sentences if report else ():
        sentences.append({
            "text": sentence.text,
            "section": sentence.section,
            "weights": [sentence.region_weights[name] for name in REGION_NAMES] if sentence.region_weights else [],
            "region": sentence.region,
            "confidence": None if sentence.confidence is None else confidence_in_words(sentence.confidence),
        })  # fmt: skip
    return {"image": _png(grey), "regions": regions, "sentences": sentences, "blending": asdict(BLENDING)}


def _png(pixels: np.ndarray) -> str:
    """[h, w] uint8 as a data address."""
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
