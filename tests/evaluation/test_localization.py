from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.data.segmentation import OUTLINED
from xr2text.evaluation import localization
from xr2text.evaluation.localization import MOVES, localize, overlap, read_outlines, table
from xr2text.model.haqt_arr import VisualTokens

PLACES = {"right_lung": (20, 60), "left_lung": (100, 140), "heart": (62, 98)}


@pytest.fixture
def films(tmp_path):
    """Two films of 200 x 160 whose organs differ in brightness."""
    for name in ("images", *(f"masks/{organ}" for organ in PLACES)):
        (tmp_path / name).mkdir(parents=True)
    for film in ("a", "b"):
        picture = np.zeros((200, 160), np.uint8)
        for value, (organ, (left, right)) in zip((100, 160, 220), PLACES.items(), strict=True):
            mask = np.zeros_like(picture)
            mask[60:140, left:right] = 255
            picture[mask > 0] = value
            cv2.imwrite(str(tmp_path / "masks" / organ / f"{film}.png"), mask)
        cv2.imwrite(str(tmp_path / "images" / f"{film}.png"), picture)
    return tmp_path


def test_overlap_cuts_a_map_at_half_its_maximum():
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    ramp = np.where(mask, 1.0, 0.4)
    assert overlap(ramp, mask) == 1
    assert overlap(np.ones((10, 10)), mask) == pytest.approx(0.16)
    assert overlap(ramp, ~mask) == 0


class Knowing:
    """In place of a model's look: maps that are the organs' own brightness, or one that never moves."""

    def __init__(self, model, follows):
        self.model, self.follows = model, follows

    def __call__(self, pixels, box):
        grey = self.model.transform.denormalise(pixels)  # [B, S, S]
        if not self.follows:
            grey = grey[:1].expand(len(grey), -1, -1)
        maps = torch.full((len(pixels), len(REGION_NAMES), *grey.shape[1:]), 1e-3)
        for value, region in zip((100, 160, 220), OUTLINED, strict=True):
            maps[:, REGION_NAMES.index(region)] += ((grey * 255 - value).abs() < 30).float()
        return VisualTokens(torch.zeros(1), region_maps=maps / maps.sum((2, 3), keepdim=True))


def test_maps_that_follow_the_film_keep_their_overlap_and_others_lose_it(make_tiny, films, monkeypatch):
    model = make_tiny()
    model.transform = replace(model.transform, size=256)  # so that the maps' edges are as sharp as the outlines
    monkeypatch.setattr(model, "look", Knowing(model, follows=True))
    scores = localize(model, films)
    assert set(scores) == set(MOVES)
    for name, regions in scores.items():
        for one in regions.values():
            assert one.overlap > 0.85 and one.peak_inside == 1
            assert name == "as it is" or one.still < one.overlap
    monkeypatch.setattr(model, "look", Knowing(model, follows=False))
    lazy = localize(model, films)
    assert lazy["shifted right"]["heart"].overlap < 0.6 < lazy["as it is"]["heart"].overlap
    assert lazy["shifted right"]["heart"].overlap == pytest.approx(lazy["shifted right"]["heart"].still, abs=0.02)
    assert "| shifted right |" in table(lazy)


def test_the_command_prints_the_table_and_says_what_is_missing(tiny_checkpoint, films, capsys, monkeypatch):
    monkeypatch.setattr(localization, "MOVES", {"as it is": (0.0, 0.0, 1.0)})
    assert main(["localize", str(films), "--checkpoint", str(tiny_checkpoint)]) == 0
    assert "| as it is | 0." in capsys.readouterr().out
    (films / "masks" / "heart" / "a.png").unlink()
    assert main(["localize", str(films), "--checkpoint", str(tiny_checkpoint)]) == 2
    assert "expected the mask" in capsys.readouterr().err


def test_held_out_films_alone(tiny_checkpoint, films, capsys, monkeypatch):
    monkeypatch.setattr(localization, "MOVES", {"as it is": (0.0, 0.0, 1.0)})
    seen = []
    monkeypatch.setattr(localization, "read_outlines", lambda study: seen.append(study.id) or read_outlines(study))
    assert main(["localize", str(films), "--checkpoint", str(tiny_checkpoint), "--holdout", "2"]) == 0
    assert seen == ["masked-b"]
    assert main(["localize", str(films), "--checkpoint", str(tiny_checkpoint), "--holdout", "3"]) == 2
    assert "none is held out" in capsys.readouterr().err


def test_a_model_without_regions_is_refused(make_tiny, films):
    with pytest.raises(ValueError, match="no region maps"):
        localize(make_tiny(projection="linear"), films)
