"""The checkpoint that ships writes whole reports, which depend on the image."""

from pathlib import Path

import pytest

from xr2text.inference.reporter import Reporter
from xr2text.phantom.drawing import draw_phantom

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "xr2text-iu"


@pytest.fixture(scope="module")
def reporter():
    return Reporter.from_pretrained(SHIPPED)


def test_its_reports_are_whole(reporter):
    reports = list(reporter.reports(draw_phantom(seed, 256).radiograph for seed in range(3)))
    for report in reports:
        assert report.findings and report.impression and "xxx" not in f"{report.findings} {report.impression}".lower()
        assert all(sentence.text[-1] in ".?!" for sentence in report.sentences)
        assert len(report.finding_readings) == 30 and not report.warnings


def test_its_regions_follow_the_patients_sides(reporter):
    maps = reporter.report(draw_phantom(0, 256).radiograph).maps
    x_centre = (maps.sum(1) * range(256)).sum(1) / maps.sum((1, 2))
    assert x_centre[0] < 115 < 140 < x_centre[1]
