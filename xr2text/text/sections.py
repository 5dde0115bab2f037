"""A report's two sections: how a source's text is cleaned, and how the pair is laid out for the text model."""

import re
from dataclasses import dataclass

# The de-identification marks of public collections: Indiana's XXXX and MIMIC-CXR's underscores.
_REDACTED = re.compile(r"x{4,}|_{3,}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=\S)")


@dataclass(frozen=True)
class ReportText:
    """Findings and Impression; an empty string where a section is missing."""

    findings: str
    impression: str


def split_sentences(text: str) -> list[str]:
    """Sentences in order, each with its closing mark."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part.strip(" .")]


def _unnumber(text: str) -> str:
    """Takes the numbers out of a list "1. ... 2. ..." and ends each of its items with a full stop."""
    items, number = [], 1
    while mark := re.search(rf"(?:^|(?<=\s)){number}[.)]\s+(?=\S)", text):
        if number == 1 and mark.start():
            break  # a number within a sentence, such as "rib 1.", begins no list
        items.append(text[: mark.start()].strip())
        text, number = text[mark.end() :], number + 1
    items = [item if item[-1] in ".?!" else item.rstrip(" ,;:") + "." for item in items if item]
    return " ".join([*items, text])


def clean_section(text: str | None) -> str:
    """Makes a section fit to learn from.

    White space and runs of full stops are collapsed, list numbers are dropped, every sentence ends in a mark, and a
    sentence with a de-identified word is left out whole, since what it said is not known.
    """
    if not text:
        return ""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*\.(?:\s*\.)+(?!\d)", ".", text)
    text = _unnumber(text)
    kept = [part for part in split_sentences(text) if not _REDACTED.search(part)]
    kept = [part if part[-1] in ".?!" else part.rstrip(" ,;:") + "." for part in kept]
    return " ".join(kept)
