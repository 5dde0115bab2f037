import json

import numpy as np
import pytest
from example_report import make_report
from headless import headless_browser, needs_browser

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.confidence import FindingReading
from xr2text.inference.overlay import BLENDING, draw_grey, make_canvas, paint
from xr2text.model.findings import FindingMeasure
from xr2text.ui.viewer.viewer import film_view, map_views, report_view, viewer


def test_the_browser_is_given_the_attention_itself(decoded):
    report = make_report()
    grey = draw_grey(report.radiograph.pixels)
    assert decoded(film_view(grey)["image"]).shape == (1024, 853) and map_views(None, grey.shape) == []
    maps = map_views(report, grey.shape)
    assert [region["name"] for region in maps] == list(REGION_NAMES)
    assert [region["colour"] for region in maps] == [region.colour for region in REGIONS]
    for region, expected in zip(maps, report.maps_at(384, 320), strict=True):
        assert np.abs(decoded(region["map"]) / 255 - expected).mean() < 0.01
    shown = report_view(report, {("findings", "The lungs are clear.")})
    assert [sentence["text"] for sentence in shown["sentences"]] == [sentence.text for sentence in report.sentences]
    assert shown["sentences"][0]["weights"] == list(report.sentences[0].region_weights.values())
    assert [sentence["changed"] for sentence in shown["sentences"]] == [False, True, False]


def test_findings_are_listed_by_what_a_reader_asks_first():
    rare = FindingMeasure(2, 290, None, None, None)
    known = FindingMeasure(50, 240, [0.8, 0.7, 0.9], [0.9, 0.85, 0.95], [0.9, 0.8, 0.95])
    readings = [
        FindingReading("low", 0.1, 0.5), FindingReading("rare", 0.9, 0.5, measure=rare),
        FindingReading("seen", 0.6, 0.5, measure=known), FindingReading("set", 0.0, 0.5, set_to="absent"),
    ]  # fmt: skip
    shown = report_view(make_report(readings=readings))["findings"]
    assert [finding["name"] for finding in shown] == ["seen", "low", "set", "rare"], "what is set stays in its place"
    assert [finding["assessed"] for finding in shown] == [True, True, True, False]
    assert shown[0]["measure"].startswith("sensitivity 80% (70% to 90%), specificity 90%")
    assert "50 of 290" in shown[0]["measure"] and "not been measured" in shown[1]["measure"]


@pytest.mark.slow
@needs_browser
def test_the_browser_draws_what_the_overlay_draws(decoded, tmp_path):
    """The same radiograph, regions and lines: in the viewer's canvas and by `paint`."""
    report = make_report()
    part, grey = viewer("reader", "Nothing."), draw_grey(report.radiograph.pixels)
    value = report_view(report) | {"label": "a label", "status": None}
    maps = map_views(report, grey.shape)
    props = json.dumps({"value": value, "film": film_view(grey), "maps": maps, "blending": part.props["blending"]})
    given = f"const element = document.body, props = {props}, watch = () => {{}}, upload = null, trigger = null;"
    page = f"<body>{part.html_template}<script>{given}{part.js_on_load}</script></body>"
    (tmp_path / "viewer.html").write_text(page, encoding="utf-8")
    canvas = make_canvas(report)
    with headless_browser(tmp_path / "profile") as browser:
        browser.implicitly_wait(20)
        browser.get((tmp_path / "viewer.html").as_uri())
        browser.find_element("css selector", ".room[data-ready=report]")
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
