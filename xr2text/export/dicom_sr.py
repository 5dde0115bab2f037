"""A report as a DICOM Structured Report that refers to the radiograph it was written from, by highdicom.

Basic Diagnostic Imaging Report, TID 2000 of DICOM PS3.16, as an Enhanced SR. It is preliminary and unverified: a person
who answers for the text makes it final in their own system.
"""

from typing import TYPE_CHECKING

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from xr2text.export.source import ExportError, Source
from xr2text.export.text import NOT_WRITTEN, NOTICE, notes
from xr2text.imaging.dicom import quietly

if TYPE_CHECKING:
    from xr2text.inference.report import Report

SERIES_NUMBER = 9001
MANUFACTURER = "XR2Text"


@quietly()
def structured_report(
    report: "Report",
    source: Source | None,
    lateral: Source | None = None,
    uids: tuple[str, str] | None = None,
    number: int = 1,
    previous: Dataset | None = None,
) -> sr.EnhancedSR:
    """The report as a data set, to be written with `save_as`.

    Args:
        lateral: a second image that it was written from.
        uids: of its series and of itself; None: new ones.
        number: of the document in its series.
        previous: the elements of `source.REFERENCES` of the document that this one takes the place of.

    Raises:
        ExportError: the source is no DICOM image that can be referred to.
    """
    if source is None or source.header is None:
        raise ExportError(source.fault if source else Source.fault)
    images = [source.header, *([lateral.header] if lateral and lateral.header else [])]
    root = sr.ContainerContentItem(codes.LN.DiagnosticImagingReport, template_id="2000")
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(), name=report.model, manufacturer_name=MANUFACTURER, model_name=report.model
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
            for image in images
        ]  # fmt: skip
        section.ContentSequence = [written]
        content.append(section)
    note = " ".join([*notes(report), NOTICE])
    comments = sr.ContainerContentItem(codes.DCM.Comment, relationship_type="CONTAINS")
    comments.ContentSequence = [sr.TextContentItem(codes.DCM.Comment, note, relationship_type="CONTAINS")]
    root.ContentSequence = [*content, comments]
    series, instance = uids or (generate_uid(), generate_uid())
    return sr.EnhancedSR(
        evidence=images, content=root, series_instance_uid=series, series_number=SERIES_NUMBER,
        sop_instance_uid=instance, instance_number=number, manufacturer=MANUFACTURER, is_complete=True, is_final=False,
        manufacturer_model_name=report.model[:64], software_versions=report.model[:64], device_serial_number="none",
        series_description="Draft report", specific_character_set="ISO_IR 192",
        previous_versions=[previous] if previous else None,
    )  # fmt: skip
