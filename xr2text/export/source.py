"""The file that a report is written of: decoded once, and what documents say of it. Its name is never kept."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.read import read_radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
STUDY = ("StudyDate", "StudyTime")
IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip


class ExportError(XR2TextError, ValueError):
    """A document that cannot be made of this report; the message says why, in words for the reader."""


@dataclass(frozen=True, eq=False)
class Source:
    """What documents say of a file.

    Attributes:
        sha256: of its content, in hexadecimal digits.
        header: of a DICOM image, the elements by which a Structured Report refers to it; None of another file.
    """

    sha256: str
    header: "Dataset | None" = None

    @property
    def missing(self) -> str | None:
        """Why no DICOM Structured Report can refer to this file; None where it can."""
        if self.header is None:
            return "A DICOM Structured Report refers to a DICOM image, and this is none."
        for name in REFERENCES:
            if not self.header.get(name):
                return f"A DICOM Structured Report refers to its image by {name}, which this file lacks."
        return None


def read_source(content: bytes, identity: bool = False) -> tuple[Radiograph, Source]:
    """Decodes a file's content.

    Args:
        identity: the header also keeps the patient, the accession number and the referring physician, as an archive
            needs them to file a Structured Report; else they are left empty.

    Raises:
        ImageError: see `read_radiograph`.
    """
    radiograph = read_radiograph(content)
    header = _header(content, identity) if radiograph.source == "DICOM" else None
    return radiograph, Source(hashlib.sha256(content).hexdigest(), header)


def _header(content: bytes, identity: bool) -> "Dataset":
    from pydicom import Dataset, dcmread

    names = [*REFERENCES, *STUDY, *(IDENTITY if identity else ())]
    read = dcmread(
        BytesIO(content), stop_before_pixels=True, force=True, specific_tags=["SpecificCharacterSet", *names]
    )
    header = Dataset()
    for name in (*REFERENCES, *STUDY, *IDENTITY):
        setattr(header, name, read.get(name, "") if name in names else "")
    if identity and "SpecificCharacterSet" in read:
        header.SpecificCharacterSet = read.SpecificCharacterSet
    return header
