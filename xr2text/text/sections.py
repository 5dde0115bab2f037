"""A report's two sections: how a source's text is cleaned, and how the pair is laid out for the text model."""

import re
from dataclasses import dataclass

# The de-identification marks of public collections: Indiana's XXXX and MIMIC-CXR's underscores.
_REDACTED = re.compile(r"x{4,}|_{3,}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=\S)")
_NUMBERING = re.compile(r"(?:^|(?<=[.?!:]\s))\d{1,2}[.)]\s+(?=\D)")


@dataclass(frozen=True)
class ReportText:
    """Findings and Impression; an empty string where a section is missing."""

    findings: str
    impression: str


def split_sentences(text: str) -> list[str]:
    """Sentences in order, each with its closing mark."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part.strip(" .")]


def clean_section(text: str | None) -> str:
    """Makes a section fit to learn from.

    White space and runs of full stops are collapsed, list numbers are dropped, every sentence ends in a mark, and a
    sentence with a de-identified word is left out whole, since what it said is not known.
    """
    if not text:
        return ""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*\.(?:\s*\.)+", ".", text)
    text = _NUMBERING.sub("", text)
    kept = [part for part in split_sentences(text) if not _REDACTED.search(part)]
    kept = [part if part[-1] in ".?!" else part.rstrip(" ,;:") + "." for part in kept]
    return " ".join(kept)
