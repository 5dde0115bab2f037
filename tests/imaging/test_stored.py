"""How pixel data lies in a DICOM object: the bits that are used, fragments, offsets and delimiters."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from dicom_files import compressed, dataset, encapsulated, file_bytes
from image_files import DAMAGED, GREY8, GREY12, RGB, assert_pixels, normalized, refusal, saved
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from xr2text.imaging.read import read_radiograph
from xr2text.imaging.stored import MARKS, MORE_BITS

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
DELIMITER = b"\xfe\xff\xdd\xe0" + bytes(4)
ITEM = b"\xfe\xff\x00\xe0"


def written(made, syntax):
    """A file of a data set whose values may use all 16 bits, whatever its header says."""
    if syntax in NATIVE:
        if syntax == ExplicitVRBigEndian:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
        return file_bytes(made, syntax)
    bits, high = made.BitsStored, made.HighBit
    made.BitsStored, made.HighBit = 16, 15
    if syntax == JPEGLossless:
        values = np.frombuffer(made.PixelData, "<u2").reshape(made.Rows, made.Columns)
        encode = pytest.importorskip("imagecodecs").jpeg8_encode
        data = encapsulated(made, encode(values, lossless=True, bitspersample=16, predictor=1), syntax)
    else:
        if syntax == JPEGLSLossless:
            pytest.importorskip("jpeg_ls")
        data = compressed(made, syntax)
    for tag, true in ((0x0101, bits), (0x0102, high)):
        data = data.replace(struct.pack("<2H2s2H", 0x28, tag, b"US", 2, 16 + 0x0101 - tag),
                            struct.pack("<2H2s2H", 0x28, tag, b"US", 2, true))  # fmt: skip
    return data


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLossless])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (10, False), (12, True)])
def test_bits_above_bits_stored_are_no_part_of_the_image(syntax, bits, signed):
    values = GREY12 >> (12 - bits)
    marks = np.zeros_like(values)
    marks[10:20, 10:60] = 1 << bits
    marks[30:50, 20:25] = 1 << 15
    if signed:
        values = values.astype(np.int16) - 2 ** (bits - 1)
        stored = (values.view(np.uint16) & (2**bits - 1) | marks).view(np.int16)
    else:
        stored = values | marks
    if signed and syntax in (JPEGLSLossless, JPEGLossless):
        pytest.skip("no encoder of signed values")
    window = {"WindowCenter": 0 if signed else 2 ** (bits - 1), "WindowWidth": 2**bits}
    radiograph = read_radiograph(written(dataset(stored, bits, **window), syntax))
    assert_pixels(radiograph, (values.astype(int) + (2 ** (bits - 1) if signed else 0)) / (2**bits - 1))
    assert radiograph.notes == (MARKS,)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (10, False), (10, True)])
def test_pixels_of_more_bits_than_the_header_says_are_used_whole(syntax, bits, signed):
    values = GREY12.astype(np.int16) - 2048 if signed else GREY12
    radiograph = read_radiograph(written(dataset(values, bits), syntax))
    assert_pixels(radiograph, normalized(GREY12))
    assert radiograph.notes == (MORE_BITS,)


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLossless])
@pytest.mark.parametrize("high", [12, 13, 15])
def test_values_lie_below_high_bit(syntax, high):
    noise = np.random.default_rng(0).integers(0, 1 << (high - 11), GREY12.shape, np.uint16)
    made = dataset(GREY12 << (high - 11) | noise, 12, HighBit=high, WindowCenter=2048, WindowWidth=4096)
    radiograph = read_radiograph(written(made, syntax))
    assert_pixels(radiograph, GREY12 / 4095)
    assert not radiograph.notes


def test_signed_values_below_high_bit():
    values = GREY12.astype(np.int16) - 2048
    made = dataset(values << 4, 12, HighBit=15, WindowCenter=0, WindowWidth=4096)
    assert_pixels(read_radiograph(file_bytes(made)), GREY12 / 4095)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
def test_a_high_bit_that_is_untrue_moves_nothing(syntax):
    made = dataset(GREY12, 12, WindowCenter=2048, WindowWidth=4096)
    data = file_bytes(made) if syntax == ExplicitVRLittleEndian else compressed(made, syntax)
    for high in (7, 15):
        wrong = data.replace(struct.pack("<2H2s2H", 0x28, 0x0102, b"US", 2, 11),
                             struct.pack("<2H2s2H", 0x28, 0x0102, b"US", 2, high))  # fmt: skip
        assert wrong != data
        assert_pixels(read_radiograph(wrong), GREY12 / 4095)


def streams():
    jpeg = saved(GREY8, "JPEG", quality=100)
    return {
        "RLE": (compressed(dataset(GREY12, 12), RLELossless), normalized(GREY12), 1e-5),
        "JPEG 2000": (compressed(dataset(GREY12, 12), JPEG2000Lossless), normalized(GREY12), 1e-5),
        "JPEG": (encapsulated(dataset(GREY8), jpeg, JPEGBaseline8Bit), GREY8 / 255, 2 / 255),
        "colour RLE": (compressed(dataset(RGB), RLELossless), RGB @ [0.299, 0.587, 0.114] / 255, 1e-5),
    }


@pytest.mark.parametrize("name", streams())
def test_compressed_data_without_its_closing_delimiter(name):
    data, expected, atol = streams()[name]
    assert data.endswith(DELIMITER)
    for missing in (8, 6, 4, 1):
        assert_pixels(read_radiograph(data[:-missing]), expected, atol)
    # Other elements may follow in place of the delimiter.
    assert_pixels(read_radiograph(data[:-8] + b"\xfc\xff\xfc\xffOB" + bytes(6)), expected, atol)
    for cut in (10, 200, 1000):
        assert DAMAGED in refusal(data[:-cut])


@pytest.mark.parametrize("name", streams())
def test_a_length_in_place_of_a_delimiter(name):
    data, expected, atol = streams()[name]
    at = data.index(b"\xe0\x7f\x10\x00") + 8
    body = data[at + 4 : -8]
    assert_pixels(read_radiograph(data[:at] + struct.pack("<I", len(body)) + body), expected, atol)


def fragmented(name, offsets, parts=2):
    """The file with its frame in fragments and these offsets; None: no table at all."""
    data, expected, atol = streams()[name]
    at = data.index(b"\xe0\x7f\x10\x00") + 12
    frame = data[at + 20 : -8]
    step = len(frame) // parts & ~1
    cuts = [*range(0, step * parts, step), len(frame)]
    fragments = [frame[start:end] for start, end in pairwise(cuts)]
    table = b"" if offsets is None else struct.pack(f"<{len(offsets)}I", *offsets)
    items = fragments if offsets is None else [table, *fragments]
    body = b"".join(ITEM + struct.pack("<I", len(item)) + item for item in items)
    return data[:at] + body + DELIMITER, expected, atol


@pytest.mark.parametrize("name", streams())
@pytest.mark.parametrize("offsets", [(), (0,), (0, 2000), (0, 8, 16), (64,), (2**32 - 1, 5)])
def test_one_frame_whatever_its_offset_table_says(name, offsets):
    for parts in (1, 2, 5):
        data, expected, atol = fragmented(name, offsets, parts)
        assert_pixels(read_radiograph(data), expected, atol)


@pytest.mark.parametrize("name", ["JPEG", "JPEG 2000"])
def test_compressed_data_without_an_offset_table(name):
    data, expected, atol = fragmented(name, None)
    assert_pixels(read_radiograph(data), expected, atol)


def test_two_frames_where_the_header_says_one():
    data, *_ = streams()["JPEG"]
    frame = data[data.index(ITEM + b"\x04\0\0\0") + 12 : -8]
    assert "several images" in refusal(data[:-8] + frame + DELIMITER)
