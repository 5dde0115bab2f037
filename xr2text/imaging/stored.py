"""A DICOM object's Pixel Data element -> stored values, decoded by pydicom (DICOM PS3.5, 8 and Annex A.4).

The element is read here, since pydicom gives up a whole object whose compressed data lacks its closing delimiter.

Shapes: H rows, W columns.
"""

import struct
from typing import BinaryIO

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from xr2text.imaging.radiograph import ImageError, damaged, several_images

MARKS = "The file has marks in bits of its pixels that are no part of the image; they are not shown."
MORE_BITS = "The file's pixels have more bits than it says (Bits Stored); all of them were used."

_PIXEL_DATA, _UNDEFINED = (0x7FE0, 0x0010), 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_CODE_STREAMS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # how JPEG and JPEG-LS, and JPEG 2000 begin


def read_pixel_data(file: BinaryIO, dataset: Dataset) -> None:
    """Adds the Pixel Data element to `dataset`, which was parsed from `file` up to it.

    Compressed data may lack its closing delimiter or its offset table, have an offset table that is untrue, or have a
    length. It becomes one frame of one fragment.

    Raises:
        ImageError: there is none, a fragment is cut short, or the fragments hold several images.
    """
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    header = file.read(8)
    if len(header) < 8 or struct.unpack(f"{order}2H", header[:4]) != _PIXEL_DATA:
        raise ImageError("This DICOM file is incomplete: its pixel data is missing or cut short.")
    if not implicit and header[4:6] in (b"OB", b"OW", b"UN"):
        header = header[:4] + file.read(4)
    (length,) = struct.unpack(f"{order}I", header[-4:])
    data = file.read() if length == _UNDEFINED else file.read(length)
    meta = dataset.file_meta
    if not meta.get("TransferSyntaxUID"):
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if meta.TransferSyntaxUID.is_encapsulated:
        data = encapsulate([_frame(data)])
    dataset.add_new(_PIXEL_DATA, "OB" if dataset.BitsAllocated == 8 else "OW", data)


def _frame(data: bytes) -> bytes:
    """The one frame of encapsulated Pixel Data (PS3.5 A.4): its fragments joined, whatever the offset table says."""
    fragments, at = [], 0
    while data[at : at + 4] == _ITEM:
        (length,) = struct.unpack_from("<I", data, at + 4)
        fragments.append(data[at + 8 : at + 8 + length])
        if len(fragments[-1]) < length:
            raise damaged("DICOM")
        at += 8 + length
    if fragments and not fragments[0].startswith(_CODE_STREAMS):
        del fragments[0]  # the offset table
    if any(fragment.startswith(_CODE_STREAMS) for fragment in fragments[1:]):
        raise several_images("DICOM")
    return b"".join(fragments)


def stored_values(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Decodes the Pixel Data.

    Returns:
        Integers [H, W], or uint8/uint16 [H, W, 3] RGB, of Bits Stored up to High Bit (PS3.5 8.1.1). Then `MARKS`,
        `MORE_BITS` or "", for `Radiograph.notes`; with `MORE_BITS`, the data set's Bits Stored is put right.

    Raises:
        ImageError: a colour palette, or a coded frame of another size than the header says. Damaged data raises
            whatever pydicom and its decoders raise.
    """
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raise ImageError("This DICOM image has a colour palette, which is not accepted; please export it in grey.")
    syntax = dataset.file_meta.TransferSyntaxUID
    # pylibjpeg-rle, if installed, crashes the program on some damaged streams.
    plugin = "pydicom" if syntax == RLELossless else ""
    if syntax.is_encapsulated and not plugin:
        # The decoder allocates what the code stream declares, which may differ from the header.
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        if _coded_size(frame) != (dataset.Columns, dataset.Rows):
            raise damaged("DICOM")
    values = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
    size, bits = 8 * values.itemsize, dataset.BitsStored
    below = min(max(int(dataset.get("HighBit") or 0) + 1 - bits, 0), size - bits)
    if below and not (values.view(f"u{values.itemsize}") >> bits).any():
        below = 0  # compressed data is aligned to the right whatever the header says
    values = values >> below
    used = np.right_shift(np.left_shift(values, size - bits), size - bits)  # keeps the sign of signed values
    if (used == values).all():
        return used, ""
    if _jumps(used, bits) > _jumps(values, bits):  # without these bits, values above Bits Stored would wrap around
        dataset.BitsStored = size
        return values, MORE_BITS
    return used, MARKS


def _jumps(values: np.ndarray, bits: int) -> int:
    """How many pixels differ from their left neighbour by more than half of the range of `bits`."""
    return np.count_nonzero(np.abs(np.diff(values.astype(np.int32), axis=1)) > 2 ** (bits - 1))


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
