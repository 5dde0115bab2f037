"""A report as text to read and as JSON to compute with, and the words that every document has in common."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xr2text.anatomy import REGION_NAMES

if TYPE_CHECKING:
    from xr2text.inference.report import Report
    from xr2text.model.findings import FindingMeasure

NOTICE = "Research software, not a medical device. Not for clinical decisions."
NOT_WRITTEN = "(none written)"


def origin(report: "Report") -> str:
    """A sentence that says who wrote the report, and which findings a person has set."""
    how = ("Drafted", " and edited by a person") if report.edited else ("Written", "")
    who = f"{how[0]} by {report.model}{how[1]}."
    states = [f"{name} {state}" for name, state in report.set_findings.items()]
    return f"{who} Findings set by a person: {', '.join(states)}." if states else who


def unknown(report: "Report") -> tuple[str, ...]:
    """One sentence on the findings that the report speaks of but the model does not know well enough, and one on denied
    findings that are possible; each only where there are any."""
    of_names = {
        "Not assessed by this model, whatever the text says of it": "not_assessed",
        "Denied, though at least twice as likely as in the usual study": "possible",
    }
    named = {
        words: dict.fromkeys(name for sentence in report.sentences for name in getattr(sentence, group))
        for words, group in of_names.items()
    }
    return tuple(f"{words}: {', '.join(names)}." for words, names in named.items() if names)


def notes(report: "Report") -> tuple[str, ...]:
    """The remarks that every document adds to the text."""
    return (origin(report), *unknown(report), *(f"Warning: {warning}" for warning in report.warnings))


def report_text(report: "Report") -> str:
    """Findings, Impression, notes and the notice, one paragraph each."""
    return "\n\n".join([
        f"Findings:\n{report.findings or NOT_WRITTEN}",
        f"Impression:\n{report.impression or NOT_WRITTEN}",
        *notes(report),
        f"{NOTICE}\n",
    ])  # fmt: skip


def measure_words(measure: "FindingMeasure") -> str:
    """How well the finding head knows a finding, in one line."""

    def share(name: str, interval: Sequence[float] | None) -> str:
        if interval is None:
            return f"{name} unknown"
        value, low, high = interval
        return f"{name} {value:.0%} ({low:.0%} to {high:.0%})"

    cases = f"{measure.positives} of {measure.positives + measure.negatives} studies that it was not trained on had it"
    return f"{share('sensitivity', measure.sensitivity)}, {share('specificity', measure.specificity)}; {cases}"


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
                "certainty": sentence.certainty,
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
                "set_by_person": reading.set_to,
                "assessed": reading.assessed,
                "measure": None if reading.measure is None else asdict(reading.measure),
            }
            for reading in report.finding_readings
        ],
        "lateral_view": report.lateral is not None,
        "model": report.model,
        "edited": report.edited,
        "origin": origin(report),
        "warnings": list(report.warnings),
        "doubts": list(report.doubts),
        "file": file,
        "sha256": sha256,
        "notice": NOTICE,
    }
