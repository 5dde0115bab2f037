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

RADIOGRAPHY = {"CR", "DX", "DR", "RG", "XR"}
"""Accepted modalities. DR and XR are no codes of the standard, but devices write them."""
UNSPECIFIC = {"OT", "SC"}
"""Accepted too: secondary captures, such as scanned radiographs, that do not say what they show."""

_WANTED = "chest radiographs are accepted (modality CR or DX)"

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

_CHEST = {"CHEST": "CHEST", "THORA": "THORAX", "TORAX": "THORAX", "LUNG": "LUNG"}  # beginnings of words
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

_LATERAL = {"LL", "RL", "LLD", "RLD", "LAT", "LLAT", "RLAT", "LATERAL"}

_ADULT = 16  # years
_UNITS = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}  # of an age string (PS3.5 6.2), so many a year

_ELEMENTS = [
    "SOPClassUID", "Modality", "PatientAge", "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip

# What pydicom, its decoders and the libraries under them raise on damaged data.
_DICOM_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    InvalidDicomError, BytesLengthException, struct.error, zlib.error,
)  # fmt: skip

_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()

_LOGGERS = ("pydicom", "openjpeg")
_QUIET = threading.Lock()


def read_dicom(data: bytes) -> Radiograph:
    """Reads a DICOM object with or without preamble, file meta information and transfer syntax.

    Accepted: one frame of 8 to 16 bits, grey or RGB or YBR, of the modalities in `RADIOGRAPHY` and `UNSPECIFIC` or
    of none, whose body part is the chest, is not given, or is a word that is not known (its content is judged later).

    How values become [0, 1], after the modality LUT or rescale:
    - VOI LUT sequence: the first table, by its bits (PS3.3 C.11.2.1.1);
    - else the first window: LINEAR, LINEAR_EXACT or SIGMOID (C.11.2.1.2, C.11.2.1.3), unless it would leave the
      image blank;
    - else up to 8 stored bits and no modality LUT: divided by the largest value, as in a PNG;
    - else scaled by percentiles. Pixel padding (C.7.5.1.1.2) has no say in them and becomes black.

    Raises:
        ImageError: not DICOM, damaged, too large, too small, several frames, no image, or not a chest radiograph.
    """
    bare, parsed = data[128:132] != b"DICM", False
    with _quietly():
        try:
            dataset = dcmread(BytesIO(_inflate(data)), force=bare, specific_tags=_ELEMENTS)
            parsed = _names_an_object(dataset)
            if parsed:
                modality, body_part = _check_modality(dataset), _check_body_part(dataset)
                _check_frame(dataset)
                pixels = presented_pixels(dataset)
                return Radiograph(pixels, "DICOM", modality, body_part, _view(dataset), _is_child(dataset))
        except ImageError:
            raise
        except _DICOM_ERRORS:
            pass
    raise not_an_image() if bare and not parsed else damaged("DICOM")


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence pydicom, whose warnings quote the values of elements.

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
    """Whether parsing gave what every DICOM object has; almost any bytes "parse" when it is forced.

    Of a file that ends within an element pydicom keeps nothing but the meta information.
    """
    if dataset.file_meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
        return True
    return str(dataset.get("SOPClassUID") or "").startswith("1.2.840.10008.") or "Rows" in dataset


def _check_modality(dataset: Dataset) -> str | None:
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality in RADIOGRAPHY | UNSPECIFIC:
        return modality
    if modality:
        raise ImageError(f"This is {_OTHER_MODALITIES.get(modality, 'a DICOM object of another modality')}; {_WANTED}.")
    # "CT Image Storage", "Enhanced MR Image Storage", "Ultrasound Image Storage" ...
    storage = uid.UID(str(dataset.get("SOPClassUID") or "")).name.upper()
    for word in storage.replace("ULTRASOUND", "US").replace("PET", "PT").split():
        if word in ("CT", "MR", "US", "PT", "XA"):
            raise ImageError(f"This is {_OTHER_MODALITIES[word]}; {_WANTED}.")
    return None


def _check_body_part(dataset: Dataset) -> str | None:
    words = re.findall("[A-Z]+", str(dataset.get("BodyPartExamined") or "").upper())
    joined = "".join(words)
    if "SPINE" not in joined:
        for beginning, term in _CHEST.items():
            if any(word.startswith(beginning) for word in words):
                return term
    # Only words from the table are shown: the element is free text and could hold anything.
    candidates = [joined, *words, *(word.removesuffix("S") for word in words)]
    known = next((_OTHER_BODY_PARTS[word] for word in candidates if word in _OTHER_BODY_PARTS), None)
    if known:
        raise ImageError(f"This radiograph shows another body part ({known}); {_WANTED}.")
    return None


def _check_frame(dataset: Dataset) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        if "PixelData" in dataset or "Image Storage" in uid.UID(str(dataset.get("SOPClassUID") or "")).name:
            raise damaged("DICOM")
        raise ImageError("This DICOM file holds no image; please choose the radiograph itself.")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise several_images("DICOM")
    check_size(int(dataset.Columns), int(dataset.Rows))
    if "PixelData" not in dataset:
        raise ImageError("This DICOM file is incomplete: its pixel data is missing or cut short.")
    if dataset.BitsAllocated not in (8, 16):
        raise ImageError("This DICOM image does not have 8 to 16 bits per pixel; please export it again.")


def _view(dataset: Dataset) -> str | None:
    words = set(re.findall("[A-Z]+", str(dataset.get("ViewPosition") or "").upper()))
    if not words and dataset.get("ViewCodeSequence"):
        # PS3.16 CID 4010: "postero-anterior", "antero-posterior", "left lateral", ...
        meaning = str(dataset.ViewCodeSequence[0].get("CodeMeaning") or "").upper()
        words = set(meaning.replace("POSTERO-ANTERIOR", "PA").replace("ANTERO-POSTERIOR", "AP").split())
    if words & _LATERAL:
        return "lateral"
    return next((view for view in ("PA", "AP") if view in words), None)


def _is_child(dataset: Dataset) -> bool:
    age = re.fullmatch(r"\s*(\d{1,3})([DWMY])\s*", str(dataset.get("PatientAge") or "").upper())
    return bool(age) and int(age[1]) < _ADULT * _UNITS[age[2]]
