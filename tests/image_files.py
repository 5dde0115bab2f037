"""Images for tests, the files that hold them, and how a reading is compared with what is expected."""

import io
import struct
import zlib

import numpy as np
import pytest
from dicom_files import IDENTITY
from PIL import Image

from xr2text.imaging.radiograph import PERCENTILES, ImageError, Radiograph
from xr2text.imaging.read import read_radiograph

H, W = 72, 80
Y, X = np.mgrid[:H, :W]
WAVES = (np.sin(X / 9) + np.cos(Y / 7) + 2) / 4  # smooth, in [0, 1], alike in no two corners
GREY8 = (WAVES * 255).astype(np.uint8)
GREY12 = (WAVES * 4095).astype(np.uint16)
GREY16 = (WAVES * 65535).astype(np.uint16)
RGB = np.stack([GREY8, GREY8[::-1], GREY8[:, ::-1]], axis=-1)
LUMA = RGB @ np.array([0.299, 0.587, 0.114])
DAMAGED = "damaged, incomplete or of an unsupported kind"


def saved(array, file_format, mode=None, **options) -> bytes:
    out = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, file_format, **options)
    return out.getvalue()


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A black PNG that declares a size, with further chunks (four letters and a body)."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    extras = [chunk(part[:4], part[4:]) for part in extra]
    rows = zlib.compress(bytes((min(width, 100) + 1) * min(height, 100)))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *extras, chunk(b"IDAT", rows), chunk(b"IEND", b"")])


def tiff(values: np.ndarray, photometric: int, order: str = "<", sample_format: int = 1) -> bytes:
    """An uncompressed TIFF of one strip, [H, W]."""
    stored = values.dtype.newbyteorder(order)
    body = values.astype(stored).tobytes()
    tags = [
        (256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, stored.itemsize * 8), (259, 3, 1),
        (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, values.shape[0]), (279, 4, len(body)),
        (339, 3, sample_format),
    ]  # fmt: skip
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body)) + body
    out += struct.pack(f"{order}H", len(tags))
    for tag, field, value in tags:
        out += struct.pack(f"{order}HHI", tag, field, 1)
        out += struct.pack(f"{order}HH", value, 0) if field == 3 else struct.pack(f"{order}I", value)
    return out + bytes(4)


def normalized(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), PERCENTILES)
    return np.clip((values - low) / (high - low), 0, 1)


def assert_pixels(radiograph: Radiograph, expected, atol=1e-5):
    assert radiograph.pixels.dtype == np.float32
    assert radiograph.pixels.min() >= 0 and radiograph.pixels.max() <= 1
    assert (radiograph.height, radiograph.width) == expected.shape
    np.testing.assert_allclose(radiograph.pixels, expected, atol=atol)


def refusal(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_radiograph(source)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    assert not any(word in sentence for word in IDENTITY)
    return sentence


def spoiled_copies(data: bytes, rng: np.random.Generator, count: int) -> list[bytes]:
    """Half of them cut short, half with a few wrong bytes, more of them near the beginning."""
    copies = [data[:end] for end in rng.integers(0, len(data), count // 2)]
    for number in range(count - count // 2):
        spoiled = bytearray(data)
        for at in rng.integers(0, len(data) if number % 2 else min(900, len(data)), rng.integers(1, 9)):
            spoiled[at] = rng.integers(0, 256)
        copies.append(bytes(spoiled))
    return copies


def readable(data: bytes) -> bool:
    """Whether the bytes are read; anything but a radiograph or an ImageError fails the test."""
    try:
        radiograph = read_radiograph(data)
    except ImageError:
        return False
    assert radiograph.pixels.dtype == np.float32 and np.isfinite(radiograph.pixels).all()
    return True
