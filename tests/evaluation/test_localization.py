from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.data.segmentation import OUTLINED, segmented_studies, study_key
from xr2text.data.study import DataError
from xr2text.evaluation import localization
from xr2text.evaluation.localization import MOVES, iou, localize, table
from xr2text.model.haqt_arr import VisualTokens

PLACES = {"right_lung": (20, 60), "left_lung": (100, 140), "heart": (62, 98)}


@pytest.fixture
def folder(tmp_path):
    """Five images of 200 x 160 whose organs differ in brightness."""
    for name in ("images", *(f"masks/{organ}" for organ in PLACES)):
        (tmp_path / name).mkdir(parents=True)
    for study in "abcde":
        image = np.zeros((200, 160), np.uint8)
        for value, (organ, (left, right)) in zip((100, 160, 220), PLACES.items(), strict=True):
            mask = np.zeros_like(image)
            mask[60:140, left:right] = 255
            image[mask > 0] = value
            cv2.imwrite(str(tmp_path / "masks" / organ / f"{study}.png"), mask)
        cv2.imwrite(str(tmp_path / "images" / f"{study}.png"), image)
    return tmp_path


def test_iou_cuts_a_map_at_half_its_maximum():
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    ramp = np.where(mask, 1.0, 0.4)
    assert iou(ramp, mask) == 1
    assert iou(np.ones((10, 10)), mask) == pytest.approx(0.16)
    assert iou(ramp, ~mask) == 0


class Knowing:
    """In place of a model's `encode_image`: maps that are the organs' own brightness, or some that never move."""

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


def test_maps_that_follow_the_image_keep_their_overlap_and_others_lose_it(make_tiny, folder, monkeypatch):
    model = make_tiny().model
    model.transform = replace(model.transform, size=256)  # so that the maps' edges are as sharp as the outlines
    monkeypatch.setattr(model, "encode_image", Knowing(model, follows=True))
    scores = localize(model, folder, held_out_alone=True)
    assert set(scores) == set(MOVES)
    for name, regions in scores.items():
        for score in regions.values():
            assert score.iou > 0.85 and score.pointing_game == 1
            assert name == "as it is" or score.static_iou < score.iou
    monkeypatch.setattr(model, "encode_image", Knowing(model, follows=False))
    lazy = localize(model, folder, held_out_alone=True)
    assert lazy["shifted right"]["heart"].iou < 0.6 < lazy["as it is"]["heart"].iou
    assert lazy["shifted right"]["heart"].iou == pytest.approx(lazy["shifted right"]["heart"].static_iou, abs=0.02)
    assert "| shifted right |" in table(lazy)


def test_the_command_prints_the_table_and_says_what_is_missing(tiny_checkpoint, folder, capsys, monkeypatch):
    monkeypatch.setattr(localization, "MOVES", {"as it is": (0.0, 0.0, 1.0)})
    assert main(["localize", str(folder), "--checkpoint", str(tiny_checkpoint)]) == 0
    assert "| as it is | 0." in capsys.readouterr().out
    assert main(["localize", str(folder), "--checkpoint", str(tiny_checkpoint), "--held-out"]) == 0
    assert "does not say which were held out: every fifth" in capsys.readouterr().err
    (folder / "masks" / "heart" / "a.png").unlink()
    assert main(["localize", str(folder), "--checkpoint", str(tiny_checkpoint)]) == 2
    assert "expected the mask" in capsys.readouterr().err


def test_held_out_radiographs_alone(tiny, folder, monkeypatch):
    monkeypatch.setattr(localization, "MOVES", {"as it is": (0.0, 0.0, 1.0)})
    seen, read = [], localization.read_outlines
    monkeypatch.setattr(localization, "read_outlines", lambda study: seen.append(study.id) or read(study))
    localize(tiny.model, folder, held_out_alone=True)
    assert seen == ["masked-e"]
    keys = [study_key(study) for study in segmented_studies(folder)]
    localize(tiny.model, folder, True, [keys[1], "of a radiograph elsewhere"])
    assert seen[1:] == ["masked-b"]
    with pytest.raises(DataError, match="none of the radiographs that were held out"):
        localize(tiny.model, folder, True, ["of a radiograph elsewhere"])
    (folder / "images" / "e.png").unlink()
    with pytest.raises(DataError, match="none is held out"):
        localize(tiny.model, folder, held_out_alone=True)


def test_a_model_without_regions_is_refused(make_tiny, folder):
    with pytest.raises(DataError, match="no region maps"):
        localize(make_tiny(projection="linear").model, folder)
