"""What documents say of the file that a report is written of. Its name is never kept."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import Radiograph

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
    """Attributes:
    sha256: of the file's content, in hexadecimal digits.
    header: the elements by which a DICOM Structured Report refers to it; None where it is no DICOM image or lacks one.
    """

    sha256: str
    header: "Dataset | None" = None


def source_of(content: bytes, radiograph: Radiograph, identity: bool = False) -> Source:
    """What documents say of a file.

    Args:
        radiograph: what the content was decoded to.
        identity: the header also has the patient, the accession number and the referring physician, as an archive needs
            them to file a Structured Report; else they are empty.
    """
    header = _header(content, identity) if radiograph.source == "DICOM" else None
    return Source(hashlib.sha256(content).hexdigest(), header)


def _header(content: bytes, identity: bool) -> "Dataset | None":
    from pydicom import Dataset, dcmread

    names = [*REFERENCES, *STUDY, *(IDENTITY if identity else ())]
    tags = ["SpecificCharacterSet", *names]
    read = dcmread(BytesIO(content), stop_before_pixels=True, force=True, specific_tags=tags)
    header = Dataset()
    for name in (*REFERENCES, *STUDY, *IDENTITY):
        setattr(header, name, read.get(name, "") if name in names else "")
    if identity and "SpecificCharacterSet" in read:
        header.SpecificCharacterSet = read.SpecificCharacterSet
    return header if all(header.get(name) for name in REFERENCES) else None
