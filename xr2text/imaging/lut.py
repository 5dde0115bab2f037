"""A DICOM object's stored values -> the image that it presents.

Stored values pass the modality LUT, then the VOI LUT or window, then the inversion of MONOCHROME1: the grayscale
pipeline of DICOM PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2. Non-square pixels are left as they are.

Shapes: H rows, W columns, N entries of a table.
"""

import numpy as np
from pydicom import Dataset

from xr2text.imaging.radiograph import PERCENTILES, array_to_unit, percentile_normalize, sample, to_unit
from xr2text.imaging.stored import stored_values

MAX_SATURATED = 0.6  # fraction of pixels that a window may make black or white; real windows stay below 0.5
MIN_CONTRAST = 0.1  # contrast that a window must leave between dark and bright pixels, in [0, 1]

UNTRUE_TABLE = (
    "The file's table of grey values (VOI LUT) has another range than it says; it was scaled by its largest value."
)


def presented_pixels(dataset: Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes and presents a data set's image.

    Returns:
        float32 [H, W] in [0, 1], dense tissue bright; how values become that stands at
        `xr2text.imaging.dicom.read_dicom`. Then what a reader should know of it, see `Radiograph.notes`.

    Raises:
        ImageError and others: see `stored_values`.
    """
    stored, note = stored_values(dataset)
    notes = (note,) if note else ()
    if stored.ndim == 3:
        return array_to_unit(stored), notes
    padding = _padding(dataset, stored)
    values, changed = _modality_lut(dataset, stored.astype(np.float32))
    unit, more = _voi_lut(dataset, values, padding)
    if unit is None and dataset.BitsStored <= 8 and not changed and not dataset.PixelRepresentation:
        unit = to_unit(values, 2.0**dataset.BitsStored - 1)
    if unit is None:
        unit = percentile_normalize(values, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    if padding is not None:
        unit[padding] = 0
    return unit, (*notes, *more)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """bool [H, W], stored values that mark padding; None if there are none, or if the whole image would be padding."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None


def _modality_lut(dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, bool]:
    """PS3.3 C.11.1: applies the table, or slope and intercept. Returns the values and whether they were changed."""
    table = _table(dataset, "ModalityLUTSequence")
    if table is not None:
        return _look_up(table, values), True
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if not slope or intercept is None or (slope, intercept) == (1, 0):
        return values, False
    return values * np.float32(slope) + np.float32(intercept), True


def _voi_lut(
    dataset: Dataset, values: np.ndarray, padding: np.ndarray | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """PS3.3 C.11.2: applies the first table, else the first window. Returns values in [0, 1], or None where neither
    fits, and notes.

    pydicom's own functions work in float64 and wrap tables of 8 bits with more than 256 entries.
    """
    notes: tuple[str, ...] = ()
    table = _table(dataset, "VOILUTSequence")
    if table is not None:
        says, largest = 2.0 ** table[2] - 1, float(table[0].max())
        untrue = not says / 2 < largest <= says
        unit = to_unit(_look_up(table, values), largest if untrue else says)
        if fits(unit, values, padding):
            return unit, (UNTRUE_TABLE,) if untrue else ()
        notes = (_passed_over("table of grey values (VOI LUT)"),)
    unit = _window(dataset, values)
    if unit is not None and not fits(unit, values, padding):
        unit, notes = None, (*notes, _passed_over("window"))
    return unit, notes


def _passed_over(what: str) -> str:
    return f"The file's {what} does not fit its pixels and was passed over."


def fits(unit: np.ndarray, values: np.ndarray, padding: np.ndarray | None = None) -> bool:
    """Whether a presentation leaves enough contrast to see.

    It does not where more than `MAX_SATURATED` of the pixels within the `PERCENTILES` become black or white, or where
    these percentiles come nearer to one another than `MIN_CONTRAST`.

    Args:
        unit: [H, W], `values` as they are presented, in [0, 1].
        padding: bool [H, W], pixels outside the image.
    """
    unit, values = sample(unit, padding), sample(values, padding)
    low, high = np.percentile(values, PERCENTILES)
    within = unit[(values > low) & (values < high)]
    if not within.size:
        return np.ptp(unit) > 0 or np.ptp(values) == 0
    saturated = np.mean((within < 1 / 512) | (within > 511 / 512))  # black or white on a screen
    return saturated <= MAX_SATURATED and np.ptp(np.percentile(within, PERCENTILES)) >= MIN_CONTRAST


def _window(dataset: Dataset, values: np.ndarray) -> np.ndarray | None:
    """Applies the first window: values in [0, 1], or None where there is no usable window."""
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(centre)) / np.float32(width), -50, 50)))
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 1e-3)
    return np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)


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
