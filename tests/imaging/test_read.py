import io
import logging
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import IDENTITY, compressed, dataset, encapsulated, file_bytes
from PIL import Image
from pydicom import Dataset, Sequence
from pydicom.pixels import apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from xr2text.imaging import read
from xr2text.imaging.radiograph import ACCEPTED, PERCENTILES, ImageError, Radiograph
from xr2text.imaging.read import radiograph_from_array, read_radiograph

H, W = 72, 80
Y, X = np.mgrid[:H, :W]
WAVES = (np.sin(X / 9) + np.cos(Y / 7) + 2) / 4  # smooth, in [0, 1], alike in no two corners
GREY8 = (WAVES * 255).astype(np.uint8)
GREY12 = (WAVES * 4095).astype(np.uint16)
GREY16 = (WAVES * 65535).astype(np.uint16)
RGB = np.stack([GREY8, GREY8[::-1], GREY8[:, ::-1]], axis=-1)
LUMA = RGB @ np.array([0.299, 0.587, 0.114])
DAMAGED = "damaged, incomplete or of an unsupported kind"


def saved(array, file_format, mode=None, **options) -> bytes:
    out = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, file_format, **options)
    return out.getvalue()


def stretched(values):
    low, high = np.percentile(values.astype(np.float64), PERCENTILES)
    return np.clip((values - low) / (high - low), 0, 1)


def assert_pixels(radiograph: Radiograph, expected, atol=1e-5):
    assert radiograph.pixels.dtype == np.float32
    assert radiograph.pixels.min() >= 0 and radiograph.pixels.max() <= 1
    assert (radiograph.height, radiograph.width) == expected.shape
    np.testing.assert_allclose(radiograph.pixels, expected, atol=atol)


def refusal(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_radiograph(source)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    assert not any(word in sentence for word in IDENTITY)
    return sentence


# PNG, JPEG, TIFF, WebP, BMP


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WebP", "BMP"])
def test_lossless_grey_keeps_every_value(file_format):
    options = {"lossless": True} if file_format == "WebP" else {}
    radiograph = read_radiograph(saved(GREY8, file_format, **options))
    assert radiograph.source == file_format
    assert (radiograph.modality, radiograph.body_part, radiograph.view) == (None, None, None)
    assert_pixels(radiograph, GREY8 / 255)


def test_path_stream_and_bytes_are_one(tmp_path):
    path = tmp_path / "a.dcm"  # the suffix lies
    path.write_bytes(saved(GREY8, "JPEG", quality=100))
    by_path = read_radiograph(path)
    assert by_path.source == "JPEG"
    assert_pixels(by_path, GREY8 / 255, atol=2 / 255)
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_radiograph(source).pixels, by_path.pixels)


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


def test_fully_transparent_is_black():
    data = saved(np.dstack([RGB, np.zeros_like(GREY8)]), "PNG")
    assert_pixels(read_radiograph(data), np.zeros((H, W)))


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


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_a_sixteen_bit_container_are_stretched(bits):
    values = (WAVES * (2**bits - 1)).astype(np.uint16)
    assert_pixels(read_radiograph(saved(values, "PNG")), stretched(values))
    values[3, 5] = 65535  # a dead pixel does not make the rest black
    assert_pixels(read_radiograph(saved(values, "PNG")), stretched(values))


def tiff(values: np.ndarray, photometric: int, order: str = "<", sample_format: int = 1) -> bytes:
    """An uncompressed TIFF of one strip, [H, W]."""
    kind = values.dtype.newbyteorder(order)
    body = values.astype(kind).tobytes()
    tags = [
        (256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, kind.itemsize * 8), (259, 3, 1),
        (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, values.shape[0]), (279, 4, len(body)),
        (339, 3, sample_format),
    ]  # fmt: skip
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body)) + body
    out += struct.pack(f"{order}H", len(tags))
    for tag, field, value in tags:
        out += struct.pack(f"{order}HHI", tag, field, 1)
        out += struct.pack(f"{order}HH", value, 0) if field == 3 else struct.pack(f"{order}I", value)
    return out + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_byte_order_and_min_is_white(order):
    for values, full in ((GREY16, 65535), (GREY8, 255)):
        assert_pixels(read_radiograph(tiff(values, 1, order)), values / full)
        assert_pixels(read_radiograph(tiff(values, 0, order)), 1 - values / full)
    assert_pixels(read_radiograph(tiff(GREY12, 0, order)), 1 - stretched(GREY12))


def test_tiff_of_32_bits():
    assert_pixels(read_radiograph(tiff(WAVES.astype(np.float32), 1, sample_format=3)), WAVES)
    assert_pixels(read_radiograph(tiff((WAVES * 900 - 70).astype(np.float32), 1, sample_format=3)), stretched(WAVES))
    integers = (WAVES * 1e6).astype(np.int32)
    assert_pixels(read_radiograph(tiff(integers, 1, sample_format=2)), stretched(integers))
    spoiled = WAVES.astype(np.float32)
    spoiled[1, 1] = np.nan
    assert "not numbers" in refusal(tiff(spoiled, 1, sample_format=3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation):
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


# Arrays


def test_arrays_follow_the_rules_of_files():
    for array, expected in (
        (GREY8, GREY8 / 255),
        (GREY8[..., None], GREY8 / 255),
        (GREY16, GREY16 / 65535),
        (GREY12, stretched(GREY12)),
        (WAVES, WAVES),
        (RGB, LUMA / 255),
        (np.dstack([RGB, GREY8]), LUMA / 255 * GREY8 / 255),
        (GREY8 > 9, (GREY8 > 9).astype(float)),
        (GREY12.astype(np.int16) - 900, stretched(GREY12)),
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
def test_arrays_that_are_no_pictures(array, words):
    with pytest.raises(ImageError, match=words):
        radiograph_from_array(array)


# DICOM


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_dicom_without_window_is_stretched(syntax):
    radiograph = read_radiograph(file_bytes(dataset(GREY12, 12), syntax))
    assert (radiograph.source, radiograph.modality, radiograph.body_part) == ("DICOM", "CR", "CHEST")
    assert radiograph.view == "PA"
    assert_pixels(radiograph, stretched(GREY12))


def test_dicom_big_endian():
    made = dataset(GREY12, 12)
    made.PixelData = GREY12.astype(">u2").tobytes()
    assert_pixels(read_radiograph(file_bytes(made, ExplicitVRBigEndian)), stretched(GREY12))
    assert_pixels(read_radiograph(file_bytes(made, ExplicitVRBigEndian, preamble=False)), stretched(GREY12))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_dicom_without_preamble_and_transfer_syntax(syntax):
    assert_pixels(read_radiograph(file_bytes(dataset(GREY12, 12), syntax, preamble=False)), stretched(GREY12))


def test_eight_bit_dicom_equals_the_png():
    assert_pixels(read_radiograph(file_bytes(dataset(GREY8))), GREY8 / 255)


def test_monochrome1_is_inverted():
    made = dataset(GREY12, 12, PhotometricInterpretation="MONOCHROME1")
    assert_pixels(read_radiograph(file_bytes(made)), 1 - stretched(GREY12))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_windows_agree_with_pydicom(function, signed):
    values = GREY12.astype(np.int16) - 2048 if signed else GREY12
    made = dataset(values, 12, WindowCenter=[0 if signed else 1900, 5], WindowWidth=[2500, 9])
    if function:
        made.VOILUTFunction = function
    low, high = (-2048, 2047) if signed else (0, 4095)
    expected = (apply_voi_lut(values, made) - low) / (high - low)
    assert_pixels(read_radiograph(file_bytes(made)), expected, atol=1e-4)


def test_rescale_comes_before_the_window():
    made = dataset(GREY12, 12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2000.5, WindowWidth=4001)
    assert_pixels(read_radiograph(file_bytes(made)), np.clip((GREY12 * 2.0 - 1000) / 4000, 0, 1))


@pytest.mark.parametrize(("centre", "width"), [(60000, 10), (2000, 0), (2000, -5)])
def test_a_window_that_shows_nothing_is_passed_over(centre, width):
    made = dataset(GREY12, 12, WindowCenter=centre, WindowWidth=width)
    assert_pixels(read_radiograph(file_bytes(made)), stretched(GREY12))


def table(entries: np.ndarray, first: int, bits: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lookup_tables(bits):
    entries = (np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(np.uint16)
    looked_up = entries[np.clip(GREY12.astype(int) - 500, 0, 2999)]
    voi = dataset(GREY12, 12, VOILUTSequence=table(entries, 500, bits), WindowCenter=1, WindowWidth=2)
    assert_pixels(read_radiograph(file_bytes(voi)), looked_up / (2**bits - 1))
    modality = dataset(GREY12, 12, ModalityLUTSequence=table(entries, 500, bits))
    assert_pixels(read_radiograph(file_bytes(modality)), stretched(looked_up))
    both = dataset(GREY12, 12, ModalityLUTSequence=table(entries, 500, bits))
    both.WindowCenter, both.WindowWidth = 50.5, 101
    assert_pixels(read_radiograph(file_bytes(both)), np.clip(looked_up / 100, 0, 1))


def test_padding_has_no_say_and_is_black():
    values = GREY12.copy()
    values[:20] = 60000
    made = dataset(values, 16, PixelPaddingValue=60000)
    radiograph = read_radiograph(file_bytes(made))
    assert (radiograph.pixels[:20] == 0).all()
    np.testing.assert_allclose(radiograph.pixels[20:], stretched(GREY12[20:]), atol=1e-5)
    made.PhotometricInterpretation = "MONOCHROME1"
    assert (read_radiograph(file_bytes(made)).pixels[:20] == 0).all()


def test_colour_dicom_becomes_luminance():
    assert_pixels(read_radiograph(file_bytes(dataset(RGB))), LUMA / 255)
    made = dataset(RGB, PhotometricInterpretation="YBR_FULL_422")
    stream = saved(RGB, "JPEG", quality=100)
    assert_pixels(read_radiograph(encapsulated(made, stream, JPEGBaseline8Bit)), LUMA / 255, atol=4 / 255)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression(syntax):
    for values, bits in ((GREY12, 12), (GREY16, 16), (GREY8, 8)):
        if syntax == JPEGLSLossless:
            pytest.importorskip("jpeg_ls")
        expected = GREY8 / 255 if bits == 8 else stretched(values)
        assert_pixels(read_radiograph(compressed(dataset(values, bits), syntax)), expected)


def test_jpeg_baseline():
    data = encapsulated(dataset(GREY8), saved(GREY8, "JPEG", quality=100), JPEGBaseline8Bit)
    assert_pixels(read_radiograph(data), GREY8 / 255, atol=2 / 255)


@pytest.mark.parametrize(("predictor", "syntax"), [(1, JPEGLosslessSV1), (4, JPEGLossless)])
def test_jpeg_lossless(predictor, syntax):
    encode = pytest.importorskip("imagecodecs").jpeg8_encode
    stream = encode(GREY12, lossless=True, bitspersample=12, predictor=predictor)
    assert_pixels(read_radiograph(encapsulated(dataset(GREY12, 12), stream, syntax)), stretched(GREY12))


def test_jpeg_extended_12_bit():
    stream = pytest.importorskip("imagecodecs").jpeg8_encode(GREY12, level=100, bitspersample=12)
    data = encapsulated(dataset(GREY12, 12), stream, JPEGExtended12Bit)
    assert_pixels(read_radiograph(data), stretched(GREY12), atol=4 / 4095)


@pytest.mark.parametrize("position", ["LL", "RL", "LATERAL", "LLD", "AP", "PA", "RAO", ""])
def test_view(position):
    view = read_radiograph(file_bytes(dataset(GREY8, ViewPosition=position))).view
    assert view == {"AP": "AP", "PA": "PA", "RAO": None, "": None}.get(position, "lateral")


def test_view_by_code():
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10206", "SRT", "antero-posterior"
    made = dataset(GREY8, ViewPosition="", ViewCodeSequence=Sequence([code]))
    assert read_radiograph(file_bytes(made)).view == "AP"


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", ""])
def test_accepted_modalities(modality):
    assert read_radiograph(file_bytes(dataset(GREY8, Modality=modality))).modality == (modality or None)


@pytest.mark.parametrize(
    ("body_part", "kept"),
    [
        ("CHEST", "CHEST"),
        ("Thorax ap", "THORAX"),
        ("LUNGS", "LUNG"),
        ("CHESTABDOMEN", "CHEST"),
        ("", None),
        ("ZQ", None),
    ],
)
def test_accepted_body_parts(body_part, kept):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = dataset(GREY8, BodyPartExamined=body_part)
    assert read_radiograph(file_bytes(made)).body_part == kept


# Refusals


@pytest.mark.parametrize(
    ("modality", "words"),
    [("CT", "a CT image"), ("MR", "an MR image"), ("US", "an ultrasound"), ("MG", "a mammogram"), ("XA", "angiogram"),
     ("NM", "a nuclear medicine image"), ("PT", "a PET image"), ("SR", "a structured report"), ("QQ", "another")],
)  # fmt: skip
def test_other_modalities_are_named(modality, words):
    assert words in refusal(file_bytes(dataset(GREY8, Modality=modality)))


def test_ct_without_modality_is_told_by_its_class():
    made = dataset(GREY8, Modality="", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert "a CT image" in refusal(file_bytes(made))


@pytest.mark.parametrize(
    ("body_part", "name"), [("SKULL", "skull"), ("HAND", "hand"), ("ABDOMEN", "abdomen"), ("T SPINE", "thoracic spine")]
)
def test_other_body_parts_are_named(body_part, name):
    assert f"({name})" in refusal(file_bytes(dataset(GREY8, BodyPartExamined=body_part)))


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
    assert "larger than 1 MiB" in refusal(io.BytesIO(bytes(2**20 + 1)))


def png(width: int, height: int, *extra: bytes) -> bytes:
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    extras = [chunk(part[:4], part[4:]) for part in extra]
    rows = zlib.compress(bytes((min(width, 100) + 1) * min(height, 100)))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *extras, chunk(b"IDAT", rows), chunk(b"IEND", b"")])


def deflated_bomb() -> bytes:
    made = dataset(GREY8)
    plain = file_bytes(made, DeflatedExplicitVRLittleEndian)
    end = 144 + struct.unpack_from("<I", plain, 140)[0]
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**20))
    return plain[:end] + block + b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()


def test_bombs_are_refused_within_little_memory(monkeypatch):
    monkeypatch.setattr("xr2text.imaging.dicom.MAX_BYTES", 4 * 2**20)
    explosive = zlib.compress(bytes(64 * 2**20), 9)
    j2k = dataset(GREY12, 12)
    whole = compressed(j2k, JPEG2000Lossless)
    at = whole.index(b"\xff\x4f\xff\x51") + 8
    bombs = {
        "at most 50 million": [
            png(60000, 60000),
            png(9000, 9000),
            file_bytes(dataset(GREY8, Rows=60000, Columns=60000)),
        ],
        DAMAGED: [
            png(100, 100, b"iCCPx\0\0" + explosive),
            png(100, 100, b"zTXtx\0\0" + explosive),
            whole[:at] + struct.pack(">2I", 60000, 60000) + whole[at + 8 :],
        ],
        "unpacks to more than": [deflated_bomb()],
    }
    assert_pixels(read_radiograph(png(100, 100)), np.zeros((100, 100)))
    tracemalloc.start()
    try:
        for words, files in bombs.items():
            for data in files:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    assert words in refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_too_small():
    assert "too small for a radiograph" in refusal(saved(GREY8[:63], "PNG"))
    assert "too small for a radiograph" in refusal(file_bytes(dataset(GREY8[:63])))


def test_several_pictures():
    others = {"save_all": True, "append_images": [Image.fromarray(GREY8.T[:H, :H])]}
    for file_format in ("PNG", "TIFF", "WebP"):
        data = saved(GREY8[:H, :H].copy(), file_format, **others)
        assert f"This {file_format} file holds several images" in refusal(data)
    two = dataset(GREY8, NumberOfFrames=2)
    two.PixelData = GREY8.tobytes() * 2
    assert "This DICOM file holds several images" in refusal(file_bytes(two))


def test_a_phone_photograph_with_a_preview_is_read():
    data = saved(GREY8, "MPO", save_all=True, append_images=[Image.fromarray(GREY8[::2, ::2].copy())], quality=100)
    assert_pixels(read_radiograph(data), GREY8 / 255, atol=2 / 255)


def test_dicom_without_a_picture():
    made = dataset(GREY8, Modality="", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del made.PixelData, made.Rows, made.Columns
    assert "holds no image" in refusal(file_bytes(made))
    directory = dataset(GREY8, SOPClassUID=MediaStorageDirectoryStorage, Modality="")
    del directory.PixelData, directory.Rows, directory.Columns
    assert "holds no image" in refusal(file_bytes(directory))
    lost = dataset(GREY8)
    del lost.PixelData
    assert "pixel data is missing" in refusal(file_bytes(lost))


def test_dicom_with_short_or_odd_pixels():
    made = dataset(GREY8)
    made.PixelData = GREY8[:50].tobytes()
    assert DAMAGED in refusal(file_bytes(made))
    assert "colour palette" in refusal(file_bytes(dataset(GREY8, PhotometricInterpretation="PALETTE COLOR")))
    assert "8 to 16 bits" in refusal(file_bytes(dataset(GREY8, BitsAllocated=32)))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WebP", "BMP", "DICOM"])
def test_truncated(file_format):
    data = file_bytes(dataset(GREY12, 12)) if file_format == "DICOM" else saved(RGB, file_format)
    for share in (0.6, 0.9):
        assert DAMAGED in refusal(data[: int(len(data) * share)])


def test_any_bytes_give_a_radiograph_or_a_refusal():
    files = [
        saved(GREY8, "PNG"), saved(np.dstack([RGB, GREY8]), "PNG"), saved(RGB, "JPEG"), saved(GREY16, "TIFF"),
        saved(RGB, "TIFF", compression="tiff_lzw"), saved(RGB, "WebP"), saved(RGB, "BMP"),
        file_bytes(dataset(GREY12, 12, WindowCenter=2000, WindowWidth=900)),
        file_bytes(dataset(GREY12, 12), ImplicitVRLittleEndian, preamble=False),
        file_bytes(dataset(GREY12, 12), DeflatedExplicitVRLittleEndian),
        compressed(dataset(GREY12, 12), RLELossless), compressed(dataset(GREY12, 12), JPEG2000Lossless),
        encapsulated(dataset(GREY8), saved(GREY8, "JPEG"), JPEGBaseline8Bit),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for data in files:
        cases = [data[:end] for end in rng.integers(0, len(data), 25)]
        for case in range(50):
            spoiled = bytearray(data)
            for at in rng.integers(0, len(data) if case % 2 else min(900, len(data)), rng.integers(1, 9)):
                spoiled[at] = rng.integers(0, 256)
            cases.append(bytes(spoiled))
        for case in cases:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    radiograph = read_radiograph(case)
                except ImageError:
                    outcomes[False] += 1
                else:
                    outcomes[True] += 1
                    assert radiograph.pixels.dtype == np.float32 and np.isfinite(radiograph.pixels).all()
    assert min(outcomes.values()) > 100


def test_identity_is_nowhere(tmp_path, caplog, recwarn, capfd):
    caplog.set_level(logging.DEBUG)
    made = dataset(GREY12, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.BodyPartExamined, made.ViewPosition = f"{IDENTITY[0]} {IDENTITY[1]}", IDENTITY[1]
        made.StudyDate = IDENTITY[4]  # invalid values are what pydicom warns about
        made.WindowCenter, made.WindowWidth = "2000", "900"
    good = file_bytes(made)
    caplog.clear()
    recwarn.clear()
    path = tmp_path / f"{IDENTITY[1]}.dcm"
    seen = []
    variants = [
        good,
        good[: len(good) // 2],
        good.replace(b"CR", b"CT"),
        good[:400],
        good.replace(b"2000", IDENTITY[1][:4].encode()),
    ]
    for data in variants:
        path.write_bytes(data)
        try:
            radiograph = read_radiograph(path)
            seen += [repr(radiograph), repr(vars(radiograph))]
        except ImageError as error:
            seen += [str(error), repr(error), repr(error.__cause__)]
    seen += [caplog.text, *(str(warning.message) for warning in recwarn), *capfd.readouterr()]
    assert not any(word in text for word in (*IDENTITY, Path(path).stem) for text in seen)
    assert not caplog.records and not recwarn.list


@pytest.mark.parametrize("shape", [(64, 2000), (2000, 64), (300, 1300)])
def test_a_strip_is_no_radiograph(shape):
    with pytest.raises(ImageError, match="too long and thin"):
        radiograph_from_array(np.zeros(shape, np.uint8))
    assert radiograph_from_array(np.zeros((400, 100), np.uint8)).height == 400
