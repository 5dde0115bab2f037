import json

import numpy as np
import pytest
from example_report import make_report
from headless import headless_browser, needs_browser

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.overlay import BLENDING, draw_grey, make_canvas, paint
from xr2text.ui.viewer.viewer import view, viewer


def test_an_empty_page_has_no_view():
    assert view(None) is None


def test_the_browser_is_given_the_attention_itself(decoded):
    report = make_report()
    shown = view(draw_grey(report.radiograph.pixels), report)
    assert decoded(shown["image"]).shape == (1024, 853)
    assert [region["name"] for region in shown["regions"]] == list(REGION_NAMES)
    assert [region["colour"] for region in shown["regions"]] == [region.colour for region in REGIONS]
    for region, expected in zip(shown["regions"], report.maps_at(384, 320), strict=True):
        assert np.abs(decoded(region["map"]) / 255 - expected).mean() < 0.01
    assert [sentence["text"] for sentence in shown["sentences"]] == [sentence.text for sentence in report.sentences]
    assert shown["sentences"][0]["weights"] == list(report.sentences[0].region_weights.values())


@pytest.mark.slow
@needs_browser
def test_the_browser_draws_what_the_overlay_draws(decoded, tmp_path):
    """The same radiograph, regions and lines: in the viewer's canvas and by `paint`."""
    report = make_report()
    part, value = viewer("reader", "Nothing."), json.dumps(view(draw_grey(report.radiograph.pixels), report))
    given = f"const element = document.body, props = {{ value: {value} }}, watch = () => {{}};"
    page = f"<body>{part.html_template}<script>{given}{part.js_on_load}</script></body>"
    (tmp_path / "viewer.html").write_text(page, encoding="utf-8")
    canvas = make_canvas(report)
    with headless_browser(tmp_path / "profile") as browser:
        browser.implicitly_wait(20)
        browser.get((tmp_path / "viewer.html").as_uri())
        browser.find_element("css selector", ".reader[data-ready=report]")
        for opacity in (BLENDING.opacity, 0.8):
            for k in (None, 2, 6):
                drawn = decoded(browser.execute_script(DRAW, 100 * opacity, k))[..., :3]
                regions = REGION_NAMES if k is None else REGION_NAMES[k : k + 1]
                difference = np.abs(drawn.astype(int) - paint(canvas, regions, opacity))
                assert difference.mean() < 2 and np.percentile(difference, 97) <= 8
                assert np.mean(difference > 64) < 0.005  # where a line has another jag


DRAW = """
const [opacity, k] = arguments, slider = document.querySelector(".opacity");
const only = k === null ? { click() {} } : document.querySelectorAll(".only")[k];
slider.value = opacity;
slider.dispatchEvent(new Event("input"));
only.click();
const drawn = document.querySelector("canvas").toDataURL();
only.click();
return drawn;
"""
