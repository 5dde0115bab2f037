"""What a report asserts: free text -> findings, each present, absent or uncertain, with its side and regions.

The words for each finding stand in table.py, those that deny or doubt it in negation.py, and those that say where it is
in placement.py.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from xr2text.parallel import worker_map
from xr2text.text.findings.fragments import EXCEPT
from xr2text.text.findings.negation import ABSENT, MAYBE, PRESENT, UNCERTAIN, read_statuses
from xr2text.text.findings.placement import place
from xr2text.text.findings.table import FINDING_NAMES, FINDINGS, SIDED_FINDINGS, Finding
from xr2text.text.plain import join_questions, plain_sentence, plain_text
from xr2text.text.sections import split_sentences

if TYPE_CHECKING:
    import pandas as pd

WORTH_PROCESSES = 50_000  # least number of distinct sentences for which more processes pay off, since each loads spaCy
NO_FINDING, SUPPORT_DEVICES = "no finding", "support devices"
LABELS = {PRESENT: 1, ABSENT: 0, UNCERTAIN: -1}
_WEIGHT = {0: 0, -1: 1, 1: 2}


@dataclass(frozen=True)
class Mention:
    """One finding that one sentence speaks of.

    Attributes:
        finding: a name out of `FINDING_NAMES`.
        status: "present", "absent" or "uncertain".
        side: the patient's "right" or "left", "bilateral", or None where the sentence does not say.
        regions: names out of `anatomy.REGION_NAMES`.
    """

    finding: str
    status: str
    side: str | None
    regions: tuple[str, ...]


def find_mentions(text: str) -> list[Mention]:
    """The findings that a report names, sentence by sentence, in order."""
    return [mention for sentence in report_sentences(text) for mention in _read_sentence(sentence)]


def contradictions(text: str) -> frozenset[str]:
    """The findings that a report asserts as present in one place and denies in another, on the same side."""
    mentions = find_mentions(text)
    denied = [mention for mention in mentions if mention.status == ABSENT]
    return frozenset(
        mention.finding
        for mention in mentions
        for denial in denied
        if mention.status == PRESENT and mention.finding == denial.finding
        and {mention.side, denial.side} != {"right", "left"}
    )  # fmt: skip


def label_report(text: str) -> dict[str, int]:
    """Each finding that a report mentions: 1 present, 0 absent, -1 uncertain.

    Present in one sentence outweighs uncertain in another, and that absent. "no finding" is 1 where nothing but support
    devices is present or uncertain, else 0; an empty text has no labels at all.
    """
    return _combine(_sentence_labels(sentence) for sentence in report_sentences(text))


def label_sides(text: str) -> dict[str, int]:
    """Labels of the findings of one side, see `SIDED_FINDINGS`: 1 present, -1 uncertain, 0 where the report does not
    assert the finding on that side. Left out where the report asserts the finding without a side."""
    asserted = [mention for mention in find_mentions(text) if mention.status != ABSENT]
    labels = {}
    for name, (finding, side) in SIDED_FINDINGS.items():
        mentions = [mention for mention in asserted if mention.finding == finding]
        on_side = [(name, LABELS[mention.status]) for mention in mentions if mention.side in (side, "bilateral")]
        if on_side or all(mention.side for mention in mentions):
            labels[name] = _strongest(on_side).get(name, 0)
    return labels


def label_reports(texts: Sequence[str], processes: int = 1, progress: bool = False) -> "pd.DataFrame":
    """Labels of many reports.

    Args:
        texts: N reports.
        processes: that share the work.
        progress: show a progress bar.

    Returns:
        N rows in the order of `texts`, a column per finding in the order of `FINDING_NAMES`, nullable Int8: 1 present,
        0 absent, -1 uncertain, missing where the report does not mention it.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    reports = [report_sentences(text) for text in texts]
    distinct = list(dict.fromkeys(sentence for report in reports for sentence in report))  # many recur
    with worker_map(processes if len(distinct) > WORTH_PROCESSES else 1) as each:
        answers = each(_sentence_labels, distinct)
        bar = tqdm(answers, "reading sentences", len(distinct), unit="sentence", disable=not progress, mininterval=1)
        labels = dict(zip(distinct, bar, strict=True))
    rows = [_combine(labels[sentence] for sentence in report) for report in reports]
    return pd.DataFrame(rows, index=range(len(rows)), columns=list(FINDING_NAMES)).astype("Int8")


def _sentence_labels(sentence: str) -> dict[str, int]:
    return _strongest((match.finding.name, LABELS[status]) for match, status in _assertions(sentence) if status)


def _strongest(labels: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The strongest label of each finding: present, then uncertain, then absent."""
    strongest: dict[str, int] = {}
    for name, label in labels:
        strongest[name] = max(strongest.get(name, 0), label, key=_WEIGHT.__getitem__)
    return strongest


def _combine(sentences: Iterable[dict[str, int]]) -> dict[str, int]:
    sentences = list(sentences)
    labels = _strongest(pair for sentence in sentences for pair in sentence.items())
    if sentences:
        labels[NO_FINDING] = int(not any(label for name, label in labels.items() if name != SUPPORT_DEVICES))
    return labels


@dataclass(frozen=True)
class _Match:
    """A place where a sentence names a finding, by one of its patterns `says`, `denies` or `doubts`."""

    finding: Finding
    claim: str  # "says", "denies" or "doubts"
    start: int
    end: int
    hedged: bool  # contains a word of doubt, as in "the heart is probably enlarged"


_BREAK = re.compile(r"\n\s*\n|\n\s*(?=(?:[-*•]|\d{1,2}[.)])\s|[A-Z][a-z])")
_CLOSED = re.compile(r"(?<=[.?!])[)\]>\"']+(?=\s+[A-Z])")  # closing brackets and quotes after a sentence's end
_HEDGE = re.compile(rf"\b(?:{MAYBE}|borderline|questionabl[ey]|perhaps|suspected)\b")


def report_sentences(text: str) -> list[str]:
    """Splits a report into sentences.

    A list's items, paragraphs and lines before a capital end like sentences, and so does a full stop that has lost its
    space; other line breaks are a page's, and "vs." ends nothing.
    """
    text = _CLOSED.sub("", re.sub(r"\bvs\.", "vs", plain_text(text)))
    parts = _BREAK.split(join_questions(text))
    parts = [re.sub(r"(?<=[a-z])\.(?=[A-Z][a-z])", ". ", " ".join(part.split())) for part in parts]
    return [sentence for part in parts for sentence in split_sentences(part)]


def _read_sentence(sentence: str) -> list[Mention]:
    text, assertions = plain_sentence(sentence), _assertions(sentence)
    spans = [(match.start, match.end) for match, _ in assertions]
    mentions = []
    for index, (match, status) in enumerate(assertions):
        if status is not None:
            where = place(text, index, spans, match.finding)
            mentions.append(Mention(match.finding.name, status, *where))
    return list(dict.fromkeys(mentions))


@lru_cache(maxsize=100_000)
def _assertions(sentence: str) -> tuple[tuple[_Match, str | None], ...]:
    """The findings that a sentence names, each with its status; None where it names a finding without asserting
    anything."""
    text = plain_sentence(sentence)
    matches = _matches(text)
    # A denial pattern holds whatever the words around it.
    open_spans = [(match.start, match.end) for match in matches if match.claim != "denies"]
    statuses = iter(read_statuses(text, open_spans) if open_spans else ())
    assertions = []
    for match in matches:
        status = ABSENT if match.claim == "denies" else next(statuses)
        if status == PRESENT and (match.claim == "doubts" or match.hedged):
            status = UNCERTAIN
        assertions.append((match, status))
    return tuple(assertions)


def _matches(text: str) -> list[_Match]:
    found = [
        _Match(finding, claim, match.start(), match.end(), _HEDGE.search(match[0]) is not None)
        for finding, claim, pattern in _patterns()
        for match in pattern.finditer(text)
    ]
    found = [match for match in found if not any(_overrules(rival, match) for rival in found)]
    return sorted(found, key=lambda match: (match.start, match.end))


def _overrules(rival: _Match, match: _Match) -> bool:
    """Whether `rival` replaces `match`: a doubt replaces a denial of the finding, and a denial the plain words that it
    contains."""
    if rival.finding is not match.finding:
        return False
    if rival.claim == "doubts":
        return match.claim == "denies"
    holds = rival.start <= match.start and match.end <= rival.end
    return rival.claim == "denies" and match.claim == "says" and holds


@cache
def _patterns() -> list[tuple[Finding, str, re.Pattern]]:
    return [
        (finding, claim, re.compile("|".join(rf"\b(?:{_careful(source)})(?!\w)" for source in sources)))
        for finding in FINDINGS
        for claim in ("says", "denies", "doubts")
        if (sources := getattr(finding, claim))
    ]


def _careful(pattern: str) -> str:
    """Excludes negations and other verdicts from the free words of a pattern."""
    word = rf"(?!(?:no|not|nor|without|normal|unremarkable|but|with|clear|{EXCEPT})\b)\w+"
    for loose in (r"(?: \w+)", r"(?:\w+ )", r"(?:,? \w+)"):
        pattern = pattern.replace(loose, loose.replace(r"\w+", word))
    return pattern
