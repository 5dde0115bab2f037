"""The reading room: one HTML component that draws a radiograph with its regions, and the report's sentences beside it.

What it shows is drawn in the browser (viewer.js), so that window, zoom, regions and sentences answer at once. Nothing
is computed there that the report does not hold: the maps are the model's attention, the strengths a sentence's weights.
"""

import base64
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.confidence import confidence_in_words
from xr2text.inference.reporter import Report

MAP_SIDE = 384  # pixels of a region's map as it is sent
HERE = Path(__file__).parent
TEMPLATE = (HERE / "viewer.html").read_text(encoding="utf-8")


def viewer(elem_id: str, empty: str, alone: bool = False) -> gr.HTML:
    """The component; its value is what `view` gives, or None.

    Args:
        empty: shown where there is no radiograph.
        alone: the report stands under the picture, for two viewers side by side.
    """
    return gr.HTML(
        value=None,
        html_template=TEMPLATE.replace("{kind}", " alone" if alone else "").replace("{empty}", empty),
        css_template=(HERE / "viewer.css").read_text(encoding="utf-8"),
        js_on_load=(HERE / "viewer.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
        apply_default_css=False,
    )


def view(grey: np.ndarray | None, report: Report | None = None) -> dict[str, Any] | None:
    """What the viewer draws: the radiograph [h, w] uint8, and of its report the maps and sentences. Plain data."""
    if grey is None:
        return None
    regions, sentences = [], []
    if report is not None:
        scale = MAP_SIDE / max(grey.shape)
        maps = report.maps_at(*(max(1, round(side * scale)) for side in grey.shape))
        for region, one in zip(REGIONS, maps, strict=True):
            pixels = np.round(255 * np.clip(one, 0, 1)).astype(np.uint8)
            regions.append({"name": region.name, "colour": region.colour, "map": _png(pixels)})
    for one in report.sentences if report else ():
        sentences.append({
            "text": one.text,
            "section": one.section,
            "weights": [one.region_weights[name] for name in REGION_NAMES] if one.region_weights else [],
            "region": one.region,
            "confidence": None if one.confidence is None else confidence_in_words(one.confidence),
        })  # fmt: skip
    return {"image": _png(grey), "regions": regions, "sentences": sentences}


def _png(pixels: np.ndarray) -> str:
    """[h, w] uint8 as a data address."""
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
