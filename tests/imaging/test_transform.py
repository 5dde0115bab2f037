import numpy as np
import pytest
import torch

from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.transform import Geometry, ImageTransform, autocontrast, letterbox

SHAPES = [(2000, 1000), (700, 2100), (512, 512), (1070, 880), (313, 256), (100, 90)]
SIZE = 224


def centroid(pixels: np.ndarray) -> np.ndarray:
    """(x, y) of the mass centre, pixel centres at one half."""
    y, x = np.indices(pixels.shape) + 0.5
    return np.array([(x * pixels).sum(), (y * pixels).sum()]) / pixels.sum()


def on_canvas(geometry: Geometry, x: float, y: float) -> np.ndarray:
    """A point of the original, in fractions of its sides, on the canvas in pixels."""
    left, top, right, bottom = geometry.box
    return np.array([left + x * (right - left), top + y * (bottom - top)]) * SIZE


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", [(0.15, 0.2), (0.5, 0.5), (0.8, 0.9)])
def test_a_landmark_lands_within_half_a_canvas_pixel(shape, place):
    height, width = shape
    y, x = np.indices(shape) + 0.5
    sigma = max(shape) / SIZE * 2
    landmark = np.exp(-((x - place[0] * width) ** 2 + (y - place[1] * height) ** 2) / (2 * sigma**2))
    canvas, geometry = letterbox(landmark.astype(np.float32), SIZE)
    assert np.abs(centroid(canvas) - on_canvas(geometry, *place)).max() < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_aspect_ratio_is_kept_and_the_rest_is_black(shape):
    canvas, geometry = letterbox(np.ones(shape, np.float32), SIZE)
    assert abs(geometry.inner_width / geometry.inner_height / (shape[1] / shape[0]) - 1) < 0.02
    assert max(geometry.inner_width, geometry.inner_height) == SIZE
    assert (canvas > 0.5).sum() == geometry.inner_width * geometry.inner_height


def test_nothing_is_mirrored():
    pixels = np.zeros((300, 200), np.float32)
    pixels[:50, :40] = 1  # upper left
    canvas, _ = letterbox(pixels, SIZE)
    x, y = centroid(canvas)
    assert x < SIZE / 2 and y < SIZE / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [None, (333, 222)])
def test_a_map_lands_where_its_patch_looked(shape, size):
    """A peak on the grid is brought to the original's pixels that this patch was computed from."""
    geometry, cells = Geometry.fit(*shape, SIZE), 14
    for point in ([0.3, 0.4], [0.7, 0.6]):
        cell = np.floor(on_canvas(geometry, *point) / SIZE * cells).astype(int)
        maps = np.zeros((1, cells, cells), np.float32)
        maps[0, cell[1], cell[0]] = 1
        drawn = geometry.map_to_original(maps, size)
        assert drawn.shape == (1, *(size or shape)) and drawn.dtype == np.float32
        left, top, right, bottom = geometry.box
        width, height = right - left, bottom - top
        middle = ((cell + 0.5) / cells - (left, top)) / (width, height)  # in fractions of the original
        patch = 1 / cells / np.array([width, height])
        if (np.abs(middle - 0.5) < 0.5 - patch).all():
            error = np.abs(centroid(drawn[0]) - middle * drawn.shape[:0:-1])
            assert error.max() < 0.05 * (patch * drawn.shape[:0:-1]).max() + 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_an_even_map_stays_even_up_to_the_edge(shape):
    """Padding holds no attention, and takes none away from the image beside it."""
    geometry, cells = Geometry.fit(*shape, SIZE), 14
    left, top, right, bottom = geometry.box
    centres = (np.arange(cells) + 0.5) / cells
    inside = np.outer((centres >= top) & (centres <= bottom), (centres >= left) & (centres <= right))
    np.testing.assert_allclose(geometry.map_to_original(inside[None].astype(np.float32)), 1, atol=1e-4)


def test_the_transform_normalises_per_channel():
    transform = ImageTransform(64, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    pixels, geometry = transform(Radiograph(np.full((64, 64), 0.6, np.float32), "array"))
    assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 5, 5], torch.tensor([0.2, 0.8, 1.5]))
    assert geometry.box == (0, 0, 1, 1)


def test_a_washed_out_image_gets_its_contrast_and_others_stay():
    plain = np.linspace(0.2, 0.9, 400, dtype=np.float32).reshape(20, 20)
    assert autocontrast(plain) is plain
    washed = 0.93 + 0.07 * plain
    shown = autocontrast(washed)
    assert shown.dtype == np.float32 and shown.min() == 0 and shown.max() == 1
    np.testing.assert_allclose(shown[5:15], (plain[5:15] - 0.207) / 0.686, atol=0.01)
    blank = np.full((20, 20), 0.5, np.float32)
    assert autocontrast(blank) is blank
