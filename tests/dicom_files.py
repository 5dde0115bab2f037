"""DICOM files for tests, written with pydicom. Every one carries the planted identity below."""

from io import BytesIO

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

IDENTITY = ("Zebulon", "Quirke", "ID-774411", "19330201", "Saint Nowhere")
CR_STORAGE = "1.2.840.10008.5.1.4.1.1.1"


def dataset(pixels: np.ndarray, bits: int = 0, **elements) -> Dataset:
    """A CR chest radiograph of `pixels`, [H, W] or [H, W, 3], integers of 8 or 16 bits."""
    made = Dataset()
    made.SOPClassUID = CR_STORAGE
    made.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    made.PatientName, made.PatientID = f"{IDENTITY[1]}^{IDENTITY[0]}", IDENTITY[2]
    made.PatientBirthDate, made.InstitutionName = IDENTITY[3], IDENTITY[4]
    made.Modality, made.BodyPartExamined, made.ViewPosition = "CR", "CHEST", "PA"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    made.BitsAllocated = pixels.dtype.itemsize * 8
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def file_bytes(made: Dataset, syntax: str = ExplicitVRLittleEndian, preamble: bool = True) -> bytes:
    """The file of a data set; without preamble there is no file meta information either."""
    out = BytesIO()
    if not preamble:
        little = syntax != ExplicitVRBigEndian
        dcmwrite(out, made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
        return out.getvalue()
    if not hasattr(made, "file_meta"):
        made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()


def encapsulated(made: Dataset, stream: bytes, syntax: str) -> bytes:
    """The file of a data set whose pixel data is the code stream `stream`."""
    made.PixelData = encapsulate([stream])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return file_bytes(made, syntax)


def compressed(made: Dataset, syntax: str) -> bytes:
    """The file of a data set compressed by one of pydicom's own encoders."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(syntax, generate_instance_uid=False)
    return file_bytes(made, syntax)
