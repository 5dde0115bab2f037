"""The sections of a report: found in free text, cleaned, and split into sentences."""

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


# Headings of the free text of a report, as MIMIC-CXR's and others write them, by the section that each begins; None: a
# section that is of no use here.
_HEADINGS = {
    name: section
    for section, names in {
        "findings": "findings, finding, findings and impression, findings/impression, findings / impression, "
        "impression and findings, chest, portable chest, chest radiograph",
        "impression": "impression, impressions, conclusion, conclusions, opinion, summary, interpretation",
        "indication": "indication, indications, history, clinical history, clinical information, clinical indication, "
        "reason for exam, reason for examination, patient history",
        "comparison": "comparison, comparisons, comparison exam",
        None: "examination, exam, study, technique, type of examination, procedure, recommendation, "
        "recommendations, notification, final report, wet read, addendum, views, preliminary report, "
        "dose, date, clinical details, final addendum",
    }.items()
    for name in names.split(", ")
}
_NAMES = "|".join(re.escape(name) for name in sorted(_HEADINGS, key=len, reverse=True))
# At the start of a line in any letters, elsewhere in capitals; "FINAL REPORT" stands without a colon.
_HEADING = re.compile(
    rf"^[ \t_]*(?P<line>{_NAMES})[ \t]*:|\b(?P<capital>{_NAMES.upper()})[ \t]*:|^[ \t]*(?P<bare>final report)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_MARKS_ALONE = re.compile(r"^[\s_.*-]*$")


def find_sections(text: str) -> dict[str, str]:
    """The sections of a report's free text.

    Findings and impression under one heading are findings. A text without a heading of either is, from its last
    paragraph, findings, as in MIMIC-CXR's own way of reading them. Of a section that comes twice, an empty one gives
    way and others are joined.

    Returns:
        "findings", "impression", "indication" and "comparison", white space collapsed, "" where there is none.
    """
    found = dict.fromkeys(("findings", "impression", "indication", "comparison"), "")
    marks = [mark for mark in _HEADING.finditer(text) if mark["capital"] is None or mark["capital"].isupper()]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):  # of a text without marks there is nothing to pair
        name = next(filter(None, (mark["line"], mark["capital"], mark["bare"]))).lower()
        section, body = _HEADINGS[name], " ".join(text[mark.end() : end].split())
        if section is not None and not _MARKS_ALONE.match(body):
            found[section] = f"{found[section]} {body}".strip()
    if not found["findings"] and not found["impression"]:
        rest = text[marks[-1].end() :] if marks else text
        paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", rest)]
        paragraphs = [part for part in paragraphs if not _MARKS_ALONE.match(part)]
        # The body of the last heading itself, such as a technique, is no report unless it is all there is.
        body = paragraphs[1:] if marks and marks[-1]["bare"] is None else paragraphs
        found["findings"] = body[-1] if body else ""
    return found
