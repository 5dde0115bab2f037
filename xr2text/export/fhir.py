"""A report as an HL7 FHIR R4 DiagnosticReport, by fhir.resources, which checks it against the standard.

The sections stand in contained Observations, which name the model as the device that made them. The status is
"preliminary": a person who answers for the text makes it final in their own system. No patient is named.
"""

import base64
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from xr2text.export.text import NOT_WRITTEN, NOTICE, notes, report_text

if TYPE_CHECKING:
    from xr2text.inference.report import Report

LOINC = "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/v2-0074"
SECTIONS = {
    "findings": ("59776-5", "Procedure findings Narrative"),
    "impression": ("19005-8", "Radiology Imaging study [Impression] (narrative)"),
}


def diagnostic_report(report: "Report") -> DiagnosticReport:
    """The report as a resource; its JSON is `model_dump_json()`."""
    texts = {"findings": report.findings or NOT_WRITTEN, "impression": report.impression or NOT_WRITTEN}
    said = notes(report)
    device = {
        "resourceType": "Device",
        "id": "model",
        "deviceName": [{"name": report.model, "type": "model-name"}],
        "note": [{"text": NOTICE}],
    }
    observations = [
        {
            "resourceType": "Observation",
            "id": section,
            "status": "preliminary",
            "code": {"coding": [{"system": LOINC, "code": code, "display": display}], "text": section},
            "device": {"reference": "#model"},
            "valueString": texts[section],
            "note": [{"text": note} for note in said],
        }
        for section, (code, display) in SECTIONS.items()
    ]
    sections = [f"<b>{section.capitalize()}</b><br/>{escape(text)}" for section, text in texts.items()]
    paragraphs = "".join(f"<p>{content}</p>" for content in (*sections, *map(escape, (*said, NOTICE))))
    return DiagnosticReport.model_validate({
        "resourceType": "DiagnosticReport",
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'},
        "contained": [device, *observations],
        "status": "preliminary",
        "category": [{"coding": [{"system": CATEGORY, "code": "RAD", "display": "Radiology"}]}],
        "code": {"coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}]},
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": [{"reference": f"#{section}"} for section in SECTIONS],
        "conclusion": texts["impression"],
        "presentedForm": [{
            "contentType": "text/plain; charset=utf-8",
            "data": base64.b64encode(report_text(report).encode()).decode(),
            "title": "Report",
        }],
    })  # fmt: skip
