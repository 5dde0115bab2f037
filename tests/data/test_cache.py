"""The cache of resized images: the same pixels, whole or not there, never out of date."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xr2text.data import cache as cache_module
from xr2text.data.cache import ImageCache, canvas_of
from xr2text.data.study import ImageFile, PhantomImage, TableImage, UnreadableImageError


@pytest.fixture
def image(tmp_path):
    """16 bits, washed out, of an odd shape."""
    path = tmp_path / "image.png"
    grey = np.random.default_rng(0).integers(30000, 36000, (131, 97)).astype(np.uint16)
    cv2.imwrite(str(path), grey)
    return ImageFile(path, "frontal")


def assert_same(entry, expected):
    assert np.array_equal(entry[0], expected[0]) and entry[1] == expected[1]


@pytest.mark.parametrize("size", [64, 200])
def test_an_entry_holds_what_the_original_gives(image, tmp_path, size):
    cache = ImageCache(tmp_path / "cache", size)
    expected = canvas_of(image, size)
    assert_same(cache.read(image), expected)
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1
    assert_same(cache.read(image), expected)
    assert cache.prepare(image) == "kept"


def test_an_entry_is_read_in_place_of_the_original(image, tmp_path, monkeypatch):
    cache = ImageCache(tmp_path / "cache", 64)
    expected = cache.read(image)
    monkeypatch.setattr(cache_module, "canvas_of", lambda *_: pytest.fail("the original was decoded"))
    assert_same(cache.read(image), expected)


def test_an_entry_is_made_anew_with_its_original_or_the_recipe(image, tmp_path, monkeypatch):
    cache = ImageCache(tmp_path / "cache", 64)
    cache.read(image)
    cv2.imwrite(str(image.path), np.full((90, 90), 200, np.uint8))
    assert_same(cache.read(image), canvas_of(image, 64))
    assert cache.prepare(image) == "kept"
    monkeypatch.setattr(cache_module, "RECIPE", 99)
    assert cache.prepare(image) == "made" and cache.prepare(image) == "kept"
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_damaged_entry_is_made_anew(image, tmp_path, keep):
    cache = ImageCache(tmp_path / "cache", 64)
    expected = cache.read(image)
    entry = cache.path(image)
    entry.write_bytes(entry.read_bytes()[:keep])
    assert_same(cache.read(image), expected)
    assert cache.prepare(image) == "kept"


def test_an_original_that_cannot_be_read_leaves_no_entry(image, tmp_path):
    cache = ImageCache(tmp_path / "cache", 64)
    image.path.write_bytes(image.path.read_bytes()[:200])
    assert "image.png: This PNG file is damaged" in cache.prepare(image)
    image.path.unlink()
    with pytest.raises(UnreadableImageError, match=r"image\.png: The file cannot be opened"):
        cache.read(image)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_rows_of_a_table_and_phantoms_have_entries_too(tmp_path):
    images = [cv2.imencode(".png", np.full((80, 70), value, np.uint8))[1].tobytes() for value in (50, 150)]
    pq.write_table(pa.table({"image": [{"bytes": content} for content in images]}), tmp_path / "a.parquet")
    cache = ImageCache(tmp_path / "cache", 64)
    for row, value in ((0, 50), (1, 150), (0, 50)):
        assert cache.read(TableImage(tmp_path / "a.parquet", row=row))[0].max() == value
    phantoms = [PhantomImage(seed, 64) for seed in (1, 2)]
    assert [cache.prepare(phantom) for phantom in phantoms * 2] == ["made", "made", "kept", "kept"]
    assert_same(cache.read(phantoms[0]), canvas_of(phantoms[0], 64))
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 4
