"""The lateral view of phantoms."""

import cv2
import numpy as np
import pytest

from xr2text.data.study import LATERAL, PhantomImage
from xr2text.phantom.drawing import Phantom, draw_phantom
from xr2text.phantom.text import FINDINGS

SIZE, SEEDS = 128, range(8)
ROWS = (np.arange(SIZE) + 0.5) / SIZE
NORMAL = [draw_phantom(seed, SIZE, ()).lateral.pixels for seed in SEEDS]


def changed(seed, finding):
    """How much a finding changes the lateral view [H, W], and the phantom that has it."""
    phantom = draw_phantom(seed, SIZE, [finding])
    return np.abs(phantom.lateral.pixels - NORMAL[seed]), phantom


def middle(change, axis=0):
    """Mean place of a change from top to bottom, or from front to back with axis 1, as a fraction of the image."""
    return (change.sum(1 - axis) * ROWS).sum() / change.sum()


def test_same_arguments_same_lateral_of_the_size_asked_for():
    first, second = draw_phantom(5, (96, 80)).lateral, draw_phantom(5, (96, 80)).lateral
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.pixels.shape == (96, 80) and first.pixels.dtype == np.float32
    assert first.pixels.min() >= 0 and first.pixels.max() <= 1
    assert (first.source, first.view) == ("phantom", "lateral")
    assert np.abs(first.pixels - draw_phantom(6, (96, 80)).lateral.pixels).mean() > 0.02
    np.testing.assert_array_equal(PhantomImage(3, 64, LATERAL).read().pixels, draw_phantom(3, 64).lateral.pixels)


@pytest.mark.parametrize("seed", range(3))
def test_the_size_only_rasterises(seed):
    large = cv2.resize(draw_phantom(seed, 512, ()).lateral.pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(large - NORMAL[seed]).mean() < 0.025


def test_lungs_are_dark_between_a_bright_front_and_back():
    for pixels in NORMAL:
        behind_the_heart, spine_side, abdomen = pixels[76:86, 74:82], pixels[60:80, 100:106], pixels[102:120, 40:80]
        assert behind_the_heart.mean() < spine_side.mean() - 0.06 and behind_the_heart.mean() < abdomen.mean() - 0.3


@pytest.mark.parametrize("condition", ["lung nodule", "lung consolidation"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_an_opacity_lies_at_its_height_in_the_frontal_view(side, condition):
    depths = []
    for seed in SEEDS:
        change, phantom = changed(seed, f"{side} {condition}")
        found = phantom.disease[f"{side} {condition}"]
        near = np.abs(ROWS - found.centre[1]) < 3 * found.radius + 0.04
        assert change[near].sum() > 0.97 * change.sum(), seed
        assert abs(middle(change) - found.centre[1]) < 0.045, seed
        assert np.sort(change, axis=None)[-12:].min() > 0.05, f"seed {seed}: too faint to see"
        depths.append(middle(change, axis=1))
    assert np.ptp(depths) > 0.1


def test_a_large_heart_fills_the_space_behind_it():
    for seed in SEEDS:
        change, phantom = changed(seed, "cardiomegaly")
        top, bottom = phantom.anatomy.heart[:, 1].min() - 0.1, phantom.anatomy.heart[:, 1].max() + 0.08
        assert change[(top < ROWS) & (bottom > ROWS)].sum() > 0.97 * change.sum()
        assert middle(change, axis=1) > 0.45 and change.max() > 0.1


@pytest.mark.parametrize("side", ["right", "left"])
def test_fluid_blunts_the_posterior_angle_and_air_is_hardly_seen(side):
    for seed in SEEDS:
        fluid, phantom = changed(seed, f"{side} pleural effusion")
        level = phantom.disease[f"{side} pleural effusion"].outline[:, 1].min()
        assert fluid[level - 0.06 < ROWS].sum() > 0.97 * fluid.sum()
        posterior = fluid[:, int(0.62 * SIZE) :]
        assert posterior.sum() > 0.5 * fluid.sum() and np.sort(posterior, axis=None)[-40:].min() > 0.08
        air, _ = changed(seed, f"{side} pneumothorax")
        assert 0 < air.sum() < 0.1 * fluid.sum() and air.max() < 0.12
        assert air[ROWS < 0.5].sum() > 0.97 * air.sum()


def test_a_view_is_drawn_when_it_is_asked_for(monkeypatch):
    drawn = []
    monkeypatch.setattr("xr2text.phantom.drawing.lateral_pixels", lambda *_: drawn.append(1))
    phantom = draw_phantom(2, 64, FINDINGS)
    assert isinstance(phantom, Phantom) and phantom.pixels.any() and not drawn
    assert phantom.lateral is phantom.lateral and drawn == [1]
