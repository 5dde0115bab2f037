"""DICOM objects: which are accepted, what their elements say, and which are refused."""

import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import IDENTITY, compressed, dataset, encapsulated, file_bytes
from image_files import (
    DAMAGED,
    GREY8,
    GREY12,
    assert_pixels,
    normalized,
    readable,
    refusal,
    saved,
    spoiled_copies,
)
from pydicom import Dataset, Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from xr2text.imaging.dicom import MIRRORED
from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_chest_radiograph, read_radiograph


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_dicom_without_window_is_normalized(syntax):
    radiograph = read_radiograph(file_bytes(dataset(GREY12, 12), syntax))
    assert (radiograph.source, radiograph.view, radiograph.contradiction) == ("DICOM", "PA", "")
    assert_pixels(radiograph, normalized(GREY12))


def test_dicom_big_endian():
    made = dataset(GREY12, 12)
    made.PixelData = GREY12.astype(">u2").tobytes()
    assert_pixels(read_radiograph(file_bytes(made, ExplicitVRBigEndian)), normalized(GREY12))
    assert_pixels(read_radiograph(file_bytes(made, ExplicitVRBigEndian, preamble=False)), normalized(GREY12))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_dicom_without_preamble_and_transfer_syntax(syntax):
    assert_pixels(read_radiograph(file_bytes(dataset(GREY12, 12), syntax, preamble=False)), normalized(GREY12))


@pytest.mark.parametrize("position", ["LL", "RL", "LATERAL", "LLD", "AP", "PA", "RAO", ""])
def test_view(position):
    view = read_radiograph(file_bytes(dataset(GREY8, ViewPosition=position))).view
    assert view == {"AP": "AP", "PA": "PA", "LLD": None, "RAO": None, "": None}.get(position, "lateral")


@pytest.mark.parametrize("age", ["015Y", "191M", "800W", "000D", "016Y", "045Y", "192M", "", None, "old"])
def test_a_child_is_known_by_its_age_which_is_not_kept(age):
    radiograph = read_radiograph(file_bytes(dataset(GREY8, **({} if age is None else {"PatientAge": age}))))
    assert radiograph.child == (age in ("015Y", "191M", "800W", "000D"))
    assert not age or age not in repr(vars(radiograph))


@pytest.mark.parametrize(
    ("born", "taken", "child"),
    [("20080502", "20240501", True), ("20080502", "20240502", False), ("", "20240501", False), ("2008", "2024", False)],
)
def test_without_an_age_a_child_is_known_by_its_day_of_birth(born, taken, child):
    made = dataset(GREY8, PatientBirthDate=born, StudyDate=taken)
    assert read_radiograph(file_bytes(made)).child == child


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("antero-posterior", "AP"), ("left lateral", "lateral"), ("left lateral decubitus", None)],
)
def test_view_by_code(meaning, view):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10206", "SRT", meaning
    made = dataset(GREY8, ViewPosition="", ViewCodeSequence=Sequence([code]))
    assert read_radiograph(file_bytes(made)).view == view


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", ""])
def test_accepted_modalities(modality):
    assert read_radiograph(file_bytes(dataset(GREY8, Modality=modality))).contradiction == ""


@pytest.mark.parametrize("body_part", ["CHEST", "Thorax ap", "LUNGS", "CHESTABDOMEN", "", "ZQ"])
def test_accepted_body_parts(body_part):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = dataset(GREY8, BodyPartExamined=body_part)
    assert read_radiograph(file_bytes(made)).contradiction == ""


@pytest.mark.parametrize(
    ("modality", "words"),
    [("CT", "a CT image"), ("MR", "an MR image"), ("US", "an ultrasound"), ("MG", "a mammogram"), ("XA", "angiogram"),
     ("NM", "a nuclear medicine image"), ("PT", "a PET image"), ("SR", "a structured report"), ("QQ", "another")],
)  # fmt: skip
def test_other_modalities_are_named(modality, words):
    data = file_bytes(dataset(GREY8, Modality=modality))
    radiograph = read_radiograph(data)
    assert words in radiograph.contradiction
    assert_pixels(radiograph, GREY8 / 255)
    with pytest.raises(ImageError, match=words):
        read_chest_radiograph(data)


def test_other_modalities_without_one_image_are_refused():
    made = dataset(GREY8, Modality="SR")
    for element in ("Rows", "Columns", "PixelData"):
        delattr(made, element)
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    assert "a structured report" in refusal(file_bytes(made))
    assert "a CT image" in refusal(file_bytes(dataset(GREY8, Modality="CT", NumberOfFrames=3)))


def test_ct_without_modality_is_known_by_its_class():
    made = dataset(GREY8, Modality="", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert "a CT image" in read_radiograph(file_bytes(made)).contradiction


@pytest.mark.parametrize(
    ("body_part", "name"), [("SKULL", "skull"), ("HAND", "hand"), ("ABDOMEN", "abdomen"), ("T SPINE", "thoracic spine")]
)
def test_other_body_parts_are_named(body_part, name):
    radiograph = read_radiograph(file_bytes(dataset(GREY8, BodyPartExamined=body_part)))
    assert f"({name})" in radiograph.contradiction


@pytest.mark.parametrize("orientation", ["L\\F", "R\\F", "L\\H", "F\\L", "H\\R", "RA\\FP", "A\\F", "R\\H", "R", ""])
def test_a_mirrored_picture_is_turned_over(orientation):
    stored = {
        "R\\F": GREY8[:, ::-1], "RA\\FP": GREY8[:, ::-1], "L\\H": GREY8[::-1], "F\\L": GREY8.T,
        "H\\R": GREY8.T[::-1, ::-1],
    }  # fmt: skip
    pixels = np.ascontiguousarray(stored.get(orientation, GREY8))
    radiograph = read_radiograph(file_bytes(dataset(pixels, PatientOrientation=orientation)))
    assert_pixels(radiograph, GREY8 / 255)
    assert radiograph.notes == ((MIRRORED,) if orientation in stored else ())


def test_too_small():
    assert "too small for a radiograph" in refusal(file_bytes(dataset(GREY8[:63])))


def test_several_frames():
    two = dataset(GREY8, NumberOfFrames=2)
    two.PixelData = GREY8.tobytes() * 2
    assert "This DICOM file holds several images" in refusal(file_bytes(two))


def test_dicom_without_an_image():
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


def test_truncated():
    data = file_bytes(dataset(GREY12, 12))
    for share in (0.6, 0.9):
        assert DAMAGED in refusal(data[: int(len(data) * share)])


def deflated_bomb() -> bytes:
    made = dataset(GREY8)
    plain = file_bytes(made, DeflatedExplicitVRLittleEndian)
    end = 144 + struct.unpack_from("<I", plain, 140)[0]
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**20))
    return plain[:end] + block + b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()


def test_bombs_are_refused_within_little_memory(monkeypatch, little_memory):
    monkeypatch.setattr("xr2text.imaging.dicom.MAX_BYTES", 4 * 2**20)
    j2k = compressed(dataset(GREY12, 12), JPEG2000Lossless)
    at = j2k.index(b"\xff\x4f\xff\x51") + 8
    deflated = deflated_bomb()
    with little_memory():
        assert "at most 50 million" in refusal(file_bytes(dataset(GREY8, Rows=60000, Columns=60000)))
        assert DAMAGED in refusal(j2k[:at] + struct.pack(">2I", 60000, 60000) + j2k[at + 8 :])
        assert "unpacks to more than" in refusal(deflated)


@pytest.mark.filterwarnings("ignore")
def test_any_bytes_give_a_radiograph_or_a_refusal():
    files = [
        file_bytes(dataset(GREY12, 12, WindowCenter=2000, WindowWidth=900)),
        file_bytes(dataset(GREY12, 12), ImplicitVRLittleEndian, preamble=False),
        file_bytes(dataset(GREY12, 12), DeflatedExplicitVRLittleEndian),
        compressed(dataset(GREY12, 12), RLELossless), compressed(dataset(GREY12, 12), JPEG2000Lossless),
        encapsulated(dataset(GREY8), saved(GREY8, "JPEG"), JPEGBaseline8Bit),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    outcomes = [readable(copy) for data in files for copy in spoiled_copies(data, rng, 50)]
    assert 50 < sum(outcomes) < len(outcomes) - 50


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
