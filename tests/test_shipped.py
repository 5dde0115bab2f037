"""The checkpoint that ships writes reports that depend on the image."""

from pathlib import Path

import pytest
import torch

from xr2text.inference.reporter import Reporter
from xr2text.model import decoder
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.tokenizer import known_words
from xr2text.text.words import strange_words

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "xr2text-iu"


@pytest.fixture(scope="module")
def reporter():
    return Reporter.from_pretrained(SHIPPED)


def test_its_reports_are_whole_and_in_the_words_of_its_training_reports(reporter):
    known = known_words(reporter.model.tokenizer)
    assert "effusion" in known["pleural"] and "xxxx" not in known
    for seed in range(3):
        report = reporter.report(draw_phantom(seed, 256).radiograph)
        assert report.findings and report.impression
        text = f"{report.findings} {report.impression}"
        assert "xxx" not in text.lower() and strange_words(text, known) == []
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
