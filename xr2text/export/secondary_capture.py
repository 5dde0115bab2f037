"""A report as DICOM objects to look at: the seven overlays and the sentences as a Secondary Capture, and the PDF. By
highdicom; each says that it is a machine's draft.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.base import SOPClass
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from xr2text.anatomy import REGIONS
from xr2text.export.dicom_sr import MANUFACTURER
from xr2text.export.pdf import report_pdf
from xr2text.export.source import ExportError, Source
from xr2text.export.text import NOT_WRITTEN, NOTICE, origin, unknown
from xr2text.inference.overlay import DIM, INK, PAPER, overlay_figure

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

SERIES_NUMBER, PDF_SERIES_NUMBER = 9002, 9003
DRAFT = "Machine's draft, not verified by a person"
PANEL, MARGIN, LINE = 640, 30, 27  # pixels: width of the sentences' column, its margin, a line of text
COLOURS = {region.name: region.rgb for region in REGIONS}
# Highdicom's names of what is taken from the source's header.
_COPIED = {
    "study_instance_uid": "StudyInstanceUID", "study_date": "StudyDate", "study_time": "StudyTime",
    "patient_id": "PatientID", "patient_name": "PatientName", "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex", "accession_number": "AccessionNumber", "study_id": "StudyID",
    "referring_physician_name": "ReferringPhysicianName",
}  # fmt: skip


def secondary_capture(
    report: "Report",
    source: Source | None,
    lateral: Source | None = None,
    uids: tuple[str, str] | None = None,
    number: int = 1,
) -> SCImage:
    """The picture as a data set, to be written with `save_as`. Arguments and errors: see `structured_report`."""
    pixels = np.asarray(draft_figure(report))
    image = SCImage(
        pixels, "YBR_FULL_422", 8, "PATIENT", patient_orientation=("L", "F"), transfer_syntax_uid=JPEGBaseline8Bit,
        **_common(report, source, uids, number, SERIES_NUMBER, "Draft report, overlays"),
    )  # fmt: skip
    image.ConversionType = "WSD"  # made on a workstation
    image.BodyPartExamined, image.BurnedInAnnotation = "CHEST", _burned_in(source, lateral)
    image.LossyImageCompression, image.LossyImageCompressionMethod = "01", "ISO_10918_1"
    image.LossyImageCompressionRatio = f"{pixels.nbytes / len(image.PixelData):.1f}"
    image.DerivationDescription, image.ImageComments = f"Overlays by {report.model}", f"{DRAFT}. {NOTICE}"
    image.SourceImageSequence = _references(source, lateral)
    return image


def encapsulated_pdf(
    report: "Report",
    source: Source | None,
    lateral: Source | None = None,
    uids: tuple[str, str] | None = None,
    number: int = 1,
) -> SOPClass:
    """The PDF as a data set, see `secondary_capture`."""
    content = report_pdf(report)
    document = SOPClass(
        sop_class_uid=EncapsulatedPDFStorage, modality="DOC", transfer_syntax_uid=ExplicitVRLittleEndian,
        **_common(report, source, uids, number, PDF_SERIES_NUMBER, "Draft report, PDF"),
    )  # fmt: skip
    document.ConversionType, document.BurnedInAnnotation = "WSD", _burned_in(source)
    document.AcquisitionDateTime, document.ConceptNameCodeSequence = "", []
    document.DocumentTitle = DRAFT
    document.SourceInstanceSequence = _references(source, lateral)
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return document


def draft_figure(report: "Report") -> Image.Image:
    """`overlay_figure` with the report's sentences to its right, each with its region in that region's colour. Below
    them stand its origin, its doubts and the notice. The figure is made higher where they need more lines."""
    lines: list[tuple[str, int, Any]] = []

    def write(text: str, size: int, colour: Any = INK) -> None:
        lines.extend((line, size, colour) for line in _wrapped(text, ImageFont.load_default(size), PANEL - 2 * MARGIN))

    write(DRAFT, 22)
    for section, whole in (("findings", report.findings), ("impression", report.impression)):
        write("", 15)
        write(section.capitalize(), 22)
        if not whole:
            write(NOT_WRITTEN, 18)
        for sentence in report.sentences:
            if sentence.section == section:
                write(sentence.text, 18)
                if sentence.region:
                    write(f"{sentence.region}; {sentence.certainty}", 15, COLOURS[sentence.region])
    write("", 15)
    for said in (origin(report), *unknown(report), *report.doubts):
        write(said, 15, DIM)
    write(NOTICE, 15)

    overlays = overlay_figure(report)
    height = max(overlays.height, 2 * MARGIN + LINE * len(lines))
    figure = Image.new("RGB", (overlays.width + PANEL, height), PAPER)
    figure.paste(overlays)
    draw = ImageDraw.Draw(figure)
    for row, (text, size, colour) in enumerate(lines):
        draw.text((overlays.width + MARGIN, MARGIN + LINE * row), text, colour, ImageFont.load_default(size))
    return figure


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _common(
    report: "Report", source: Source | None, uids: tuple[str, str] | None, number: int, series: int, description: str
) -> dict[str, Any]:
    """The arguments that both objects give to highdicom's constructors."""
    if source is None or source.header is None:
        raise ExportError("A DICOM object of a report refers to a DICOM image with its UIDs, and this file is none.")
    series_uid, instance_uid = uids or (generate_uid(), generate_uid())
    return {name: source.header.get(keyword) or None for name, keyword in _COPIED.items()} | {
        "series_instance_uid": series_uid, "series_number": series, "sop_instance_uid": instance_uid,
        "instance_number": number, "manufacturer": MANUFACTURER, "manufacturer_model_name": report.model[:64],
        "software_versions": report.model[:64], "series_description": description,
        "specific_character_set": "ISO_IR 192",
    }  # fmt: skip


def _burned_in(*sources: Source | None) -> str:
    """ "YES" where the header of a shown radiograph says that text is burnt into it, else "NO"."""
    said = [given.header.BurnedInAnnotation for given in sources if given is not None and given.header is not None]
    return "YES" if "YES" in said else "NO"


def _references(source: Source, lateral: Source | None) -> list[Dataset]:
    items = []
    for given in (source, lateral):
        if given is not None and given.header is not None:
            items.append(Dataset())
            items[-1].ReferencedSOPClassUID = given.header.SOPClassUID
            items[-1].ReferencedSOPInstanceUID = given.header.SOPInstanceUID
    return items
