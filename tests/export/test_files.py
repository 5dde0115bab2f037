import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from example_report import make_report
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage
from pypdf import PdfReader

from xr2text.anatomy import REGION_NAMES
from xr2text.export.files import document, write_report
from xr2text.export.secondary_capture import draft_figure
from xr2text.export.source import IDENTITY, REFERENCES, STUDY, Source
from xr2text.export.text import NOTICE, report_json, report_text
from xr2text.inference.confidence import FindingReading
from xr2text.model.findings import FindingMeasure


def test_the_text_reads_from_findings_to_notice():
    text = report_text(make_report(warnings=("The image is small.",)))
    parts = [
        "Findings:\nThe heart is normal. The lungs are clear.",
        "Impression:\nNo acute disease.",
        "Written by example 0.1.0.",
        "Warning: The image is small.",
        NOTICE,
    ]
    assert text == "\n\n".join(parts) + "\n"
    assert "not a medical device" in NOTICE


def test_the_json_is_plain_and_complete():
    report = make_report(warnings=("The image is small.",))
    data = json.loads(json.dumps(report_json(report)))
    assert data["findings"] == report.findings
    assert data["impression"] == report.impression
    assert [sentence["section"] for sentence in data["sentences"]] == ["findings", "findings", "impression"]
    assert [sentence["text"] for sentence in data["sentences"]] == [sentence.text for sentence in report.sentences]
    assert data["sentences"][0]["regions"] == report.sentences[0].region_weights
    assert [region["name"] for region in data["regions"]] == list(REGION_NAMES)
    assert sum(region["weight"] for region in data["regions"]) == pytest.approx(1)
    assert data["model"] == "example 0.1.0"
    assert data["warnings"] == data["doubts"] == ["The image is small."]
    assert data["edited"] is False and data["findings_seen"] == []


def test_an_edited_report_says_so_and_by_which_model_it_was_drafted():
    report = make_report(readings=[FindingReading("nodule", 0.6, 0.5, None)])
    edited = report.with_text("There is a mass.", "A mass.")
    assert "Drafted by example 0.1.0 and edited by a person." in report_text(edited)
    assert "edited" not in report_text(report)
    data = report_json(edited)
    assert data["edited"] and data["findings"] == "There is a mass."
    assert data["sentences"][0] == {
        "section": "findings",
        "text": "There is a mass.",
        "regions": {},
        "lateral": 0.0,
        "confidence": None,
        "certainty": "written by a person",
    }
    (seen,) = data["findings_seen"]
    assert {"name": "nodule", "probability": 0.6, "threshold": 0.5, "written": None}.items() <= seen.items()
    assert (seen["set_by_person"], seen["assessed"], seen["measure"]) == (None, True, None)
    assert len(data["doubts"]) == 1 and "nodule" in data["doubts"][0]


def test_the_files_of_a_report(tmp_path):
    report = make_report()
    folder = tmp_path / "made" / "on the way"
    paths = write_report(report, folder, ["maps", "txt", "json", "png"], Source("0f" * 32, name="x.png"))
    assert [path.name for path in paths] == ["report.txt", "report.json", "overlay.png", "maps.npz"]
    assert sorted(folder.iterdir()) == sorted(paths)
    assert paths[0].read_text(encoding="utf-8") == report_text(report)
    assert json.loads(paths[1].read_text(encoding="utf-8")) == report_json(report, "0f" * 32, "x.png")
    with Image.open(paths[2]) as picture:
        assert picture.format == "PNG"
        picture.verify()
    with np.load(paths[3], allow_pickle=False) as archive:
        assert archive["regions"].tolist() == list(REGION_NAMES)
        assert archive["maps"].shape == (7, report.radiograph.height, report.radiograph.width)
        np.testing.assert_allclose(archive["maps"], report.maps, atol=1e-3)


def test_what_is_not_asked_for_is_not_written_and_a_second_report_replaces_the_first(tmp_path):
    (tmp_path / "report.txt").write_text("an older report")
    paths = write_report(make_report(), tmp_path, ["txt", "json"])
    assert [path.name for path in paths] == ["report.txt", "report.json"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert "an older report" not in paths[0].read_text()


def test_what_a_person_set_and_what_is_not_assessed_is_said_in_every_document(monkeypatch):
    measure = FindingMeasure(4, 290, (0.5, 0.2, 0.8), (0.9, 0.8, 0.95), None)
    readings = [
        FindingReading("nodule", 0.1, 0.5, "present", "present"),
        FindingReading("mass", 0.1, 0.5, measure=measure),
    ]
    report = make_report(readings=readings)
    first = replace(report.sentences[0], confidence=0.95, not_assessed=("mass",))
    second = replace(report.sentences[1], confidence=0.95, possible=("lung opacity",))
    report = replace(report, sentences=(first, second, *report.sentences[2:]))
    source = Source("0", dicom_header())
    texts = [document(report, name, source) for name in ("txt", "json", "fhir", "dicom-sr")]
    pdf = " ".join(page.extract_text() for page in PdfReader(BytesIO(document(report, "pdf"))).pages)
    drawn, draw = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, *rest: drawn.append(text) or draw(self, at, text, *rest)
    )
    draft_figure(report)
    assert "Findings set by a person: nodule present." in " ".join(drawn)
    assert f"{first.region}; not assessed by this model: mass" in drawn and "high confidence" not in " ".join(drawn)
    for text in (*(content.decode("utf-8", "replace") for content in texts), " ".join(pdf.split())):
        assert "Findings set by a person: nodule present." in text
        assert "not assessed by this model" in text.lower() and "mass" in text
        assert "denied, though" in text.lower() and "lung opacity" in text
        assert "high confidence" not in text
    seen = {one["name"]: one for one in json.loads(texts[1])["findings_seen"]}
    assert seen["nodule"]["set_by_person"] == "present" and seen["mass"]["assessed"] is False
    assert seen["mass"]["measure"]["sensitivity"] == [0.5, 0.2, 0.8]


def dicom_header():
    header = Dataset()
    for name in (*REFERENCES, *STUDY, *IDENTITY):
        setattr(header, name, "1.2.3" if name.endswith("UID") else "")
    header.SOPClassUID = ComputedRadiographyImageStorage
    return header
