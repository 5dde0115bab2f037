import dataclasses

import numpy as np
import pytest
from example_report import make_report

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.inference.overlay import BLENDING, Canvas, draw_grey, make_canvas, overlay_figure, paint


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture(scope="module")
def canvas(report):
    return make_canvas(report, long_side=240)


def changed(picture, canvas):
    return (picture != canvas.grey[..., None]).any(axis=2)


def test_the_picture_keeps_the_aspect_ratio_and_takes_the_long_side(report):
    picture = paint(make_canvas(report, long_side=480))
    assert picture.shape == (480, 400, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("size", [(300, 900), (900, 300), (64, 64)])
def test_any_shape_of_radiograph_is_drawn(size):
    grey = draw_grey(np.full(size, 0.5, dtype=np.float32), long_side=256)
    assert max(grey.shape) == 256
    assert abs(grey.shape[0] / grey.shape[1] - size[0] / size[1]) < 0.02
    assert set(np.unique(grey)) <= {127, 128}


def test_without_a_region_or_with_no_opacity_the_radiograph_stands_alone(canvas):
    assert not changed(paint(canvas, regions=()), canvas).any()
    assert not changed(paint(canvas, opacity=0), canvas).any()
    assert not changed(paint(Canvas(canvas.grey)), canvas).any()


@pytest.mark.parametrize("k", range(len(REGIONS)), ids=REGION_NAMES)
def test_a_region_colours_its_own_map_and_nothing_else(canvas, k):
    picture = paint(canvas, [REGION_NAMES[k]], opacity=0.5)
    touched = changed(picture, canvas)
    attended = canvas.maps[k] / 255
    assert touched[attended > 0.5].mean() > 0.95
    assert not touched[attended < 0.1].any()
    # At the peak the picture is half radiograph, half the region's colour.
    peak = np.unravel_index(attended.argmax(), attended.shape)
    expected = 0.5 * canvas.grey[peak] + 0.5 * np.array(REGIONS[k].rgb)
    assert np.abs(picture[peak].astype(float) - expected).max() <= 8


def test_regions_are_mixed_as_the_blending_says(canvas):
    """Source-over in the order of the regions, each as opaque as its map is above the floor."""
    level = np.clip((canvas.maps / 255 - BLENDING.floor) / (1 - BLENDING.floor), 0, 1)[..., None]
    expected = np.repeat(canvas.grey[..., None], 3, axis=2).astype(float)
    for region, alpha in zip(REGIONS, BLENDING.opacity * level, strict=True):
        expected = alpha * np.array(region.rgb) + (1 - alpha) * expected
    painted = paint(dataclasses.replace(canvas, maps=np.minimum(canvas.maps, 127)))  # without outlines
    below = canvas.maps.max(0) <= 127
    np.testing.assert_allclose(painted[below], expected[below], atol=1)


def test_sides_are_the_patients(canvas):
    width = canvas.grey.shape[1]
    columns = {
        name: changed(paint(canvas, [name]), canvas).nonzero()[1].mean() / width for name in ("right lung", "left lung")
    }
    assert columns["right lung"] < 0.5 < columns["left lung"]


def test_the_order_of_the_names_does_not_matter_and_each_region_shows_among_all(canvas):
    everything = paint(canvas)
    assert np.array_equal(everything, paint(canvas, REGION_NAMES[::-1]))
    for name in REGION_NAMES:
        rest = [region for region in REGION_NAMES if region != name]
        assert (paint(canvas, rest) != everything).any()


def test_more_opacity_covers_more(canvas):
    def distance(opacity):
        return np.abs(paint(canvas, ["heart"], opacity).astype(int) - canvas.grey[..., None]).sum()

    assert distance(0.1) < distance(0.4) < distance(1.0)


def test_the_line_follows_the_half_maximum(canvas):
    k = REGION_NAMES.index("heart")
    tint_only = paint(Canvas(canvas.grey, np.minimum(canvas.maps, 127)), ["heart"], opacity=0.5)
    line = (np.abs(paint(canvas, ["heart"], opacity=0.5).astype(int) - tint_only) > 40).any(axis=2)
    line &= np.abs(canvas.maps[k] / 255 - 0.5) < 0.2
    assert line.any()


@pytest.mark.parametrize("size", [(240, 200), (160, 320)])
def test_the_figure_is_one_rgb_picture_for_any_shape(size):
    figure = overlay_figure(make_report(size))
    assert figure.mode == "RGB"
    assert figure.width == 1400 and figure.height > 700
    colours = {tuple(pixel) for pixel in np.asarray(figure).reshape(-1, 3)[::3]}
    assert {region.rgb for region in REGIONS} <= colours


def test_a_lateral_view_gets_no_side_marks(report):
    lateral = dataclasses.replace(report, radiograph=dataclasses.replace(report.radiograph, view="lateral"))
    assert (np.asarray(overlay_figure(lateral)) != np.asarray(overlay_figure(report))).any()
