"""The drawn radiographs and masks of phantoms."""

import cv2
import numpy as np
import pytest
from phantom_masks import phantom_masks

from benchmarks.phantom_findings import findings_in
from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS

SIZE = 128
NORMAL = [draw_phantom(seed, SIZE, []) for seed in range(24)]
SIDED = [finding for finding in FINDINGS if finding != "cardiomegaly"]


def mask(phantom, region):
    return phantom_masks(phantom)[REGION_NAMES.index(region)]


def centre(region_mask):
    y, x = np.nonzero(region_mask)
    return np.array([(x.mean() + 0.5) / region_mask.shape[1], (y.mean() + 0.5) / region_mask.shape[0]])


def difference(seed, finding):
    return np.abs(draw_phantom(seed, SIZE, [finding]).pixels - NORMAL[seed].pixels)


def test_same_arguments_same_phantom():
    first, second = draw_phantom(5, 96), draw_phantom(5, 96)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.findings, first.findings_text, first.impression_text) == (
        second.findings, second.findings_text, second.impression_text,
    )  # fmt: skip
    assert np.abs(first.pixels - draw_phantom(6, 96).pixels).mean() > 0.02


@pytest.mark.parametrize("size", [64, 128, (100, 140), 512])
def test_pixels_and_masks(size):
    phantom = draw_phantom(1, size)
    masks = phantom_masks(phantom)
    shape = (size, size) if isinstance(size, int) else size
    assert phantom.pixels.shape == shape and masks.shape == (len(REGIONS), *shape)
    assert phantom.pixels.dtype == np.float32 and masks.dtype == bool
    assert phantom.pixels.min() >= 0 and phantom.pixels.max() <= 1
    assert masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [256, 512])
def test_the_size_only_rasterises(seed, size):
    small, large = draw_phantom(seed, SIZE), draw_phantom(seed, size)
    assert small.findings_text == large.findings_text
    reduced = cv2.resize(large.pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(small.pixels - reduced).mean() < 0.025
    for small_mask, large_mask in zip(phantom_masks(small), phantom_masks(large), strict=True):
        shrunk = cv2.resize(large_mask.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA) >= 0.5
        assert (small_mask & shrunk).sum() > 0.8 * (small_mask | shrunk).sum()


def test_radiograph_is_a_frontal_chest():
    radiograph = NORMAL[0].radiograph
    assert radiograph.pixels is NORMAL[0].pixels
    assert (radiograph.source, radiograph.view) == ("phantom", "PA")


def test_masks_lie_where_the_anatomy_table_says():
    mean = np.mean([phantom_masks(phantom) for phantom in NORMAL], axis=0)
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    for region, weight in zip(REGIONS, mean, strict=True):
        for lobe in region.lobes:
            half = weight * ((x < 0.5) == (lobe.centre[0] < 0.5)) if len(region.lobes) == 2 else weight
            found = np.array([(half * x).sum(), (half * y).sum()]) / half.sum()
            np.testing.assert_allclose(found, lobe.centre, atol=0.04, err_msg=region.name)


def test_masks_of_every_patient():
    for phantom in NORMAL + [draw_phantom(seed, SIZE) for seed in range(30, 50)]:
        right, left = mask(phantom, "right lung"), mask(phantom, "left lung")
        assert centre(right)[0] < 0.4 < 0.6 < centre(left)[0]
        assert not (right & left).any()
        assert not ((right | left) & mask(phantom, "heart")).any()
        # Aerated lung is the darkest part of the body, whatever the exposure.
        assert phantom.pixels[right | left].mean() < phantom.pixels[mask(phantom, "heart")].mean() - 0.15


def cardiothoracic_ratio(phantom):
    heart = np.nonzero(mask(phantom, "heart").any(0))[0]
    lungs = np.nonzero((mask(phantom, "right lung") | mask(phantom, "left lung")).any(0))[0]
    return np.ptp(heart) / np.ptp(lungs)


def test_cardiomegaly_is_a_ratio_with_a_gap():
    normal = [cardiothoracic_ratio(phantom) for phantom in NORMAL]
    enlarged = [cardiothoracic_ratio(draw_phantom(seed, SIZE, ["cardiomegaly"])) for seed in range(len(NORMAL))]
    assert max(normal) < 0.5 and min(enlarged) > 0.53
    assert np.ptp(normal) > 0.05


@pytest.mark.parametrize("finding", SIDED)
def test_a_finding_changes_its_lung_alone(finding):
    side = finding.split()[0]
    for seed, normal in enumerate(NORMAL[:10]):
        changed = difference(seed, finding)
        near = cv2.dilate(mask(normal, f"{side} lung").astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert changed[near].sum() > 0.9 * changed.sum(), seed
        assert changed[~near].max() < 0.2, seed
        assert np.sort(changed, axis=None)[-12:].min() > 0.05, f"seed {seed}: too faint to see"


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_finding_lies_where_the_report_says(side):
    for seed in range(8):
        for condition in ("lung consolidation", "lung nodule"):
            phantom = draw_phantom(seed, SIZE, [f"{side} {condition}"])
            changed = np.abs(phantom.pixels - NORMAL[seed].pixels)
            lung_y = np.nonzero(mask(phantom, f"{side} lung").any(1))[0] / SIZE
            height = (changed.sum(1) * np.arange(SIZE)).sum() / changed.sum() / SIZE
            upper = height < (lung_y.min() + lung_y.max()) / 2
            assert f"{side} {'upper' if upper else 'lower'} zone" in phantom.findings_text
        fluid, air = difference(seed, f"{side} pleural effusion"), difference(seed, f"{side} pneumothorax")
        rows = np.arange(SIZE)
        assert (fluid.sum(1) * rows).sum() / fluid.sum() > 0.6 * SIZE
        assert (air.sum(1) * rows).sum() / air.sum() < 0.5 * SIZE


def test_fluid_and_solid_are_dense():
    for condition in ("pleural effusion", "lung consolidation", "lung nodule"):
        for seed in range(8):
            assert (draw_phantom(seed, SIZE, [f"left {condition}"]).pixels - NORMAL[seed].pixels).sum() > 0


def test_every_set_is_drawn_as_given():
    phantom = draw_phantom(2, 64, FINDINGS)
    assert phantom.findings == set(FINDINGS) == findings_in(phantom.findings_text)
    assert findings_in(phantom.impression_text) == set(FINDINGS)
    assert draw_phantom(2, 64, ["cardiomegaly"]).findings == {"cardiomegaly"}
