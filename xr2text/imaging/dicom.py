"""DICOM objects -> Radiograph. `xr2text.imaging.read.read_radiograph` is the door to this module.

Stored values pass the modality LUT, then the VOI LUT or window, then the inversion of MONOCHROME1: the grayscale
pipeline of DICOM PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2. Only the elements named in `_ELEMENTS` are parsed, so that
the patient's are never turned into values. Non-square pixels are left as they are.

Letters: H rows, W columns.
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
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from xr2text.imaging.read import (
    MAX_BYTES,
    ImageError,
    Radiograph,
    array_to_unit,
    check_size,
    damaged,
    not_an_image,
    several_pictures,
    stretch,
    to_unit,
)

RADIOGRAPHY = {"CR", "DX", "DR", "RG", "XR"}
"""Accepted modalities. DR and XR are no codes of the standard, but devices write them."""
UNSPECIFIC = {"OT", "SC"}
"""Accepted too: secondary captures, such as scanned films, that do not say what they show."""

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
_OTHER_BODY_PARTS = {
    "ABD": "abdomen", "ABDOMEN": "abdomen", "KUB": "abdomen", "ANKLE": "ankle", "ARM": "arm", "BLADDER": "bladder",
    "BRAIN": "brain", "BREAST": "breast", "CALCANEUS": "heel", "HEEL": "heel", "CLAVICLE": "clavicle",
    "COCCYX": "coccyx", "COLON": "colon", "EAR": "ear", "ELBOW": "elbow", "ESOPHAGUS": "oesophagus",
    "EXTREMITY": "extremity", "EYE": "eye", "ORBIT": "orbit", "FACE": "face", "FACIAL": "face", "ZYGOMA": "face",
    "FEMUR": "femur", "FINGER": "finger", "FOOT": "foot", "FEET": "foot", "FOREARM": "forearm", "HAND": "hand",
    "HEAD": "head", "HIP": "hip", "HUMERUS": "humerus", "JAW": "jaw", "MANDIBLE": "mandible", "MAXILLA": "maxilla",
    "KIDNEY": "kidney", "KNEE": "knee", "LEG": "leg", "LIVER": "liver", "NECK": "neck", "NOSE": "nose",
    "NASAL": "nose", "PATELLA": "patella", "PELVIS": "pelvis", "RADIUS": "radius", "RIB": "ribs", "SACRUM": "sacrum",
    "SCAPULA": "scapula", "SHOULDER": "shoulder", "SINUS": "sinuses", "SINUSES": "sinuses", "SKULL": "skull",
    "STERNUM": "sternum", "STOMACH": "stomach", "TEETH": "teeth", "TOOTH": "teeth", "THIGH": "thigh",
    "THUMB": "thumb", "TIBIA": "tibia", "TOE": "toe", "ULNA": "ulna", "WRIST": "wrist", "SPINE": "spine",
    "CSPINE": "cervical spine", "TSPINE": "thoracic spine", "LSPINE": "lumbar spine", "LSSPINE": "lumbar spine",
    "SSPINE": "sacral spine", "TLSPINE": "thoracolumbar spine",
}  # fmt: skip

_LATERAL = {"LL", "RL", "LLD", "RLD", "LAT", "LLAT", "RLAT", "LATERAL"}

_ELEMENTS = [
    "SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "NumberOfFrames",
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

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")

_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "openjpeg._openjpeg", "openjpeg.utils")
_QUIET = threading.Lock()


def read_dicom(data: bytes) -> Radiograph:
    """Read a DICOM object with or without preamble, file meta information and transfer syntax.

    Accepted: one frame of 8 to 16 bits, grey or RGB or YBR, of the modalities in `RADIOGRAPHY` and `UNSPECIFIC` or
    of none, whose body part is the chest, is not given, or is a word that is not known (its content is judged later).

    How values become [0, 1], after the modality LUT or rescale:
    - VOI LUT sequence: the first table, by its bits (PS3.3 C.11.2.1.1);
    - else the first window: LINEAR, LINEAR_EXACT or SIGMOID (C.11.2.1.2, C.11.2.1.3), unless it would leave the
      picture blank;
    - else up to 8 stored bits and no modality LUT: divided by the largest value, as in a PNG;
    - else stretched by percentiles. Pixel padding (C.7.5.1.1.2) has no say in them and becomes black.

    Raises:
        ImageError: not DICOM, damaged, too large, too small, several frames, no picture, or not a chest radiograph.
    """
    bare = data[128:132] != b"DICM"
    with _quietly():
        try:
            dataset = dcmread(BytesIO(_inflate(data)), force=bare, specific_tags=_ELEMENTS)
            parsed = _names_an_object(dataset)
        except ImageError:
            raise
        except _DICOM_ERRORS:
            parsed = False
        if not parsed:
            raise not_an_image() if bare else damaged("DICOM")
        try:
            modality = _check_modality(dataset)
            body_part = _check_body_part(dataset)
            _check_frame(dataset)
            return Radiograph(_pixels(dataset), "DICOM", modality, body_part, _view(dataset))
        except ImageError:
            raise
        except _DICOM_ERRORS:
            raise damaged("DICOM") from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence pydicom, whose warnings quote the values of elements.

    Warning filters belong to the whole process, hence the lock: DICOM objects are read one at a time per process.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled = [logger.disabled for logger in loggers]
        try:
            for logger in loggers:
                logger.disabled = True
            yield
        finally:
            for logger, was in zip(loggers, disabled, strict=True):
                logger.disabled = was


def _inflate(data: bytes) -> bytes:
    """Undo a deflated transfer syntax (PS3.5 A.5) within `MAX_BYTES`; pydicom would inflate without a bound."""
    if _DEFLATED not in data:
        return data
    syntax, end = _meta(data)
    head, body = data[:end], data[end:]
    if syntax == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        body = inflater.decompress(body, MAX_BYTES)
        if inflater.unconsumed_tail:
            raise ImageError(
                f"The DICOM file unpacks to more than {MAX_BYTES // 2**20} MiB, the largest that is accepted."
            )
        if not inflater.eof:
            raise damaged("DICOM")
    plain = str(ExplicitVRLittleEndian).encode().ljust(len(_DEFLATED), b"\0")
    return head.replace(_DEFLATED, plain) + body.replace(_DEFLATED, plain)


def _meta(data: bytes) -> tuple[bytes, int]:
    """The transfer syntax named in the file meta information (group 0002, PS3.10 7.1) and where that group ends."""
    at = 132 if data[128:132] == b"DICM" else 0
    syntax = b""
    while data[at : at + 2] == b"\x02\0" and at + 12 <= len(data):
        long = data[at + 4 : at + 6] in _LONG_VRS
        start = at + (12 if long else 8)
        length = struct.unpack_from("<I", data, at + 8)[0] if long else struct.unpack_from("<H", data, at + 6)[0]
        if data[at + 2 : at + 4] == b"\x10\0":
            syntax = data[start : start + length].rstrip(b"\0 ")
        at = start + length
    return syntax, at


def _names_an_object(dataset: Dataset) -> bool:
    """Whether parsing gave what every DICOM object has; almost any bytes "parse" when it is forced.

    Of a file that ends within an element pydicom keeps nothing but the meta information.
    """
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return True
    return str(dataset.get("SOPClassUID") or "").startswith("1.2.840.10008.") or "Rows" in dataset


def _check_modality(dataset: Dataset) -> str | None:
    modality = str(dataset.get("Modality") or "").strip().upper()
    if not modality:
        # "CT Image Storage", "Enhanced MR Image Storage", "Ultrasound Image Storage" ...
        words = UID(str(dataset.get("SOPClassUID") or "")).name.upper().split()
        words = ["US" if word == "ULTRASOUND" else word for word in words]
        other = next((word for word in words if word in ("CT", "MR", "US", "PET", "XA")), "")
        other = {"PET": "PT"}.get(other, other)
        if other:
            raise ImageError(f"This is {_OTHER_MODALITIES[other]}; {_WANTED}.")
        return None
    if modality in RADIOGRAPHY | UNSPECIFIC:
        return modality
    raise ImageError(f"This is {_OTHER_MODALITIES.get(modality, 'a DICOM object of another modality')}; {_WANTED}.")


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
        if "PixelData" in dataset or "Image Storage" in UID(str(dataset.get("SOPClassUID") or "")).name:
            raise damaged("DICOM")
        raise ImageError("This DICOM file holds no picture; please choose the radiograph itself.")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise several_pictures("DICOM")
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


def _pixels(dataset: Dataset) -> np.ndarray:
    """Decode and present: float32 [H, W] in [0, 1], dense tissue bright."""
    stored = _stored_values(dataset)
    if stored.ndim == 3:
        return array_to_unit(stored)
    padding = _padding(dataset, stored)
    values, changed = _modality_lut(dataset, stored.astype(np.float32))
    unit = _voi_lut(dataset, values)
    if unit is None and dataset.BitsStored <= 8 and not changed and not dataset.PixelRepresentation:
        unit = to_unit(values, 2.0**dataset.BitsStored - 1)
    if unit is None:
        unit = stretch(values, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    if padding is not None:
        unit[padding] = 0
    return unit


def _stored_values(dataset: Dataset) -> np.ndarray:
    """Integers [H, W], or uint8/uint16 [H, W, 3] RGB."""
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        raise ImageError("This DICOM image has a colour palette, which is not accepted; please export it in grey.")
    meta = dataset.file_meta
    if not meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = meta.TransferSyntaxUID
    if syntax == RLELossless:
        # pylibjpeg-rle, if it is installed, ends the program on some damaged streams.
        return pixel_array(dataset, decoding_plugin="pydicom")
    if syntax.is_encapsulated:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        # The decoder allocates what the code stream declares, whatever the header says.
        if _coded_size(frame) != (dataset.Columns, dataset.Rows):
            raise damaged("DICOM")
    return pixel_array(dataset)


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG, JPEG-LS (ITU-T T.81 B.2.2, T.87) or JPEG 2000 (T.800 A.5.1) stream."""
    siz = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if siz >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, siz + 8)
        return right - left, bottom - top
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">2H", frame, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """bool [H, W]: stored values that mean "no picture here"; None if there are none, or nothing else."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None


def _modality_lut(dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, bool]:
    """PS3.3 C.11.1: the table, or slope and intercept. Returns the values and whether they were changed."""
    table = _table(dataset, "ModalityLUTSequence")
    if table is not None:
        return _look_up(table, values), True
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if not slope or intercept is None or (slope, intercept) == (1, 0):
        return values, False
    return values * np.float32(slope) + np.float32(intercept), True


def _voi_lut(dataset: Dataset, values: np.ndarray) -> np.ndarray | None:
    """PS3.3 C.11.2: the first table or else the first window -> [0, 1]; None where neither helps.

    pydicom's own functions work in float64 and wrap tables of 8 bits with more than 256 entries.
    """
    table = _table(dataset, "VOILUTSequence")
    if table is not None:
        return to_unit(_look_up(table, values), 2.0 ** table[2] - 1)
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if function == "SIGMOID":
        unit = 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(centre)) / np.float32(width), -50, 50)))
    else:
        if function == "LINEAR":
            centre, width = centre - 0.5, max(width - 1, 1e-3)
        unit = np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)
    return unit if np.ptp(unit) > 0 or np.ptp(values) == 0 else None


def _table(dataset: Dataset, sequence: str) -> tuple[np.ndarray, int, int] | None:
    """The first item's entries [N], the value that the first entry stands for, and its bits; None if there is none."""
    items = dataset.get(sequence)
    if not items or "LUTDescriptor" not in items[0] or "LUTData" not in items[0]:
        return None
    count, first, bits = items[0].LUTDescriptor
    count = count or 2**16
    entries = items[0].LUTData
    if isinstance(entries, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        entries = np.frombuffer(entries, dtype=np.uint8 if len(entries) < 2 * count else f"{order}u2")
    entries = np.atleast_1d(np.asarray(entries, dtype=np.float32))[:count]
    if first >= 2**15 and dataset.PixelRepresentation:  # a signed value read as unsigned
        first -= 2**16
    return entries, first, bits


def _look_up(table: tuple[np.ndarray, int, int], values: np.ndarray) -> np.ndarray:
    entries, first, _ = table
    return entries[np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.int32)]


def _number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of an element as a finite number; None where it is absent or cannot be read."""
    try:
        value = dataset.get(keyword)
        value = value[0] if isinstance(value, list) or hasattr(value, "append") else value
        number = float(value)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return None
    return number if np.isfinite(number) else None
