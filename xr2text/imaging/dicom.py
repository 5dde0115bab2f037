"""DICOM objects -> Radiograph. `xr2text.imaging.read.read_radiograph` is the door to this module.

Only the elements named in `_ELEMENTS` are parsed, so that who the patient is is never turned into values. Of the age
nothing is kept but whether it is a child's.
"""

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset

from xr2text.imaging.lut import presented_pixels
from xr2text.imaging.radiograph import (
    MAX_BYTES,
    ImageError,
    Radiograph,
    check_size,
    damaged,
    not_an_image,
    several_images,
)
from xr2text.imaging.stored import read_pixel_data

RADIOGRAPHY = {"CR", "DX", "DR", "RG", "XR"}
"""Accepted modalities. DR and XR are no codes of the standard, but devices write them."""
UNSPECIFIC = {"OT", "SC"}
"""Accepted too: secondary captures, such as scanned radiographs, that do not say what they show."""

_WANTED = "reports are written of chest radiographs (modality CR or DX)"

_OTHER_MODALITIES = {
    "CT": "a CT image", "MR": "an MR image", "US": "an ultrasound image", "MG": "a mammogram",
    "NM": "a nuclear medicine image", "PT": "a PET image", "XA": "an X-ray angiogram", "RF": "a fluoroscopic image",
    "IO": "an intra-oral dental radiograph", "PX": "a panoramic dental radiograph", "BMD": "a bone densitometry",
    "ES": "an endoscopic image", "XC": "a photograph", "GM": "a microscopic image", "SM": "a microscopic slide",
    "OP": "an ophthalmic photograph", "OPT": "an ophthalmic tomogram", "OCT": "an optical coherence tomogram",
    "IVUS": "an intravascular ultrasound", "RTIMAGE": "a radiotherapy image", "RTDOSE": "a radiotherapy dose",
    "RTPLAN": "a radiotherapy plan", "RTSTRUCT": "a radiotherapy structure set", "SR": "a structured report",
    "DOC": "a document", "PR": "a presentation state", "KO": "a key object selection", "SEG": "a segmentation",
    "ECG": "an electrocardiogram", "HD": "a haemodynamic recording",
}  # fmt: skip

_CHEST = ("CHEST", "THORA", "TORAX", "LUNG")  # prefixes of words
_OTHER_BODY_PARTS = {part.upper(): part for part in re.findall("[a-z]+", """
    abdomen ankle arm bladder brain breast clavicle coccyx colon ear elbow extremity eye face femur finger foot
    forearm hand head heel hip humerus jaw kidney knee leg liver mandible maxilla neck nose orbit patella pelvis
    radius sacrum scapula shoulder sinuses skull spine sternum stomach teeth thigh thumb tibia toe ulna wrist
""")} | {
    "ABD": "abdomen", "KUB": "abdomen", "CALCANEUS": "heel", "ESOPHAGUS": "oesophagus", "FACIAL": "face",
    "ZYGOMA": "face", "FEET": "foot", "NASAL": "nose", "RIB": "ribs", "SINUS": "sinuses", "TOOTH": "teeth",
    "CSPINE": "cervical spine", "TSPINE": "thoracic spine", "LSPINE": "lumbar spine", "LSSPINE": "lumbar spine",
    "SSPINE": "sacral spine", "TLSPINE": "thoracolumbar spine",
}  # fmt: skip

_LATERAL = {"LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL"}

_ADULT = 16  # years
_UNITS = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}  # units of an age string (PS3.5 6.2): how many make a year

MIRRORED = "The file says that its picture is mirrored; it was turned over, so that the patient's right is on the left."
# Patient orientation (PS3.3 C.7.6.1.1.1) of a mirrored frontal image -> the change after which its rows point to the
# left and its columns to the feet. Images that are only turned are left to the gate.
_UNMIRRORED = {
    "RF": lambda pixels: pixels[:, ::-1],
    "LH": lambda pixels: pixels[::-1],
    "FL": lambda pixels: pixels.T,
    "HR": lambda pixels: pixels[::-1, ::-1].T,
}

_ELEMENTS = [
    "SOPClassUID", "StudyDate", "Modality", "PatientBirthDate", "PatientAge", "BodyPartExamined", "ViewPosition",
    "ViewCodeSequence", "PatientOrientation", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction",
]  # fmt: skip

# What pydicom, its decoders and the libraries under them raise on damaged data.
_DICOM_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    InvalidDicomError, BytesLengthException, struct.error, zlib.error,
)  # fmt: skip

_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()

_LOGGERS = ("pydicom", "openjpeg", "highdicom")
_QUIET = threading.Lock()


def read_dicom(data: bytes) -> Radiograph:
    """Reads a DICOM object with or without preamble, file meta information and transfer syntax.

    Accepted: one frame of 8 to 16 bits, grey or RGB or YBR. A modality beyond `RADIOGRAPHY` and `UNSPECIFIC`, or a body
    part that is known and is not the chest, stands in `Radiograph.contradiction`: headers are often wrong.

    How values become [0, 1], after the modality LUT or rescale:
    - VOI LUT sequence: the first table, by its bits (PS3.3 C.11.2.1.1), or its largest entry where they are untrue;
    - else the first window: LINEAR, LINEAR_EXACT or SIGMOID (C.11.2.1.2, C.11.2.1.3);
    - either is passed over where it does not fit, see `xr2text.imaging.lut.fits`;
    - else up to 8 stored bits and no modality LUT: divided by the largest value, as in a PNG;
    - else scaled by percentiles. Pixel padding (C.7.5.1.1.2) has no say in them and becomes black.
    What was done to the pixels where the header seems to be at fault stands in `Radiograph.notes`.

    Raises:
        ImageError: not DICOM, damaged, too large, too small, several frames, or no image.
    """
    bare, parsed = data[128:132] != b"DICM", False
    with quietly():
        try:
            file = BytesIO(_inflate(data))
            dataset = dcmread(file, force=bare, specific_tags=_ELEMENTS, stop_before_pixels=True)
            parsed = _names_an_object(dataset)
            if parsed:
                contradiction = _other_modality(dataset) or _other_body_part(dataset)
                _check_frame(dataset, contradiction)
                read_pixel_data(file, dataset)
                pixels, notes = presented_pixels(dataset)
                orientation = "".join(str(side)[:1] for side in dataset.get("PatientOrientation") or ())
                if orientation in _UNMIRRORED:
                    pixels, notes = np.ascontiguousarray(_UNMIRRORED[orientation](pixels)), (*notes, MIRRORED)
                return Radiograph(pixels, "DICOM", _view(dataset), _is_child(dataset), contradiction, notes)
        except ImageError:
            raise
        except _DICOM_ERRORS:
            pass
    raise not_an_image() if bare and not parsed else damaged("DICOM")


@contextmanager
def quietly() -> Iterator[None]:
    """Silences pydicom and highdicom, whose warnings quote the values of elements.

    Warning filters belong to the whole process, hence the lock: DICOM objects are read one at a time per process.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)  # of its children too
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _inflate(data: bytes) -> bytes:
    """Undoes a deflated transfer syntax (PS3.5 A.5) within `MAX_BYTES`; pydicom would inflate without a bound."""
    if _DEFLATED not in data:
        return data
    file = BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    head, body = data[: file.tell()], data[file.tell() :]
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        body = inflater.decompress(body, MAX_BYTES)
        if inflater.unconsumed_tail:
            raise ImageError(
                f"The DICOM file unpacks to more than {MAX_BYTES // 2**20} MiB, the largest that is accepted."
            )
        if not inflater.eof:
            raise damaged("DICOM")
    plain = uid.ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0")
    return head.replace(_DEFLATED, plain) + body.replace(_DEFLATED, plain)


def _names_an_object(dataset: Dataset) -> bool:
    """Whether the parsed data has what every DICOM object has. With `force`, pydicom parses almost any bytes.

    Of a file that ends within an element pydicom keeps nothing but the meta information.
    """
    if dataset.file_meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        return True
    return str(dataset.get("SOPClassUID") or "").startswith("1.2.840.10008.") or "Rows" in dataset


def _other_modality(dataset: Dataset) -> str:
    """A sentence about the modality in the header, where the object is no radiograph; else ""."""
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality in RADIOGRAPHY | UNSPECIFIC:
        return ""
    if modality:
        what = _OTHER_MODALITIES.get(modality, "a DICOM object of another modality")
        return f"The file says that this is {what}; {_WANTED}."
    # "CT Image Storage", "Enhanced MR Image Storage", "Ultrasound Image Storage" ...
    storage = uid.UID(str(dataset.get("SOPClassUID") or "")).name.upper()
    for word in storage.replace("ULTRASOUND", "US").replace("PET", "PT").split():
        if word in ("CT", "MR", "US", "PT", "XA"):
            return f"The file says that this is {_OTHER_MODALITIES[word]}; {_WANTED}."
    return ""


def _other_body_part(dataset: Dataset) -> str:
    """A sentence about the body part in the header, where it is known and not the chest; else ""."""
    words = re.findall("[A-Z]+", str(dataset.get("BodyPartExamined") or "").upper())
    if "SPINE" not in "".join(words) and any(word.startswith(_CHEST) for word in words):
        return ""
    # Only words from the table are shown: the element is free text and could hold anything.
    candidates = ["".join(words), *words, *(word.removesuffix("S") for word in words)]
    known = next((_OTHER_BODY_PARTS[word] for word in candidates if word in _OTHER_BODY_PARTS), None)
    return "" if known is None else f"The file says that this shows another body part ({known}); {_WANTED}."


def _check_frame(dataset: Dataset, contradiction: str) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        if "Image Storage" in uid.UID(str(dataset.get("SOPClassUID") or "")).name:
            raise damaged("DICOM")
        raise ImageError(contradiction or "This DICOM file holds no image; please choose the radiograph itself.")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError(contradiction) if contradiction else several_images("DICOM")
    check_size(int(dataset.Columns), int(dataset.Rows))
    if dataset.BitsAllocated not in (8, 16):
        raise ImageError("This DICOM image does not have 8 to 16 bits per pixel; please export it again.")


def _view(dataset: Dataset) -> str | None:
    words = set(re.findall("[A-Z]+", str(dataset.get("ViewPosition") or "").upper()))
    if not words and dataset.get("ViewCodeSequence"):
        # PS3.16 CID 4010: "postero-anterior", "antero-posterior", "left lateral", ...
        meaning = str(dataset.ViewCodeSequence[0].get("CodeMeaning") or "").upper()
        words = set(meaning.replace("POSTERO-ANTERIOR", "PA").replace("ANTERO-POSTERIOR", "AP").split())
    if words & _LATERAL and "DECUBITUS" not in words:  # a lateral decubitus view is taken from the front
        return "lateral"
    return next((view for view in ("PA", "AP") if view in words), None)


def _is_child(dataset: Dataset) -> bool:
    """Judged by the age in the header, else by birth and study date; neither is kept."""
    age = re.fullmatch(r"\s*(\d{1,3})([DWMY])\s*", str(dataset.get("PatientAge") or "").upper())
    if age:
        return int(age[1]) < _ADULT * _UNITS[age[2]]
    try:
        born, taken = (str(dataset.get(name) or "").strip() for name in ("PatientBirthDate", "StudyDate"))
    except NotImplementedError:  # a value representation that there is not
        return False
    known = all(re.fullmatch(r"\d{8}", day) for day in (born, taken))
    return known and 0 <= int(taken) - int(born) < _ADULT * 10_000
