"""What a DICOM object presents: windows, tables, padding, colour, and every compression."""

import numpy as np
import pytest
from dicom_files import compressed, dataset, encapsulated, file_bytes
from image_files import GREY8, GREY12, GREY16, LUMA, RGB, H, W, assert_pixels, normalized, saved
from pydicom import Dataset, Sequence
from pydicom.pixels import apply_voi_lut
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from xr2text.imaging.read import read_radiograph


def test_eight_bit_dicom_equals_the_png():
    assert_pixels(read_radiograph(file_bytes(dataset(GREY8))), GREY8 / 255)


def test_monochrome1_is_inverted():
    made = dataset(GREY12, 12, PhotometricInterpretation="MONOCHROME1")
    assert_pixels(read_radiograph(file_bytes(made)), 1 - normalized(GREY12))


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


@pytest.mark.parametrize(
    ("centre", "width"), [(60000, 10), (128, 256), (3900, 300), (32768, 65536), (2000, 0), (2000, -5)]
)
def test_a_window_that_shows_nothing_is_passed_over(centre, width):
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        made = dataset(GREY12, 12, WindowCenter=centre, WindowWidth=width, PhotometricInterpretation=photometric)
        radiograph = read_radiograph(file_bytes(made))
        expected = normalized(GREY12)
        assert_pixels(radiograph, 1 - expected if photometric == "MONOCHROME1" else expected)
        assert ["window does not fit" in note for note in radiograph.notes] == [True] * (width > 0)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_a_window_of_8_bits_on_12_is_passed_over_whatever_its_function(function):
    made = dataset(GREY12, 12, WindowCenter=128, WindowWidth=256, VOILUTFunction=function)
    assert_pixels(read_radiograph(file_bytes(made)), normalized(GREY12))


def test_a_window_of_the_image_inside_its_padding_is_kept():
    values = np.full((200, 200), 4000, np.uint16)
    values[:H, :W] = GREY12 // 4
    made = dataset(values, 12, PixelPaddingValue=4000, WindowCenter=512, WindowWidth=1024)
    radiograph = read_radiograph(file_bytes(made))
    assert not radiograph.notes
    np.testing.assert_allclose(radiograph.pixels[:H, :W], (GREY12 // 4) / 1023, atol=1e-5)


def test_an_image_alike_nearly_everywhere_keeps_its_window():
    values = np.full((H, W), 1000, np.uint16)
    values[0, 0], values[0, 1] = 1500, 500
    radiograph = read_radiograph(file_bytes(dataset(values, 12, WindowCenter=1000.5, WindowWidth=2001)))
    assert_pixels(radiograph, values / 2000)


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
    assert_pixels(read_radiograph(file_bytes(modality)), normalized(looked_up))
    both = dataset(GREY12, 12, ModalityLUTSequence=table(entries, 500, bits))
    both.WindowCenter, both.WindowWidth = 2**bits / 4 + 0.5, 2**bits / 2 + 1
    assert_pixels(read_radiograph(file_bytes(both)), np.clip(looked_up / (2**bits / 2), 0, 1))


@pytest.mark.parametrize(("says", "has"), [(8, 16), (10, 16), (12, 16), (8, 12), (16, 12), (16, 8), (12, 8)])
def test_a_lookup_table_of_another_range_than_it_says(says, has):
    entries = (np.linspace(0, 0.9, 4096) * (2**has - 1)).astype(np.uint16)
    radiograph = read_radiograph(file_bytes(dataset(GREY12, 12, VOILUTSequence=table(entries, 0, says))))
    assert_pixels(radiograph, entries[GREY12] / entries.max())
    assert len(radiograph.notes) == 1 and "another range than it says" in radiograph.notes[0]


def test_a_lookup_table_that_does_not_fit_gives_way_to_the_window_or_percentiles():
    entries = np.linspace(0, 4095, 256).astype(np.uint16)  # of an image of 8 bits
    made = dataset(GREY12, 12, VOILUTSequence=table(entries, 0, 12))
    radiograph = read_radiograph(file_bytes(made))
    assert_pixels(radiograph, normalized(GREY12))
    assert len(radiograph.notes) == 1 and "(VOI LUT) does not fit" in radiograph.notes[0]
    made.WindowCenter, made.WindowWidth = 2048, 4096
    radiograph = read_radiograph(file_bytes(made))
    assert_pixels(radiograph, GREY12 / 4095)
    assert len(radiograph.notes) == 1


def test_padding_has_no_say_and_is_black():
    values = GREY12.copy()
    values[:20] = 60000
    made = dataset(values, 16, PixelPaddingValue=60000)
    radiograph = read_radiograph(file_bytes(made))
    assert (radiograph.pixels[:20] == 0).all()
    np.testing.assert_allclose(radiograph.pixels[20:], normalized(GREY12[20:]), atol=1e-5)
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
        expected = GREY8 / 255 if bits == 8 else normalized(values)
        assert_pixels(read_radiograph(compressed(dataset(values, bits), syntax)), expected)


def test_jpeg_baseline():
    data = encapsulated(dataset(GREY8), saved(GREY8, "JPEG", quality=100), JPEGBaseline8Bit)
    assert_pixels(read_radiograph(data), GREY8 / 255, atol=2 / 255)


@pytest.mark.parametrize(("predictor", "syntax"), [(1, JPEGLosslessSV1), (4, JPEGLossless)])
def test_jpeg_lossless(predictor, syntax):
    encode = pytest.importorskip("imagecodecs").jpeg8_encode
    stream = encode(GREY12, lossless=True, bitspersample=12, predictor=predictor)
    assert_pixels(read_radiograph(encapsulated(dataset(GREY12, 12), stream, syntax)), normalized(GREY12))


def test_jpeg_extended_12_bit():
    stream = pytest.importorskip("imagecodecs").jpeg8_encode(GREY12, level=100, bitspersample=12)
    data = encapsulated(dataset(GREY12, 12), stream, JPEGExtended12Bit)
    assert_pixels(read_radiograph(data), normalized(GREY12), atol=4 / 4095)
