"""A report as text to read and as JSON to compute with, and the words that every document has in common."""

from typing import TYPE_CHECKING, Any

from xr2text.anatomy import REGION_NAMES

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report

NOTICE = "Research software, not a medical device. Not for clinical decisions."
NOT_WRITTEN = "(none written)"


def origin(report: "Report") -> str:
    """Who wrote it, in a sentence."""
    if report.edited:
        return f"Drafted by {report.model} and edited by a person."
    return f"Written by {report.model}."


def report_text(report: "Report") -> str:
    """Findings, Impression, any warnings, the notice and the model's name, one paragraph each."""
    return "\n\n".join([
        f"Findings:\n{report.findings or NOT_WRITTEN}",
        f"Impression:\n{report.impression or NOT_WRITTEN}",
        *(f"Warning: {warning}" for warning in report.warnings),
        *((origin(report),) if report.edited else ()),
        NOTICE,
        f"Model: {report.model}\n",
    ])  # fmt: skip


def report_json(report: "Report", sha256: str | None = None, file: str | None = None) -> dict[str, Any]:
    """The report as plain data: sentences in reading order, regions in the order of anatomy.REGIONS.

    Args:
        sha256: of the file that it was written of, in hexadecimal digits.
        file: the name of that file.

    A sentence's `regions` sum to 1; its `lateral` is the share of the lateral view beside all of them.
    """
    return {
        "findings": report.findings,
        "impression": report.impression,
        "sentences": [
            {
                "section": sentence.section,
                "text": sentence.text,
                "regions": {name: float(weight) for name, weight in sentence.region_weights.items()},
                "lateral": sentence.lateral_weight,
                "confidence": sentence.confidence,
            }
            for sentence in report.sentences
        ],
        "regions": [{"name": name, "weight": float(report.region_weights[name])} for name in REGION_NAMES],
        "findings_seen": [
            {
                "name": reading.name,
                "probability": reading.probability,
                "threshold": reading.threshold,
                "written": reading.written,
            }
            for reading in report.finding_readings
        ],
        "lateral_view": report.lateral is not None,
        "model": report.model,
        "edited": report.edited,
        "warnings": list(report.warnings),
        "doubts": list(report.doubts),
        "file": file,
        "sha256": sha256,
        "notice": NOTICE,
    }
