import numpy as np
from example_report import make_report

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.overlay import draw_grey
from xr2text.ui.viewer.viewer import view


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
