"""The `Radiograph`, the limits on its size, and how pixel values become [0, 1].

Shapes: H rows, W columns.
"""

from dataclasses import dataclass, field

import numpy as np

from xr2text.errors import XR2TextError

MAX_BYTES = 200 * 2**20
"""Largest file, and largest inflated DICOM data set, in bytes."""
MAX_PIXELS = 50_000_000
"""Largest image in pixels. The finest flat panels and plates give about 20 million."""
MIN_SIDE = 64
"""Shortest side in pixels that can still be a radiograph."""
MAX_ASPECT = 4
"""Longest side over shortest: a chest radiograph has less than 2."""
PERCENTILES = (0.1, 99.9)
"""The values that become 0 and 1 where the container's range says nothing."""

ACCEPTED = "PNG, JPEG, TIFF, WebP, BMP or DICOM"

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG and Pillow


class ImageError(XR2TextError, ValueError):
    """A file that is not accepted. The message is one plain sentence without file names or patient identity."""


def not_an_image() -> ImageError:
    return ImageError(f"This file is not an accepted image; please choose a {ACCEPTED} file.")


def several_images(name: str) -> ImageError:
    return ImageError(f"This {name} file holds several images; please choose a file with one radiograph.")


def damaged(name: str) -> ImageError:
    return ImageError(f"This {name} file is damaged, incomplete or of an unsupported kind; please export it again.")


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A radiograph ready for the model's transform. It keeps nothing that identifies the patient.

    Attributes:
        pixels: float32 [H, W] in [0, 1], dense tissue bright (the sense of DICOM's MONOCHROME2).
        source: "PNG", "JPEG", "TIFF", "WebP", "BMP", "DICOM", "array" or "phantom".
        view: "PA", "AP", "lateral" or None.
        child: the file says that the patient was younger than 16 years; the age itself is not kept.
        contradiction: a sentence where the header says that this is no chest radiograph. The pixels may still be one's.
        notes: what was done to the pixels where the file contradicts itself, a sentence each for the reader.
    """

    pixels: np.ndarray = field(repr=False)
    source: str
    view: str | None = None
    child: bool = field(default=False, repr=False)
    contradiction: str = ""
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]


def check_size(width: int, height: int) -> None:
    """Raises an ImageError for an image that is too large, too small, or too long and thin."""
    size = f"The image is {width} × {height} pixels"
    if width * height > MAX_PIXELS:
        raise ImageError(f"{size}; at most {MAX_PIXELS // 10**6} million pixels are accepted.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{size}, too small for a radiograph; each side must have at least {MIN_SIDE} pixels.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{size}, too long and thin for a radiograph; one side may be at most {MAX_ASPECT} times the other."
        )


def array_to_unit(array: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, 1, 3 or 4] of any real type -> luminance, float32 [H, W] in [0, 1].

    A fourth channel is alpha, laid over black. One that is 0 everywhere was not meant, and is ignored.

    Raises:
        ImageError: a value that is not finite.
    """
    full = {"b": 1.0, "u": 2.0 ** (8 * array.itemsize) - 1}.get(array.dtype.kind)
    values = array.astype(np.float32)
    if values.ndim == 3:
        alpha = values[..., 3] / (full or 1.0) if values.shape[2] == 4 and values[..., 3].any() else 1
        values = (values[..., 0] if values.shape[2] == 1 else values[..., :3] @ _LUMA) * alpha
    if not np.isfinite(values).all():
        raise ImageError("The image holds values that are not numbers (NaN or infinite).")
    if array.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return values
    return to_unit(values, full)


def to_unit(values: np.ndarray, full: float | None) -> np.ndarray:
    """Scales float32 [H, W] to [0, 1]: by `full`, the container's largest value, where the image uses its range; else
    by percentiles.

    Containers of up to 8 bits are always taken at their word: such images are made to be looked at.
    """
    if full and (full <= 255 or np.percentile(sample(values), PERCENTILES[1]) > full / 2):
        return np.clip(values / np.float32(full), 0, 1)
    return percentile_normalize(values)


def percentile_normalize(values: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
    """Scales float32 [H, W] so that `PERCENTILES` become 0 and 1; a blank image becomes 0.

    Args:
        padding: bool [H, W], pixels outside the image that have no say in the percentiles.
    """
    inside = sample(values, padding)
    low, high = np.percentile(inside, PERCENTILES)
    if high <= low:  # nearly all pixels are alike
        low, high = float(inside.min()), float(inside.max())
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)


def sample(values: np.ndarray, padding: np.ndarray | None = None) -> np.ndarray:
    """At most about a million evenly spaced pixels; percentiles of all pixels would cost more than the decoding.

    Args:
        padding: bool [H, W], pixels that are left out, unless nothing would be left.
    """
    step = max(1, int(np.ceil(np.sqrt(values.size / 1e6))))
    pixels = values[::step, ::step]
    inside = pixels if padding is None else pixels[~padding[::step, ::step]]
    return inside if inside.size else pixels
