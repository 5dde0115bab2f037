"""A report as a DICOM Structured Report that refers to the radiograph it was written from, by highdicom.

Basic Diagnostic Imaging Report, TID 2000 of DICOM PS3.16, as an Enhanced SR. It is preliminary and unverified: a person
who answers for the text makes it final in their own system.
"""

import os
from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
from highdicom import sr
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from xr2text.export.files import NOT_WRITTEN, NOTICE, ExportError, origin

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip
REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
SERIES_NUMBER = 9001


def structured_report(
    report: "Report", source: bytes | str | os.PathLike | pydicom.Dataset, identity: bool = False
) -> sr.EnhancedSR:
    """The report as a data set, to be written with `save_as`.

    Args:
        source: the radiograph's DICOM file, its content, or what `image_reference` kept of it.
        identity: the patient, the accession number and the referring physician are taken over from the source, as an
            archive needs them to file the report; else they are left empty.

    Raises:
        ExportError: the source is no DICOM image that can be referred to.
    """
    image = image_reference(source, identity)
    root = sr.ContainerContentItem(codes.LN.DiagnosticImagingReport, template_id="2000")
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(), name=report.model, manufacturer_name="XR2Text", model_name=report.model
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    content = [*sr.LanguageOfContentItemAndDescendants(sr.CodedConcept("en", "RFC5646", "English")), *observer]
    for title, name, text in (
        (codes.DCM.Findings, codes.DCM.Finding, report.findings),
        (codes.DCM.Impressions, codes.DCM.Impression, report.impression),
    ):
        section = sr.ContainerContentItem(title, relationship_type="CONTAINS")
        written = sr.TextContentItem(name, text or NOT_WRITTEN, relationship_type="CONTAINS")
        written.ContentSequence = [
            sr.ImageContentItem(
                codes.DCM.SourceImage, image.SOPClassUID, image.SOPInstanceUID,
                relationship_type="INFERRED FROM",
            )
        ]  # fmt: skip
        section.ContentSequence = [written]
        content.append(section)
    note = " ".join([origin(report), *(f"Warning: {one}" for one in report.warnings), NOTICE])
    comments = sr.ContainerContentItem(codes.DCM.Comment, relationship_type="CONTAINS")
    comments.ContentSequence = [sr.TextContentItem(codes.DCM.Comment, note, relationship_type="CONTAINS")]
    root.ContentSequence = [*content, comments]
    return sr.EnhancedSR(
        evidence=[image], content=root, series_instance_uid=generate_uid(), series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="XR2Text", is_complete=True, is_final=False,
        manufacturer_model_name=report.model, software_versions=report.model, device_serial_number="none",
        series_description="Draft report", specific_character_set="ISO_IR 192",
    )  # fmt: skip


def image_reference(source: bytes | str | os.PathLike | pydicom.Dataset, identity: bool = False) -> pydicom.Dataset:
    """What a report must know of the image it refers to, and nothing else of its header. See `structured_report`."""
    try:
        if isinstance(source, pydicom.Dataset):
            header = source
        else:
            file = BytesIO(source) if isinstance(source, bytes) else source
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise ExportError("A DICOM Structured Report refers to a DICOM image, and this is none.") from error
    image = pydicom.Dataset()
    for name in REFERENCES:
        if not header.get(name):
            raise ExportError(f"A DICOM Structured Report refers to its image by {name}, which this file lacks.")
        setattr(image, name, header.get(name))
    for name in ("StudyDate", "StudyTime"):
        setattr(image, name, header.get(name, ""))
    for name in IDENTITY:
        setattr(image, name, header.get(name, "") if identity else "")
    if identity and "SpecificCharacterSet" in header:
        image.SpecificCharacterSet = header.SpecificCharacterSet
    return image
