"""The checkpoint that ships writes whole reports, which depend on the image."""

from pathlib import Path

import pytest

from xr2text.inference.reporter import Reporter
from xr2text.model.checkpoint import Checkpoint
from xr2text.phantom.drawing import draw_phantom
from xr2text.training.card import findings_table

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "xr2text-iu"


@pytest.fixture(scope="module")
def reporter():
    return Reporter.from_pretrained(SHIPPED)


def test_its_reports_are_whole(reporter):
    reports = list(reporter.reports(draw_phantom(seed, 256).radiograph for seed in range(3)))
    for report in reports:
        assert report.findings and report.impression and "xxx" not in f"{report.findings} {report.impression}".lower()
        assert all(sentence.text[-1] in ".?!" for sentence in report.sentences)
        assert len(report.finding_readings) == 38 and not report.warnings


def test_its_regions_follow_the_patients_sides(reporter):
    maps = reporter.report(draw_phantom(0, 256).radiograph).maps
    x_centre = (maps.sum(1) * range(256)).sum(1) / maps.sum((1, 2))
    assert x_centre[0] < 115 < 140 < x_centre[1]


def test_its_card_says_how_well_it_knows_each_finding():
    """As `scripts.recipe` printed it; what is hardly ever asserted in a sentence of its own."""
    calibration, card = Checkpoint.from_pretrained(SHIPPED).model.calibration, (SHIPPED / "README.md").read_text()
    text = " ".join(card.split())
    left_out = text.split("marked so wherever a report speaks of them: ")[1].split(". ")[0].rstrip(".").split(", ")
    assert set(left_out) == {name for name, measure in calibration.measures.items() if not measure.assessed}
    silent = text.split("asserted in fewer than 5 % of their cases: ")[1].split(". ")[0].split(", ")
    measures = {name: measure for name, measure in calibration.measures.items() if measure.assessed}
    hardly = {name: measure.auc[0] for name, measure in measures.items() if measure.sensitivity[0] < 0.05}
    assert set(silent) == {f"{name} ({auc:.2f})" for name, auc in hardly.items()}
    rows = [row.removesuffix(" yes |") for row in findings_table(calibration).splitlines() if row.endswith("| yes |")]
    shown = [row for row in rows if row.split("|")[1].strip() not in hardly]
    assert len(shown) == 12 and all(row in card for row in shown)
