"""The checkpoint that ships writes reports that depend on the image."""

from pathlib import Path

import pytest
import torch

from xr2text.imaging.phantom import draw_phantom
from xr2text.inference.reporter import Reporter
from xr2text.model import decoder

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "xr2text-iu"


@pytest.fixture(scope="module")
def reporter():
    return Reporter.from_pretrained(SHIPPED)


def test_its_reports_are_whole_and_free_of_de_identification_marks(reporter):
    for seed in range(3):
        report = reporter.report(draw_phantom(seed, 256).radiograph)
        assert report.findings and report.impression
        assert "xxx" not in f"{report.findings} {report.impression}".lower()
        assert all(sentence.text[-1] in ".?!" for sentence in report.sentences)


def test_its_regions_follow_the_patients_sides(reporter):
    maps = reporter.report(draw_phantom(0, 256).radiograph).maps
    x_centre = (maps.sum(1) * range(256)).sum(1) / maps.sum((1, 2))
    assert x_centre[0] < 115 < 140 < x_centre[1]


@pytest.mark.parametrize("beams", [3, None], ids=["beam search", "as shipped"])
def test_its_own_steps_write_what_transformers_own_cache_does(reporter, monkeypatch, beams):
    model = reporter.model
    pixels = torch.stack([model.transform(draw_phantom(seed, 256).radiograph)[0] for seed in range(3)])
    settings = model.generation if beams is None else model.generation.as_search(beams)
    own = model.generate(pixels, settings=settings).token_ids
    monkeypatch.setattr(decoder, "Steps", lambda *_: None)
    assert torch.equal(own, model.generate(pixels, settings=settings).token_ids)
