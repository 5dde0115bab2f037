"""One reader of radiographs for training, evaluation, the command line and the page.

The format is detected from the content, never from the name. Whatever the bytes are, the answer is a `Radiograph` or an
`ImageError` whose text can be shown to the person who chose the file.

Shapes: H rows, W columns.
"""

import os
import stat
import struct
import zlib
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageOps

from xr2text.imaging.radiograph import (
    ACCEPTED,
    MAX_BYTES,
    MAX_PIXELS,
    ImageError,
    Radiograph,
    array_to_unit,
    check_size,
    damaged,
    not_an_image,
    several_images,
)

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
# Group 0002 or 0008, little or big endian: how a data set without preamble begins.
_BARE_DICOM = (b"\x02\0", b"\0\x02", b"\x08\0", b"\0\x08")

# What Pillow and the libraries under it raise on damaged data; a Warning where a program turns warnings into errors.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError,
    RuntimeError, Warning, struct.error, zlib.error,
)  # fmt: skip

_TIFF_PHOTOMETRIC, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 262, 322, 323
# An entry of a big-endian TIFF directory: photometric interpretation, one SHORT, 0 (min is white) or 1 (min is black).
_MIN_IS_WHITE, _MIN_IS_BLACK = b"\1\6\0\3\0\0\0\1\0\0\0\0", b"\1\6\0\3\0\0\0\1\0\1\0\0"


def read_radiograph(source: str | os.PathLike | bytes | BinaryIO) -> Radiograph:
    """Reads a radiograph.

    How values become [0, 1]:
    - 8 bits and fewer: divided by the largest value.
    - 16 bits: divided by 65535 where the values use the range (99.9th percentile above the middle). Otherwise, as
      with 10, 12 or 14 bits in a 16-bit container, scaled so that the 0.1th and 99.9th percentiles become 0 and 1.
    - floats already in [0, 1] stay; other floats and 32-bit integers are scaled by percentiles too.
    - DICOM: by its own tables and windows, see `xr2text.imaging.dicom`.
    Colour becomes luminance (BT.601), transparency is laid over black, a min-is-white TIFF is inverted and an EXIF
    orientation is applied. Pillow reads 16-bit colour PNG and TIFF files at 8 bits.

    Args:
        source: a path, the bytes of a file, or a binary stream, which is read from where it stands.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, too small, of another format, of several frames,
            or a DICOM object that is not a chest radiograph.
    """
    data = read_content(source)
    if not data:
        raise ImageError(f"The file is empty (0 bytes); please choose a {ACCEPTED} image.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file is larger than {MAX_BYTES // 2**20} MiB, the largest that is accepted.")
    if data[128:132] == b"DICM" or data[:2] in _BARE_DICOM:
        # Loaded here so that a training run over PNG and JPEG files does not need pydicom.
        from xr2text.imaging.dicom import read_dicom

        return read_dicom(data)
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return _read_raster(data, name)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_raster(data, "WebP")
    raise not_an_image()


def radiograph_from_array(array: np.ndarray | Image.Image) -> Radiograph:
    """Makes a radiograph of pixels that are already in memory, by the rules of `read_radiograph`.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA) of bool, integers or floats, or a Pillow image.
            Floats are best given in [0, 1]; others are scaled by percentiles.

    Raises:
        ImageError: another shape or type, a value that is not finite, or a size out of bounds.
    """
    if isinstance(array, Image.Image):
        try:
            return Radiograph(_decode(array, "image"), "array")
        except ImageError:
            raise
        except _PILLOW_ERRORS:
            raise ImageError("The image is damaged or of a kind that is not accepted.") from None
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ImageError(f"Pixel values must be integers or floats, not {array.dtype.name}.")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"An image must have the shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], not {array.shape}.")
    check_size(array.shape[1], array.shape[0])
    return Radiograph(array_to_unit(array), "array")


def read_content(source: str | os.PathLike | bytes | BinaryIO) -> bytes:
    """The bytes of a file, at most MAX_BYTES and one. Raises ImageError where it cannot be read."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | os.PathLike):
        data = source.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise TypeError("read_radiograph needs a stream opened in binary mode")
        return data
    try:
        mode = os.stat(source).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError("This is a folder, not a file; please choose one image file.")
        if not stat.S_ISREG(mode):
            raise ImageError("This is not an ordinary file; please choose one image file.")
        with open(source, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError("The file does not exist; please choose it again.") from None
    except PermissionError:
        raise ImageError("The file may not be read: permission is denied.") from None
    except ImageError:
        raise
    except (OSError, ValueError):  # a broken disk or link; a path that no file system can hold
        raise ImageError("The file cannot be opened; please choose it again.") from None


def _read_raster(data: bytes, name: str) -> Radiograph:
    try:
        with Image.open(BytesIO(data), formats=[name]) as image:
            return Radiograph(_decode(image, name), name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"The image declares too many pixels; at most {MAX_PIXELS // 10**6} million are accepted."
        ) from None
    except Image.UnidentifiedImageError:
        if name == "TIFF" and _MIN_IS_WHITE in data:
            # Pillow knows min-is-white data of 16 bits in little endian alone.
            negative = _read_raster(data.replace(_MIN_IS_WHITE, _MIN_IS_BLACK), name)
            return replace(negative, pixels=1 - negative.pixels)
        # Two letters are a weak signature: many a text begins with "BM".
        raise (not_an_image() if name == "BMP" else damaged(name)) from None
    except _PILLOW_ERRORS:
        raise damaged(name) from None


def _decode(image: Image.Image, name: str) -> np.ndarray:
    """A Pillow image, opened but not yet decoded -> float32 [H, W] in [0, 1]. `name` is for refusals."""
    check_size(*image.size)
    # A phone's JPEG may carry a preview (MPO); the first image is the photograph.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise several_images(name)
    inverted = False
    if image.format == "TIFF":
        tile = image.tag_v2.get(_TIFF_TILE_WIDTH, 0) * image.tag_v2.get(_TIFF_TILE_LENGTH, 0)
        if tile > MAX_PIXELS:
            raise damaged(name)
        # Pillow inverts min-is-white data of up to 8 bits itself.
        inverted = image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0 and image.mode not in ("1", "L")
    image.load()
    unit = array_to_unit(np.asarray(_band(_upright(image))))
    return 1 - unit if inverted else unit


def _upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation; as it is where the EXIF block itself is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except _PILLOW_ERRORS:
        return image


def _band(image: Image.Image) -> Image.Image:
    """One band: luminance over black, in 8 bits, 16 bits ("I;16"), 32-bit integers ("I") or floats ("F")."""
    if image.mode in ("L", "1", "F") and not image.has_transparency_data:
        return image.convert("L") if image.mode == "1" else image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return ImageChops.multiply(image.convert("RGB").convert("L"), image.getchannel("A"))
    return image.convert("RGB").convert("L")
