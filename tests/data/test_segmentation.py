import cv2
import numpy as np
import pytest

from xr2text.anatomy import REGION_NAMES
from xr2text.data.segmentation import (
    FOLDERS,
    OUTLINED,
    all_regions,
    held_out,
    read_outlines,
    segmentation_targets,
    segmented_studies,
    study_key,
    trained_on,
)
from xr2text.data.study import DataError, Study


def outlines():
    """A schematic chest: two lungs with sloping bases, and a heart between them."""
    y, x = np.mgrid[:200, :200]
    right = (x > 20) & (x < 85) & (y > 30) & (y < 150 - 0.5 * (x - 20))
    left = (x > 115) & (x < 180) & (y > 30) & (y < 150 - 0.5 * (180 - x))
    heart = (x - 105) ** 2 / 30**2 + (y - 120) ** 2 / 28**2 < 1
    return right & ~heart, left & ~heart, heart


def test_the_other_regions_stand_where_anatomy_has_them():
    right, left, heart = outlines()
    masks = dict(zip(REGION_NAMES, all_regions(right, left, heart), strict=True))
    centre = {name: np.argwhere(mask).mean(0) for name, mask in masks.items()}
    assert (masks["right lung"] == right).all() and (masks["heart"] == heart).all()
    assert 85 < centre["mediastinum"][1] < 115 and centre["mediastinum"][0] < centre["heart"][0]
    assert not (masks["mediastinum"] & (right | left | heart)).any()
    assert 90 < centre["spine"][1] < 110 and np.ptp(np.argwhere(masks["spine"])[:, 1]) < 25
    assert centre["diaphragm"][0] > 110 and masks["diaphragm"][:, :100].any() and masks["diaphragm"][:, 100:].any()
    for side, column in ((slice(0, 100), 22), (slice(100, 200), 178)):
        row, beside = np.argwhere(masks["costophrenic angles"][:, side]).mean(0)
        assert abs(side.start + beside - column) < 10 and abs(row - 148) < 10
    assert not (masks["diaphragm"] & masks["costophrenic angles"]).any()


def test_targets_sum_to_one_and_what_has_left_the_image_is_unknown():
    masks = all_regions(*outlines())
    masks[REGION_NAMES.index("spine")] = False
    targets = segmentation_targets(masks, (10, 10))
    assert np.isnan(targets[REGION_NAMES.index("spine")]).all()
    known = [index for index, name in enumerate(REGION_NAMES) if name != "spine"]
    np.testing.assert_allclose(targets[known].sum((1, 2)), 1, rtol=1e-5)


def test_a_mask_that_outlines_nothing_is_named(tmp_path):
    files = tuple(tmp_path / f"{name}.png" for name in ("right", "left", "heart"))
    for file, value in zip(files, (255, 255, 0), strict=True):
        cv2.imwrite(str(file), np.full((20, 20), value, np.uint8))
    with pytest.raises(DataError, match=r"heart\.png outlines nothing"):
        read_outlines(Study("a", "a", (), masks=files))


def test_every_fifth_radiograph_is_held_out(tmp_path):
    for folder in (tmp_path / "images", *(tmp_path / "masks" / name for name in FOLDERS)):
        folder.mkdir(parents=True)
        for name in "abcdefghijk":
            cv2.imwrite(str(folder / f"{name}.png"), np.full((80, 70), 255, np.uint8))
    studies = segmented_studies(tmp_path)
    assert [study.id for study in held_out(studies)] == ["masked-e", "masked-j"]
    keys = [study_key(study) for study in held_out(studies)]
    assert [study.id for study in held_out(studies[1:], keys)] == ["masked-e", "masked-j"]
    assert [study.id[-1] for study in trained_on(studies)] == list("abcdfghik")
    assert [outline.all() for outline in read_outlines(studies[0])] == [True] * len(OUTLINED)
    (tmp_path / "masks" / "heart" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png cannot be read as a mask"):
        read_outlines(studies[0])
    (tmp_path / "masks" / "heart" / "k.png").unlink()
    with pytest.raises(DataError, match=r"expected the mask .*heart/k\.png"):
        segmented_studies(tmp_path)
    with pytest.raises(DataError, match="expected radiographs in"):
        segmented_studies(tmp_path / "masks")
