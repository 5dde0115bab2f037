"""The sections of a report: found in free text, cleaned, and split into sentences."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from xr2text.text.plain import plain_text

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
    """Removes the numbers of a list "1. ... 2. ..." and ends each of its items with a full stop."""
    items, number = [], 1
    while mark := re.search(rf"(?:^|(?<=\s)){number}[.)]\s+(?=\S)", text):
        if number == 1 and mark.start():
            break  # a number within a sentence, such as "rib 1.", begins no list
        items.append(text[: mark.start()].strip())
        text, number = text[mark.end() :], number + 1
    items = [item if item[-1] in ".?!" else item.rstrip(" ,;:") + "." for item in items if item]
    return " ".join([*items, text])


def clean_section(text: str | None) -> str:
    """Prepares a section for training.

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


REPORT = "report"  # heading of a whole report; the text below it is a title, unless nothing else follows
# Headings of a report's free text, by section; None: not used here. The names and the
# parts of names below are those of MIMIC-CXR's own parser (github.com/MIT-LCP/mimic-cxr, txt/section_parser.py), and
# more of the same meaning.
_HEADINGS = {
    name: section
    for section, names in {
        "findings": "findings; finding; findings and impression; findings/impression; findings / impression; "
        "impression and findings; reference findings; report; description",
        "impression": "impression; impressions; conclusion; conclusions; opinion; summary; interpretation",
        "indication": "indication; indications; history; clinical history; clinical information; clinical indication; "
        "clinical details; clinical data; reason for exam; reason for examination; reason for study; patient history; "
        "pfi",
        "comparison": "comparison; comparisons; comparison exam; comparison film; reference exam",
        "title": "chest; chest radiograph; chest x-ray; cxr; portable chest; chest, two views",
        REPORT: "final report",
        None: "examination; exam; study; technique; type of examination; procedure; recommendation; recommendations; "
        "recommendation(s); notification; comment; wet read; wetread; addendum; final addendum; views; preliminary "
        "report; dose; date",
    }.items()
    for name in names.split("; ")
}
_MISSPELT = [name for name in _HEADINGS if len(name) > 6]  # names that similar headings are matched with
_HELD = {"findings": "findings", "impression": "impression", "history": "indication", "comparison": "comparison"}
# Words of a title such as "FRONTAL AND LATERAL CHEST RADIOGRAPHS:", which is followed by the findings.
_TITLE = re.compile(
    "chest|portable|pa and lat|lateral and pa|ap and lat|lateral and ap|frontal and|two views|frontal view|pa view|"
    "ap view|one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs"
)
_ORGAN = re.compile(  # words of a heading within the findings
    r"\b(?:lungs?|pleura\w*|heart|cardi\w+|mediastin\w+|hil\w+|vascul\w+|aorta|airways?|trachea|bon[ey]s?|osseous|"
    r"skelet\w+|spine|soft tissues?|diaphragms?|abdomen|lines?|tubes?|devices?|hardware|other)\b"
)
_NAMES = "|".join(re.escape(name) for name in sorted(_HEADINGS, key=len, reverse=True))
_MAIN = "findings|impressions?|conclusions?|opinion|(?:clinical )?(?:indications?|history)|comparisons?|technique"
# At the start of a line a known name in any letters, and whatever stands in capitals; elsewhere a known name in
# capitals, or, behind a sentence, a main one with a capital. Main ones may have a line for themselves, without a colon.
_HEADING = re.compile(
    rf"^[ \t_*#]*(?P<known>{_NAMES})[ \t*]*:\**|^[ \t_*#]*(?P<capitals>(?-i:[A-Z][A-Z ()/,&'-]+)):\**(?=\s|$)"
    rf"|\b(?P<within>(?-i:{_NAMES.upper()}))[ \t]*:|(?<=[.?!]\s)[ \t]*(?P<behind>(?-i:(?=[A-Z]))(?:{_MAIN})):"
    rf"|^[ \t*#]*(?P<alone>final report|(?-i:(?=[A-Z]))(?:{_MAIN}|report|clinical details))[ \t*]*$",
    re.IGNORECASE | re.MULTILINE,
)
_MARKS_ALONE = re.compile(r"^[\s_.*-]*$")


def find_sections(text: str) -> dict[str, str]:
    """The sections of a report's free text, found as MIMIC-CXR's own parser does, and in a few more forms.

    Findings and impression under one heading are findings, and so is what stands under the title of an examination
    where there are no others. A text without a heading of either is, from the second paragraph behind its last heading
    on, findings, or, where there is none, from the second sentence of its comparison on. Of a section that comes twice,
    an empty one gives way and others are joined.

    Returns:
        "findings", "impression", "indication" and "comparison", white space collapsed, "" where there is none.
    """
    return {section: " ".join(body.split()) for section, body in _bodies(text).items()}


def asserted_text(text: str) -> str:
    """Findings and impression of a whole report, with its line breaks; the whole text where it has no heading."""
    found = _bodies(plain_text(text))
    return f"{found['findings']}\n\n{found['impression']}".strip()


def _bodies(text: str) -> dict[str, str]:
    """The sections of `find_sections`, with their line breaks."""
    found: dict[str | None, list[str]] = {}
    marks = _marks(text)
    ends = [start for _, start, _ in marks[1:]] + [len(text)]
    for (section, _, start), end in zip(marks, ends, strict=False):  # a text without marks has no pairs
        if not _MARKS_ALONE.match(text[start:end]):
            found.setdefault(section, []).append(text[start:end].strip())
    if "findings" not in found and "title" in found:
        found["findings"] = found["title"]
    if not found.keys() & {"findings", "impression"}:
        section, _, start = marks[-1] if marks else (REPORT, 0, 0)
        body = text[start:] if section == REPORT else text[start:].lstrip()
        first, *others = re.split(r"\n\s*\n", body)
        others = [part.strip() for part in others if not _MARKS_ALONE.match(part)]
        if section in found:
            found[section][-1] = first.strip()
        if not marks or (section == REPORT and not others):
            others.insert(0, first.strip())
        if not others:
            first, *others = split_sentences(" ".join(found.get("comparison", []))) or [""]
            found["comparison"] = [first]
        found["findings"] = others
    return {name: "\n\n".join(found.get(name, [])) for name in ("findings", "impression", "indication", "comparison")}


def _marks(text: str) -> list[tuple[str | None, int, int]]:
    """The headings of a text: section, start of the heading and start of its body."""
    marks: list[tuple[str | None, int, int]] = []
    for mark in _HEADING.finditer(text):
        heading = " ".join(mark[mark.lastgroup].lower().split())
        section = _section_of(heading)
        within = marks[-1][0] if marks else None
        if within == "findings" and section in ("title", "organ"):
            continue  # a part of the findings
        if section == "organ":
            if within != "impression":
                marks.append(("findings", mark.start(), mark.start()))
            continue
        marks.append((section, mark.start(), mark.end()))
    return marks


@lru_cache(maxsize=10_000)
def _section_of(heading: str) -> str | None:
    """The section that a heading names, or "title", "organ" (a part of the findings), REPORT or None."""
    name = next(iter(get_close_matches(heading, _MISSPELT, 1, 0.82)), heading) if heading not in _HEADINGS else heading
    if name in _HEADINGS:
        return _HEADINGS[name]
    if held := next((held for held in _HELD if held in name), None):
        return _HELD[held]
    if _TITLE.search(name):
        return "title"
    return "organ" if _ORGAN.search(name) else None
