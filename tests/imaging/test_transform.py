import numpy as np
import pytest
import torch

from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.transform import Geometry, ImageTransform, autocontrast, letterbox

SHAPES = [(2000, 1000), (700, 2100), (512, 512), (4280, 3520), (313, 256), (100, 90)]
SIZE = 224


def centroid(pixels: np.ndarray) -> np.ndarray:
    """(x, y) of the mass centre, pixel centres at one half."""
    y, x = np.indices(pixels.shape) + 0.5
    return np.array([(x * pixels).sum(), (y * pixels).sum()]) / pixels.sum()


def film(pixels: np.ndarray) -> Radiograph:
    return Radiograph(pixels=pixels, source="array", modality=None, body_part=None, view=None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", [(0.15, 0.2), (0.5, 0.5), (0.8, 0.9)])
def test_a_landmark_comes_back_within_half_a_model_pixel(shape, place):
    height, width = shape
    point = np.array([place[0] * width, place[1] * height])
    y, x = np.indices(shape) + 0.5
    sigma = max(shape) / SIZE * 2
    landmark = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma**2)).astype(np.float32)
    canvas, geometry = letterbox(landmark, SIZE)
    back = geometry.to_original(centroid(canvas))
    model_pixel = max(shape) / SIZE
    assert np.abs(back - point).max() < 0.5 * model_pixel


@pytest.mark.parametrize("shape", SHAPES)
def test_points_make_the_round_trip_exactly(shape):
    geometry = Geometry.fit(*shape, SIZE)
    points = np.random.default_rng(0).uniform(0, 1, (50, 2)) * (shape[1], shape[0])
    canvas = geometry.to_canvas(points)
    assert (canvas >= 0).all() and (canvas <= SIZE).all()
    np.testing.assert_allclose(geometry.to_original(canvas), points, atol=1e-6)


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
    geometry, grid = Geometry.fit(*shape, SIZE), 14
    for point in ([0.3, 0.4], [0.7, 0.6]):
        cell = np.floor(geometry.to_canvas(np.array(point) * (shape[1], shape[0])) / SIZE * grid).astype(int)
        maps = np.zeros((1, grid, grid), np.float32)
        maps[0, cell[1], cell[0]] = 1
        drawn = geometry.map_to_original(maps, size)
        assert drawn.shape == (1, *(size or shape)) and drawn.dtype == np.float32
        expected = geometry.to_original((cell + 0.5) * SIZE / grid)
        scale = np.array([drawn.shape[2] / shape[1], drawn.shape[1] / shape[0]])
        patch = max(shape) / grid * scale
        if (np.abs(expected - np.array(shape)[::-1] / 2) < np.array(shape)[::-1] / 2 - patch / scale).all():
            assert np.abs(centroid(drawn[0]) - expected * scale).max() < 0.05 * patch.max() + 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_an_even_map_stays_even_up_to_the_edge(shape):
    """Padding holds no attention, and takes none away from the picture beside it."""
    geometry, grid = Geometry.fit(*shape, SIZE), 14
    left, top, right, bottom = geometry.box
    centres = (np.arange(grid) + 0.5) / grid
    inside = np.outer((centres >= top) & (centres <= bottom), (centres >= left) & (centres <= right))
    np.testing.assert_allclose(geometry.map_to_original(inside[None].astype(np.float32)), 1, atol=1e-4)


def test_the_transform_normalises_per_channel():
    transform = ImageTransform(64, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    pixels, geometry = transform(film(np.full((64, 64), 0.6, np.float32)))
    assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 5, 5], torch.tensor([0.2, 0.8, 1.5]))
    assert geometry.box == (0, 0, 1, 1)


def test_a_washed_out_film_gets_its_contrast_and_others_stay():
    film = np.linspace(0.2, 0.9, 400, dtype=np.float32).reshape(20, 20)
    assert autocontrast(film) is film
    washed = 0.93 + 0.07 * film
    shown = autocontrast(washed)
    assert shown.dtype == np.float32 and shown.min() == 0 and shown.max() == 1
    np.testing.assert_allclose(shown[5:15], (film[5:15] - 0.207) / 0.686, atol=0.01)
    blank = np.full((20, 20), 0.5, np.float32)
    assert autocontrast(blank) is blank
