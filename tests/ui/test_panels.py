from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.confidence import FindingReading
from xr2text.ui.panels import batch_table, findings_chart, message, warnings_list, weights_chart


def test_texts_are_never_markup():
    shown = [
        message("<b>", "bad", ("<script>",)),
        warnings_list(["<script>"]),
        batch_table([("<b>.png", "<script>", "<i>")], [object()]),
    ]
    assert not any(tag in "".join(shown) for tag in ("<b>", "<script>", "<i>"))


def test_the_chart_has_a_bar_per_region_in_its_colour():
    chart = weights_chart(dict(zip(REGION_NAMES, (0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True)))
    assert all(region.colour in chart for region in REGIONS)
    assert "width: 100.0%" in chart and chart.count("width: 25.0%") == 6 and "40.0%" in chart


def test_the_findings_chart_has_each_probability_and_threshold():
    readings = tuple(FindingReading(f"finding {k}", k / 20, 0.62, None) for k in range(14))
    chart = findings_chart(readings)
    assert chart.index("finding 13") < chart.index("finding 12") < chart.index("4 more") < chart.index("finding 3<")
    assert "<b>finding 13</b>" in chart and "<b>finding 12</b>" not in chart
    assert "width: 65.0%" in chart and chart.count("left: 62.0%") == 14
    assert findings_chart(()) == ""


def test_warnings_are_listed_the_first_few_at_once():
    assert "agree" in warnings_list(())
    many = warnings_list([f"warning {k}" for k in range(6)])
    assert many.index("warning 3") < many.index("2 more") < many.index("warning 4")


def test_a_row_with_a_report_opens():
    table = batch_table([("a.png", "Report written", "Clear."), ("b.png", "No report", "")], ["report", None])
    assert 'aria-label="Open a.png"' in table and "Open b.png" not in table
    assert 'class="opens" data-row="0"' in table and batch_table([], []) == ""
