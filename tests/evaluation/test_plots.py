import re

import numpy as np
import pandas as pd
import pytest
from phantom_masks import phantom_masks
from test_tables import made_up_metrics

from xr2text.evaluation.clinical import CalibrationBins
from xr2text.evaluation.plots import (
    Example,
    FindingMatch,
    examples_page,
    finding_bars,
    reliability_figure,
    worst_and_best,
)
from xr2text.inference.overlay import Canvas
from xr2text.phantom.drawing import draw_phantom

MATCH = FindingMatch(("cardiomegaly",), ("edema", "nodule"), ())


@pytest.fixture(scope="module")
def canvas():
    phantom = draw_phantom(1, (120, 100))
    return Canvas((phantom.radiograph.pixels * 255).astype(np.uint8), phantom_masks(phantom).astype(np.uint8) * 255)


def assert_nothing_is_clipped(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")  # which lays it out
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()


def test_bars_are_the_f1_of_each_system_by_support_with_the_averages_on_top(tmp_path):
    figure = finding_bars(made_up_metrics())
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "micro-average, 14 findings", "micro-average, 5 findings",
        "no finding  (200)", "lung opacity  (40)", "cardiomegaly  (30)", "pleural effusion  (30)",
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts] == [
        "0.63", "0.32", "0.82", "0.31", "0.40", "0.00",
        "0.30", "0.15", "0.50", "0.50", "0.50", "0.50",
        "0.05", "0.03", "0.00", "0.00", "0.00", "0.00",
    ]  # fmt: skip
    assert axes.yaxis_inverted()
    legend = figure.legends[0]
    assert "xr2text-iu 0.1.0 on IU X-Ray, split test, 590 studies" in legend.get_title().get_text()
    assert [text.get_text() for text in legend.get_texts()][1:] == ["retrieval baseline", "constant baseline"]
    assert_nothing_is_clipped(figure, tmp_path)


def test_long_names_are_not_clipped_and_another_finding_is_another_row(tmp_path):
    metrics = made_up_metrics()
    metrics["model"] = "a-model-of-a-very-long-name-" * 3 + "0.1.0"
    for scores in (metrics, *metrics["baselines"].values()):
        findings = scores["clinical"]["findings"]
        findings["degenerative change of the thoracic spine with osteophytes"] = findings["cardiomegaly"] | {"f1": 1.0}
    figure = finding_bars(metrics)
    assert_nothing_is_clipped(figure, tmp_path)
    assert figure.get_figheight() > finding_bars(made_up_metrics()).get_figheight()


def test_an_undefined_f1_is_a_dash_and_a_finding_without_support_is_left_out():
    metrics = made_up_metrics()
    for scores in (metrics, *metrics["baselines"].values()):
        for finding in scores["clinical"]["findings"].values():
            finding["support"] = 0
    metrics["clinical"]["micro_5"]["f1"] = metrics["intervals"]["clinical"]["micro_5"]["f1"] = None
    numbers = [text.get_text() for text in finding_bars(metrics).axes[0].texts]
    assert numbers == ["0.63", "–", "0.30", "0.15", "0.05", "0.03"]


def test_the_reliability_shows_the_bins_that_hold_something(tmp_path):
    bins = CalibrationBins(
        edges=np.linspace(0, 1, 6),
        counts=np.array([900, 80, 0, 20, 3]),
        mean_probability=np.array([0.05, 0.28, np.nan, 0.7, 0.9]),
        share_positive=np.array([0.02, 0.3, np.nan, 0.6, 1.0]),
    )
    figure = reliability_figure(bins)
    main, numbers = figure.axes
    assert main.lines[1].get_xdata().tolist() == [0.05, 0.28, 0.7, 0.9]
    assert main.lines[1].get_ydata().tolist() == [0.02, 0.3, 0.6, 1.0]
    assert [bar.get_height() for bar in numbers.patches] == bins.counts.tolist()
    assert "1003 pairs" in figure.get_supxlabel()
    assert_nothing_is_clipped(figure, tmp_path)


def test_findings_of_two_reports_are_tp_fn_or_fp():
    reference = pd.Series({"edema": 1, "nodule": -1, "mass": 0, "fracture": pd.NA, "no finding": 1})
    generated = pd.Series({"edema": -1, "nodule": 0, "mass": 1, "fracture": pd.NA, "no finding": 1})
    match = FindingMatch.of(reference, generated)
    assert match == FindingMatch(tp=("edema",), fn=("nodule",), fp=("mass",))
    assert match.f1 == 0.5
    assert FindingMatch.of(reference * 0, generated * 0).f1 == 1


def test_the_worst_come_first_then_the_best_and_ties_decide_among_equals():
    matches = [FindingMatch(("edema",) * right, ("mass",) * (5 - right), ()) for right in (3, 1, 5, 1, 0)]
    assert worst_and_best(matches, np.array([0, 0.2, 0, 0.1, 0])) == {"Lowest F1": [4, 3, 1], "Highest F1": [2, 0]}
    many = worst_and_best([FindingMatch(("edema",) * n, ("mass",), ()) for n in range(13)], np.zeros(13))
    assert many == {"Lowest F1": [0, 1, 2, 3, 4], "Highest F1": [12, 11, 10, 9, 8]}


def test_an_example_shows_both_texts_and_the_findings_right_and_wrong(canvas):
    page = examples_page(
        {"Lowest F1": [Example("CXR1", MATCH, canvas, "a < b & $1", "")], "Highest F1": []}, "A <title>"
    )
    assert "A &lt;title&gt;" in page and "a &lt; b &amp; $1" in page and "(no text)" in page
    assert "study CXR1 · F1 0.500" in page
    assert re.search("TP.*cardiomegaly.*FN.*edema, nodule.*FP.*none", page)
    assert "Highest F1" not in page


def test_an_example_is_drawn_with_and_without_regions(canvas):
    def pictures(drawn):
        return re.findall('base64,([^"]+)', examples_page({"a": [Example("1", MATCH, drawn, "", "")]}, "t"))

    plain, painted = pictures(canvas)
    assert plain != painted
    assert pictures(Canvas(canvas.grey)) == [plain, plain]
