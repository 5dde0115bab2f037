"""The file that a report was written of, as documents refer to it."""

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
STUDY = ("StudyDate", "StudyTime", "BurnedInAnnotation")
IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip
SEXES = ("M", "F", "O", "")
_UNDECODED = re.compile("[\x00-\x1f\x7f\ufffd]")  # what is left of bytes in another character set
OTHER_STUDY = "By its header the lateral view is of another study than the frontal one."


class ExportError(XR2TextError, ValueError):
    """A document that cannot be made of this report; the message says why, in words for the reader."""


@dataclass(frozen=True, eq=False)
class Source:
    """The file of a radiograph, as documents refer to it.

    Attributes:
        sha256: of the file's content, in hexadecimal digits.
        header: the elements by which a DICOM Structured Report refers to it; None where it has none.
        name: of the file; only report.json contains it.
        fault: why it has no header, a sentence without any value of the file.
    """

    sha256: str
    header: "Dataset | None" = None
    name: str | None = None
    fault: str = "A DICOM Structured Report refers to a DICOM image with its UIDs, and this file is none."


def source_of(content: bytes, radiograph: Radiograph, identity: bool = False, name: str | None = None) -> Source:
    """What documents need to know of a file.

    Args:
        radiograph: what the content was decoded to.
        identity: the header also has the patient, the accession number and the referring physician, as an archive needs
            them to file a Structured Report; else they are empty.
        name: the file's.
    """
    digest = hashlib.sha256(content).hexdigest()
    if radiograph.source != "DICOM":
        return Source(digest, None, name)
    try:
        return Source(digest, _header(content, identity), name)
    except ExportError as error:
        return Source(digest, None, name, str(error))


def of_one_study(*sources: Source) -> bool:
    """False where the headers name two different studies; true also where headers are missing."""
    return len({source.header.StudyInstanceUID for source in sources if source.header}) < 2


def _header(content: bytes, identity: bool) -> "Dataset":
    """Raises ExportError where an element is missing or is not as DICOM requires it."""
    from pydicom import Dataset, dcmread

    from xr2text.imaging.dicom import quietly

    names = [*REFERENCES, *STUDY, *(IDENTITY if identity else ())]
    header = Dataset()
    with quietly():
        tags = ["SpecificCharacterSet", *names]
        read = dcmread(BytesIO(content), stop_before_pixels=True, force=True, specific_tags=tags)
        for name in (*REFERENCES, *STUDY, *IDENTITY):
            try:
                value = read.get(name, "") if name in names else ""
            except NotImplementedError:  # a value representation that there is not
                raise ExportError(_fault(name, "is not as DICOM requires it")) from None
            if not _is_valid(name, value):
                raise ExportError(_fault(name, "is missing" if value in ("", None) else "is not as DICOM requires it"))
            setattr(header, name, value)
        if identity and "SpecificCharacterSet" in read:
            header.SpecificCharacterSet = read.SpecificCharacterSet
    return header


def _is_valid(name: str, value: Any) -> bool:
    """Whether an element may have this value (PS3.5 6.2, PS3.3 C.7.1.1 for the patient's sex)."""
    from pydicom import config
    from pydicom.datadict import dictionary_VR
    from pydicom.uid import UID
    from pydicom.valuerep import DA, TM, PersonName, validate_value

    if value in ("", None):
        return name not in REFERENCES
    if name in REFERENCES:
        return isinstance(value, str) and UID(value).is_valid
    if not isinstance(value, str | PersonName):
        return False  # several values
    if _UNDECODED.search(str(value)):
        return False
    kind = dictionary_VR(name)
    try:
        validate_value(kind, str(value), config.RAISE)
        {"DA": DA, "TM": TM}.get(kind, str)(value)
    except ValueError:
        return False
    return name != "PatientSex" or value in SEXES


def _fault(name: str, what: str) -> str:
    from pydicom.datadict import dictionary_description

    element = dictionary_description(name)
    return f"A DICOM Structured Report takes over the file's {element}, which {what}; please put it right in the file."
