"""One reader of radiographs for training, evaluation, the command line and the page.

The format is detected from the content, never from the name. Whatever the bytes are, the answer is a `Radiograph` or an
`ImageError` whose text can be shown to the person who chose the file.

Shapes: H rows, W columns.
"""

import os
import stat
import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import ImageFileDirectory_v2

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

_PNG_DEPTH, _PNG_COLOURS = 24, 25  # offsets in a PNG's header: bit depth and colour type


def read_radiograph(source: str | os.PathLike | bytes) -> Radiograph:
    """Reads a radiograph.

    How values become [0, 1]:
    - 8 bits and fewer: divided by the largest value.
    - 16 bits: divided by 65535 where the values use the range (99.9th percentile above the middle). Otherwise, as
      with 10, 12 or 14 bits in a 16-bit container, scaled so that the 0.1th and 99.9th percentiles become 0 and 1.
    - floats already in [0, 1] stay; other floats and 32-bit integers are scaled by percentiles too.
    - DICOM: by its own tables and windows, see `xr2text.imaging.dicom`.
    Colour becomes luminance (BT.601), transparency is laid over black unless all would vanish, a min-is-white TIFF is
    inverted and an EXIF orientation is applied.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        ImageError: the file is missing, empty, damaged, too large, too small, of another format, of several frames,
            or a DICOM object without an image. See `Radiograph.contradiction` for what its header says it is.
    """
    data = read_content(source)
    if not data:
        raise ImageError(f"The file is empty (0 bytes); please choose a {ACCEPTED} image.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file is larger than {MAX_BYTES // 2**20} MiB, the largest that is accepted.")
    if data[128:132] == b"DICM" or data[:2] in _BARE_DICOM:
        # Imported here, so that training on PNG and JPEG files does not need pydicom.
        from xr2text.imaging.dicom import read_dicom

        return read_dicom(data)
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return _read_raster(data, name)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_raster(data, "WebP")
    raise not_an_image()


def read_chest_radiograph(source: str | os.PathLike | bytes) -> Radiograph:
    """`read_radiograph` for callers where nobody can overrule a header: a `Radiograph.contradiction` is raised as
    ImageError."""
    radiograph = read_radiograph(source)
    if radiograph.contradiction:
        raise ImageError(radiograph.contradiction)
    return radiograph


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


def read_content(source: str | os.PathLike | bytes) -> bytes:
    """The bytes of a file, at most MAX_BYTES and one. Raises ImageError where it cannot be read."""
    if isinstance(source, bytes):
        return source
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
            return Radiograph(_decode(image, name, data), name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"The image declares too many pixels; at most {MAX_PIXELS // 10**6} million are accepted."
        ) from None
    except Image.UnidentifiedImageError:
        if name == "TIFF":
            return Radiograph(_unusual_tiff(data), name)
        # "BM" alone is a weak signature: a text may begin with it.
        raise (not_an_image() if name == "BMP" else damaged(name)) from None
    except _PILLOW_ERRORS:
        raise damaged(name) from None


def _decode(image: Image.Image, name: str, data: bytes = b"") -> np.ndarray:
    """A Pillow image, opened but not yet decoded -> float32 [H, W] in [0, 1].

    Args:
        name: of the format, for refusals.
        data: the file.
    """
    check_size(*image.size)
    # A phone's JPEG may carry a preview (MPO); the first image is the photograph.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise several_images(name)
    inverted, bits = False, (8,)
    if image.format == "TIFF":
        _check_tiles(image.tag_v2)
        bits = image.tag_v2.get(Tag.BitsPerSample, bits)
        # Pillow inverts min-is-white data of up to 8 bits itself.
        inverted = image.tag_v2.get(Tag.PhotometricInterpretation) == 0 and image.mode not in ("1", "L")
    elif image.format == "PNG" and data[_PNG_COLOURS] in (2, 4, 6):
        bits = (data[_PNG_DEPTH],)
    image.load()
    if data and max(bits) == 16 and image.mode in ("RGB", "RGBA"):  # Pillow has these at 8 bits
        grey = Image.fromarray(array_to_unit(_opencv_array(data, name)))
        grey.getexif()[Tag.Orientation] = image.getexif().get(Tag.Orientation, 1)
        return np.asarray(_upright(grey))
    values = np.asarray(_bands(_upright(image)))
    if max(bits) == 32 and image.tag_v2.get(Tag.SampleFormat, (1,))[0] == 1:
        values = values.view(np.uint32)  # Pillow has these as signed
    unit = array_to_unit(values)
    return 1 - unit if inverted else unit


def _unusual_tiff(data: bytes) -> np.ndarray:
    """A TIFF of a kind that Pillow does not know, as grey of 16 bits with min-is-white in big-endian order."""
    try:
        file, tags = BytesIO(data), ImageFileDirectory_v2(data[:8])
        file.seek(tags.next)
        tags.load(file)
        check_size(tags[Tag.ImageWidth], tags[Tag.ImageLength])
        _check_tiles(tags)
        if tags.next:
            raise several_images("TIFF")
        unit = array_to_unit(_opencv_array(data, "TIFF"))
        return 1 - unit if tags.get(Tag.PhotometricInterpretation) == 0 else unit
    except ImageError:
        raise
    except _PILLOW_ERRORS:
        raise damaged("TIFF") from None


def _check_tiles(tags: ImageFileDirectory_v2) -> None:
    """Raises an ImageError for tiles that are larger than any image: a decoder allocates what they declare."""
    if tags.get(Tag.TileWidth, 0) * tags.get(Tag.TileLength, 0) > MAX_PIXELS:
        raise damaged("TIFF")


def _opencv_array(data: bytes, name: str) -> np.ndarray:
    """An image as OpenCV decodes it, at its full depth: [H, W], or [H, W, 3 or 4] in the order RGBA."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise damaged(name)
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def _upright(image: Image.Image) -> Image.Image:
    """Turns the image by its EXIF orientation; unchanged where the EXIF block is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except _PILLOW_ERRORS:
        return image


def _bands(image: Image.Image) -> Image.Image:
    """Converts to one band of 8 bits, 16 bits ("I;16"), 32-bit integers ("I") or floats ("F"); to RGBA where it is
    transparent."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "F") else image.convert("L" if image.mode == "1" else "RGB").convert("L")
