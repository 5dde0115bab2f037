"""The door to all readers, and PNG, JPEG, TIFF, WebP and BMP behind it."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from image_files import (
    DAMAGED,
    GREY8,
    GREY12,
    GREY16,
    LUMA,
    RGB,
    WAVES,
    H,
    W,
    assert_pixels,
    normalized,
    png,
    readable,
    refusal,
    saved,
    spoiled_copies,
    tiff,
)
from PIL import Image

from xr2text.imaging import read
from xr2text.imaging.radiograph import ACCEPTED, ImageError
from xr2text.imaging.read import radiograph_from_array, read_radiograph


def bmp_with_alpha(rgba: np.ndarray) -> bytes:
    """A 32-bit BMP with a BITMAPV4HEADER, whose masks name the fourth byte as alpha."""
    height, width = rgba.shape[:2]
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(48)
    header = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, 4 * rgba[..., 0].size, 2835, 2835, 0, 0) + masks
    body = rgba[..., [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + body


def test_path_and_bytes_are_read_alike(tmp_path):
    path = tmp_path / "a.dcm"  # the suffix lies
    path.write_bytes(saved(GREY8, "JPEG", quality=100))
    by_path = read_radiograph(path)
    assert by_path.source == "JPEG"
    assert_pixels(by_path, GREY8 / 255, atol=2 / 255)
    for source in (str(path), path.read_bytes()):
        np.testing.assert_array_equal(read_radiograph(source).pixels, by_path.pixels)


def test_missing_folder_and_unreadable(tmp_path, monkeypatch):
    assert "does not exist" in refusal(tmp_path / "Quirke.png")
    assert "folder" in refusal(tmp_path)
    assert "cannot be opened" in refusal("Quirke\0.png")
    assert "not an ordinary file" in refusal("/dev/zero")

    def denied(*_):
        raise PermissionError(13, "Permission denied", "Quirke.png")

    path = tmp_path / "Quirke.png"
    path.write_bytes(saved(GREY8, "PNG"))
    monkeypatch.setattr("builtins.open", denied)
    assert "permission is denied" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [b"hello", b"%PDF-1.7 ...", b"PK\3\4" + bytes(90), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"BMW and Audi",
     saved(GREY8, "GIF"), b"\0\0\0\x18ftypheic" + bytes(90), b"\x08\0" + bytes(900), b"\x02\0\x10\0zz" * 50],
)  # fmt: skip
def test_other_formats(data):
    sentence = refusal(data)
    assert "not an accepted image" in sentence and ACCEPTED in sentence


def test_empty_and_too_large(monkeypatch):
    assert "empty (0 bytes)" in refusal(b"")
    monkeypatch.setattr(read, "MAX_BYTES", 2**20)
    assert "larger than 1 MiB" in refusal(bytes(2**20 + 1))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WebP", "BMP"])
def test_lossless_grey_keeps_every_value(file_format):
    options = {"lossless": True} if file_format == "WebP" else {}
    radiograph = read_radiograph(saved(GREY8, file_format, **options))
    assert (radiograph.source, radiograph.view) == (file_format, None)
    assert_pixels(radiograph, GREY8 / 255)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_colour_becomes_luminance(file_format):
    assert_pixels(read_radiograph(saved(RGB, file_format)), LUMA / 255, atol=0.6 / 255)


def test_cmyk_jpeg():
    assert_pixels(read_radiograph(saved(RGB, "JPEG", "CMYK", quality=100)), LUMA / 255, atol=8 / 255)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WebP"])
def test_transparency_is_laid_over_black(file_format):
    alpha = GREY8[::-1, ::-1]
    options = {"lossless": True} if file_format == "WebP" else {}
    data = saved(np.dstack([RGB, alpha]), file_format, **options)
    assert_pixels(read_radiograph(data), LUMA / 255 * alpha / 255, atol=2 / 255)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "WebP"])
def test_an_alpha_that_is_0_everywhere_is_ignored(file_format):
    options = {"lossless": True, "exact": True} if file_format == "WebP" else {}
    clear = np.dstack([RGB, np.zeros_like(GREY8)])
    data = saved(clear, "PNG" if file_format == "BMP" else file_format, **options)
    if file_format == "BMP":
        data = bmp_with_alpha(clear)
    assert_pixels(read_radiograph(data), LUMA / 255, atol=0.6 / 255)
    clear[..., 3] = 255
    clear[:9, :, 3] = 0
    if file_format == "BMP":
        assert (read_radiograph(bmp_with_alpha(clear)).pixels[:9] == 0).all()
    assert_pixels(radiograph_from_array(np.dstack([GREY16] * 3 + [GREY16 * 0])), GREY16 / 65535)


def test_grey_with_alpha_palette_and_one_bit():
    with_alpha = saved(Image.merge("LA", [Image.fromarray(GREY8), Image.fromarray(GREY8[::-1])]), "PNG")
    assert_pixels(read_radiograph(with_alpha), GREY8 / 255 * GREY8[::-1] / 255, atol=1 / 255)

    palette = Image.fromarray(GREY8 // 64)
    palette.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160, 240, 240, 240])
    assert_pixels(read_radiograph(saved(palette, "PNG")), GREY8 // 64 * 80 / 255)
    clear = np.where(GREY8 // 64 == 3, 0, GREY8 // 64 * 80 / 255)
    assert_pixels(read_radiograph(saved(palette, "PNG", transparency=3)), clear)

    for file_format in ("PNG", "TIFF", "BMP"):
        assert_pixels(read_radiograph(saved(GREY8 > 99, file_format)), (GREY8 > 99).astype(float))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits(file_format):
    assert_pixels(read_radiograph(saved(GREY16, file_format)), GREY16 / 65535)


DEEP = np.stack([GREY16, GREY16[::-1], GREY16[:, ::-1]], axis=-1)
DEEP_LUMA = DEEP @ np.array([0.299, 0.587, 0.114])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("file_format", ["png", "tiff"])
@pytest.mark.parametrize("bits", [16, 12])
def test_sixteen_bit_colour_and_grey_with_alpha(file_format, bits):
    """OpenCV's order is BGRA."""
    deep, luma = DEEP >> (16 - bits), (DEEP >> (16 - bits)) @ np.array([0.299, 0.587, 0.114])
    alpha = np.full((H, W), 65535, np.uint16)
    scaled = normalized if bits == 12 else (lambda values: values / 65535)
    for values, expected in (
        (deep[..., ::-1], luma),
        (np.dstack([deep[..., ::-1], alpha]), luma),
        (np.dstack([deep[..., :1]] * 3 + [alpha]), deep[..., 0]),
    ):
        data = cv2.imencode(f".{file_format}", values)[1].tobytes()
        assert_pixels(read_radiograph(data), scaled(expected), atol=1e-5)
        assert len(np.unique(read_radiograph(data).pixels)) > 256
        for share in (0.6, 0.9):
            assert DAMAGED in refusal(data[: int(len(data) * share)])


def test_sixteen_bit_grey_with_alpha_as_a_png_has_it():
    half = GREY16[::-1]
    data = pytest.importorskip("imagecodecs").png_encode(np.dstack([GREY16, half]))
    assert data[25] == 4
    assert_pixels(read_radiograph(data), GREY16 / 65535 * (half / 65535), atol=1e-5)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_sixteen_bit_colour_is_put_upright(orientation):
    stored = {1: DEEP, 3: DEEP[::-1, ::-1], 6: np.rot90(DEEP)}[orientation]
    data = cv2.imencode(".png", np.ascontiguousarray(stored[..., ::-1]))[1].tobytes()
    exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1" + struct.pack(">2HI", orientation, 0, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    assert_pixels(read_radiograph(data[:33] + chunk + data[33:]), DEEP_LUMA / 65535, atol=1e-5)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_a_sixteen_bit_container_are_normalized(bits):
    values = (WAVES * (2**bits - 1)).astype(np.uint16)
    assert_pixels(read_radiograph(saved(values, "PNG")), normalized(values))
    values[3, 5] = 65535  # a dead pixel does not make the rest black
    assert_pixels(read_radiograph(saved(values, "PNG")), normalized(values))


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_byte_order_and_min_is_white(order):
    for values, full in ((GREY16, 65535), (GREY8, 255)):
        assert_pixels(read_radiograph(tiff(values, 1, order)), values / full)
        assert_pixels(read_radiograph(tiff(values, 0, order)), 1 - values / full)
    assert_pixels(read_radiograph(tiff(GREY12, 0, order)), 1 - normalized(GREY12))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_tiff_of_32_bits():
    assert_pixels(read_radiograph(tiff(WAVES.astype(np.float32), 1, sample_format=3)), WAVES)
    assert_pixels(read_radiograph(tiff((WAVES * 900 - 70).astype(np.float32), 1, sample_format=3)), normalized(WAVES))
    integers = (WAVES * 1e6).astype(np.int32)
    assert_pixels(read_radiograph(tiff(integers, 1, sample_format=2)), normalized(integers))
    for order in "<>":
        for full, expected in ((2**32 - 1, WAVES), (1e6, normalized(WAVES))):
            unsigned = (WAVES * full).astype(np.uint32)
            assert_pixels(read_radiograph(tiff(unsigned, 1, order)), expected)
            assert_pixels(read_radiograph(tiff(unsigned, 0, order)), 1 - expected)
            assert DAMAGED in refusal(tiff(unsigned, 0, order)[:20000])
    narrow = tiff(unsigned, 0)
    wide = narrow.replace(struct.pack("<HHII", 256, 4, 1, W), struct.pack("<HHII", 256, 4, 1, 10**6))
    assert "at most 50 million" in refusal(wide)
    spoiled = WAVES.astype(np.float32)
    spoiled[1, 1] = np.nan
    assert "not numbers" in refusal(tiff(spoiled, 1, sample_format=3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    stored = {
        1: GREY8, 2: GREY8[:, ::-1], 3: GREY8[::-1, ::-1], 4: GREY8[::-1], 5: GREY8.T, 6: np.rot90(GREY8),
        7: GREY8[::-1, ::-1].T, 8: np.rot90(GREY8, -1),
    }[orientation]  # fmt: skip
    for file_format in ("JPEG", "PNG", "TIFF"):
        options = {"quality": 100} if file_format == "JPEG" else {}
        data = saved(np.ascontiguousarray(stored), file_format, exif=exif, **options)
        assert_pixels(read_radiograph(data), GREY8 / 255, atol=2 / 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_leaves_the_image_as_it_is():
    data = saved(GREY8, "PNG", exif=b"Exif\0\0II*\0 nonsense")
    assert_pixels(read_radiograph(data), GREY8 / 255)


def test_arrays_follow_the_rules_of_files():
    for array, expected in (
        (GREY8, GREY8 / 255),
        (GREY8[..., None], GREY8 / 255),
        (GREY16, GREY16 / 65535),
        (GREY12, normalized(GREY12)),
        (WAVES, WAVES),
        (RGB, LUMA / 255),
        (np.dstack([RGB, GREY8]), LUMA / 255 * GREY8 / 255),
        (GREY8 > 9, (GREY8 > 9).astype(float)),
        (GREY12.astype(np.int16) - 900, normalized(GREY12)),
        (np.full((H, W), 7, np.int32), np.zeros((H, W))),
    ):
        radiograph = radiograph_from_array(array)
        assert radiograph.source == "array"
        assert_pixels(radiograph, expected)
    assert_pixels(radiograph_from_array(Image.fromarray(GREY8)), GREY8 / 255)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 0)), "too small"),
        (np.zeros((3, H, W)), "must have the shape"),
        (np.zeros(90), "must have the shape"),
        (np.zeros((H, W), complex), "must be integers or floats"),
        (np.full((H, W), np.nan), "not numbers"),
        (np.full((H, W), np.inf), "not numbers"),
        (np.zeros((20, 400)), "too small"),
    ],
)
def test_arrays_that_are_no_images(array, words):
    with pytest.raises(ImageError, match=words):
        radiograph_from_array(array)


def test_several_images():
    others = {"save_all": True, "append_images": [Image.fromarray(GREY8.T[:H, :H])]}
    for file_format in ("PNG", "TIFF", "WebP"):
        data = saved(GREY8[:H, :H].copy(), file_format, **others)
        assert f"This {file_format} file holds several images" in refusal(data)


def test_a_phone_photograph_with_a_preview_is_read():
    data = saved(GREY8, "MPO", save_all=True, append_images=[Image.fromarray(GREY8[::2, ::2].copy())], quality=100)
    assert_pixels(read_radiograph(data), GREY8 / 255, atol=2 / 255)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WebP", "BMP"])
def test_truncated(file_format):
    data = saved(RGB, file_format)
    for share in (0.6, 0.9):
        assert DAMAGED in refusal(data[: int(len(data) * share)])


def test_bombs_are_refused_within_little_memory(little_memory):
    explosive = zlib.compress(bytes(64 * 2**20), 9)
    assert_pixels(read_radiograph(png(100, 100)), np.zeros((100, 100)))
    with little_memory():
        for bomb in (png(60000, 60000), png(9000, 9000)):
            assert "at most 50 million" in refusal(bomb)
        for bomb in (png(100, 100, b"iCCPx\0\0" + explosive), png(100, 100, b"zTXtx\0\0" + explosive)):
            assert DAMAGED in refusal(bomb)


@pytest.mark.filterwarnings("ignore")
def test_any_bytes_give_a_radiograph_or_a_refusal():
    files = [
        saved(GREY8, "PNG"), saved(np.dstack([RGB, GREY8]), "PNG"), saved(RGB, "JPEG"), saved(GREY16, "TIFF"),
        saved(RGB, "TIFF", compression="tiff_lzw"), saved(RGB, "WebP"), saved(RGB, "BMP"),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    outcomes = [readable(copy) for data in files for copy in spoiled_copies(data, rng, 50)]
    assert 50 < sum(outcomes) < len(outcomes) - 50
