"""A DICOM object's stored values -> the image that it presents.

Stored values pass the modality LUT, then the VOI LUT or window, then the inversion of MONOCHROME1: the grayscale
pipeline of DICOM PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2. Non-square pixels are left as they are.

Shapes: H rows, W columns, N entries of a table.
"""

import struct

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from xr2text.imaging.radiograph import ImageError, array_to_unit, damaged, percentile_normalize, to_unit


def presented_pixels(dataset: Dataset) -> np.ndarray:
    """Decode and present a data set's image: float32 [H, W] in [0, 1], dense tissue bright.

    How values become [0, 1] stands at `xr2text.imaging.dicom.read_dicom`.

    Raises:
        ImageError: a colour palette, or a coded frame of another size than the header says. Damaged data raises
            whatever pydicom and its decoders raise.
    """
    stored = _stored_values(dataset)
    if stored.ndim == 3:
        return array_to_unit(stored)
    padding = _padding(dataset, stored)
    values, changed = _modality_lut(dataset, stored.astype(np.float32))
    unit = _voi_lut(dataset, values)
    if unit is None and dataset.BitsStored <= 8 and not changed and not dataset.PixelRepresentation:
        unit = to_unit(values, 2.0**dataset.BitsStored - 1)
    if unit is None:
        unit = percentile_normalize(values, padding)
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
    """bool [H, W]: stored values that mean "no image here"; None if there are none, or nothing else."""
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
