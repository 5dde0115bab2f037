"""The documents that other systems read, each checked against its standard."""

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from dicom_files import dataset, file_bytes
from example_report import make_report
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_description
from pydicom.uid import generate_uid
from pypdf import PdfReader

from xr2text.export.dicom_sr import structured_report
from xr2text.export.fhir import diagnostic_report
from xr2text.export.files import FILES, write_report
from xr2text.export.pdf import report_pdf
from xr2text.export.secondary_capture import encapsulated_pdf, secondary_capture
from xr2text.export.source import ExportError, Source, source_of
from xr2text.export.text import NOTICE
from xr2text.imaging.read import read_radiograph
from xr2text.inference.confidence import FindingReading

VERIFIER = shutil.which("dciodvfy")


@pytest.fixture
def report():
    return make_report(readings=(FindingReading("cardiomegaly", 0.7, 0.3, "absent"),))


@pytest.fixture
def edited(report):
    return report.with_text("The heart is normal. Ärztlich geändert ≥ 2 cm.", report.impression)


PATIENT = {
    "PatientName": "Doe^Jane", "PatientID": "PAT-4711", "PatientBirthDate": "19700101", "PatientSex": "F",
    "AccessionNumber": "A-1970-1", "StudyID": "S1", "ReferringPhysicianName": "House^Gregory",
}  # fmt: skip


@pytest.fixture(scope="module")
def content():
    """A DICOM radiograph of a patient with a name."""
    pixels = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    return file_bytes(dataset(pixels, StudyDate="20200102", StudyTime="101112", **uids, **PATIENT))


def source_from(content, identity=False):
    return source_of(content, read_radiograph(content), identity)


@pytest.fixture
def source(content):
    return source_from(content)


@pytest.fixture
def named(content):
    return source_from(content, identity=True)


def texts_of(item):
    """The texts of an SR document's tree, with the names of the sections above them."""
    found = {}
    for child in item.get("ContentSequence", ()):
        name = child.ConceptNameCodeSequence[0].CodeMeaning
        if child.ValueType == "TEXT":
            found[name] = str(child.TextValue)
        found |= texts_of(child)
    return found


def test_a_structured_report_refers_to_its_image(edited, content, source, tmp_path):
    structured_report(edited, source).save_as(tmp_path / "report.dcm")
    read = srread(tmp_path / "report.dcm")  # highdicom checks the content tree
    image = dcmread(BytesIO(content))
    texts = texts_of(read)
    assert texts["Finding"] == edited.findings and texts["Impression"] == edited.impression
    assert (
        "edited by a person" in texts["Comment"] and "example 0.1.0" in texts["Comment"] and NOTICE in texts["Comment"]
    )
    assert read.StudyInstanceUID == image.StudyInstanceUID
    (series,) = read.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID != read.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert (read.PreliminaryFlag, read.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_the_patient_is_named_only_when_asked_for(report, source, named, tmp_path):
    structured_report(report, source).save_as(tmp_path / "without.dcm")
    written = (tmp_path / "without.dcm").read_bytes()
    assert not any(word in written for word in (b"Jane", b"PAT-4711", b"19700101", b"House", b"A-1970-1"))
    read = structured_report(report, named)
    assert (read.PatientName, read.PatientID, read.AccessionNumber) == ("Doe^Jane", "PAT-4711", "A-1970-1")


@pytest.mark.skipif(VERIFIER is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize("identity", [False, True])
def test_a_structured_report_holds_to_the_standard(edited, content, tmp_path, identity):
    structured_report(edited, source_from(content, identity)).save_as(tmp_path / "report.dcm")
    found = subprocess.run([VERIFIER, "-new", tmp_path / "report.dcm"], capture_output=True, text=True).stderr
    assert "EnhancedSR" in found and "Error" not in found, found
    broken = dcmread(tmp_path / "report.dcm")
    del broken.PreliminaryFlag, broken.ValueType
    broken.save_as(tmp_path / "broken.dcm")
    assert "Error" in subprocess.run([VERIFIER, tmp_path / "broken.dcm"], capture_output=True, text=True).stderr


ODD = {
    "StudyDate": ["2020.01.01", "unknown", "20201340", "00000000"], "StudyTime": ["10:10:10", "9999", "noon"],
    "StudyInstanceUID": ["1.2..3", "9a5094b2", "1.02.3", "1." * 40 + "1"], "SOPClassUID": ["1.2.840.10008.x"],
    "SeriesInstanceUID": [["1.2.3", "1.2.4"], ""], "PatientBirthDate": ["00000000", "1.1.1970"],
    "PatientSex": ["X", "m", "male"], "PatientID": [["PAT-1", "PAT-2"], "9" * 65], "AccessionNumber": ["7" * 17],
    "PatientName": ["Quirke" * 11], "ReferringPhysicianName": [["House^A", "House^B"]],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "value"), [(keyword, value) for keyword, values in ODD.items() for value in values]
)
def test_an_element_that_is_not_as_dicom_requires_it_is_named_without_its_value(report, content, keyword, value):
    odd = dcmread(BytesIO(content))
    with disable_value_validation():
        setattr(odd, keyword, value)
    data = file_bytes(odd)
    source = source_of(data, read_radiograph(content), identity=True)
    with pytest.raises(ExportError, match="takes over the file's") as caught:
        structured_report(report, source)
    assert dictionary_description(keyword) in str(caught.value)
    assert not any(one and one in str(caught.value) for one in ([value] if isinstance(value, str) else value))
    if keyword in PATIENT:
        assert structured_report(report, source_of(data, read_radiograph(content))).PatientID == ""


@pytest.mark.parametrize(
    ("name", "charset"),
    [("DOE JANE", None), ("Müller^Jörg", "ISO_IR 100"), ("Yamada^Tarou=山田^太郎", "ISO 2022 IR 87")],
)
def test_nothing_of_the_patient_is_said_aside(report, content, name, charset, tmp_path, caplog, recwarn, capfd):
    patient = dcmread(BytesIO(content))
    if charset:
        patient.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
    patient.PatientName, patient.AccessionNumber = name, ""
    data = file_bytes(patient)
    caplog.set_level("DEBUG")
    recwarn.clear()
    caplog.clear()
    written = write_report(report, tmp_path, ["dicom-sr"], source_from(data, identity=True))[0]
    assert str(dcmread(written).PatientName) == name
    assert not recwarn.list and not caplog.records and not any(capfd.readouterr())


@pytest.mark.filterwarnings("ignore")
def test_bytes_of_another_character_set_name_nobody(report, content):
    patient = dcmread(BytesIO(content))
    patient.SpecificCharacterSet, patient.PatientID = "ISO_IR 100", "Ä17"
    data = file_bytes(patient).replace(b"ISO_IR 100", b"ISO_IR 192")
    with pytest.raises(ExportError, match="Patient ID, which is not as DICOM requires it"):
        structured_report(report, source_of(data, read_radiograph(content), identity=True))


def test_a_value_representation_that_there_is_not_is_a_fault_of_the_file(content):
    source = source_of(content.replace(b"\x08\x00\x20\x00DA", b"\x08\x00\x20\x00EA"), read_radiograph(content))
    assert source.header is None and "Study Date" in source.fault


def test_what_is_burnt_into_the_radiograph_is_in_its_pictures(report, content):
    film = dcmread(BytesIO(content))
    film.BurnedInAnnotation = "YES"
    source = source_of(file_bytes(film), read_radiograph(content))
    assert secondary_capture(report, source).BurnedInAnnotation == "YES"
    assert encapsulated_pdf(report, source).BurnedInAnnotation == "YES"


def test_a_model_of_a_long_name_fits(report, source):
    long = replace(report, model="swin-base-512-biobart-large-mimic-cxr " * 3)
    for made in (structured_report(long, source), secondary_capture(long, source)):
        assert made.ManufacturerModelName == long.model[:64]


def test_only_a_dicom_image_can_be_referred_to(report, content):
    without = dcmread(BytesIO(content))
    del without.StudyInstanceUID
    for source in (None, Source("0")):
        with pytest.raises(ExportError, match="refers to a DICOM image"):
            structured_report(report, source)
    with pytest.raises(ExportError, match="Study Instance UID, which is missing"):
        structured_report(report, source_from(file_bytes(without)))


def test_a_diagnostic_report_is_valid_and_complete(edited):
    text = diagnostic_report(edited).model_dump_json()
    read = DiagnosticReport.model_validate_json(text)
    assert read.status == "preliminary" and read.conclusion == edited.impression and read.subject is None
    assert timedelta(0) <= datetime.now(UTC) - read.issued < timedelta(minutes=1)
    device, findings, impression = read.contained
    assert device.deviceName[0].name == "example 0.1.0"
    assert (findings.valueString, impression.valueString) == (edited.findings, edited.impression)
    assert findings.device.reference == "#model" and "edited by a person" in findings.note[0].text
    assert {result.reference for result in read.result} == {"#findings", "#impression"}
    whole = base64.b64decode(json.loads(text)["presentedForm"][0]["data"]).decode()
    assert edited.findings in whole and "edited by a person" in whole
    with pytest.raises(ValueError, match="status"):
        DiagnosticReport.model_validate({**json.loads(text), "status": None})


def test_markup_in_a_report_is_text(report):
    text = diagnostic_report(report.with_text("<script>1 < 2</script>", "&")).model_dump_json()
    assert "<script>" not in json.loads(text)["text"]["div"] and "&lt;script&gt;" in text


def test_a_pdf_holds_the_report_and_its_warnings(edited):
    pages = PdfReader(BytesIO(report_pdf(edited)), strict=True)
    text = " ".join(page.extract_text() for page in pages.pages)
    text = " ".join(text.split())
    for part in (
        edited.findings,
        edited.impression,
        NOTICE,
        "edited by a person",
        str(date.today()),
        "denies cardiomegaly",
    ):
        assert part in text
    assert pages.metadata.creator == "example 0.1.0" and pages.metadata.author is None
    assert len(pages.pages[0].images) == 1


def test_documents_stand_beside_the_reports_other_files(report, source, named, tmp_path):
    paths = write_report(report, tmp_path / "all", ["dicom-sr", "fhir", "pdf", "txt"], source)
    assert [path.name for path in paths] == [FILES[name] for name in ("txt", "pdf", "fhir", "dicom-sr")]
    assert sorted(paths) == sorted((tmp_path / "all").iterdir())
    assert srread(paths[-1]).PatientName == "" and paths[1].read_bytes().startswith(b"%PDF")
    assert DiagnosticReport.model_validate_json(paths[2].read_text())
    assert srread(write_report(report, tmp_path, ["dicom-sr"], named)[-1]).PatientID == "PAT-4711"
    with pytest.raises(ExportError):
        write_report(report, tmp_path / "png", ["txt", "dicom-sr", "pdf"], Source("0"))
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == ["report.pdf", "report.txt"]
    with pytest.raises(ValueError, match="accepted: txt, json, png, maps, pdf, fhir, dicom-sr"):
        write_report(report, tmp_path / "nothing", ["doc"])
    assert not (tmp_path / "nothing").exists()


def test_a_long_report_takes_more_pages(report):
    long = report.with_text("The lungs are clear. " * 400, "")
    assert len(PdfReader(BytesIO(report_pdf(long)), strict=True).pages) > 1
    assert "(none written)" in PdfReader(BytesIO(report_pdf(long))).pages[-1].extract_text()
