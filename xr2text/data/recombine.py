"""Augmentation of reports: training reports are given findings of others, reworded, simplified, completed and sorted.

From a few thousand reports a decoder learns by heart which sentences go together, and hardly uses its finding tokens.
In reports with sentences combined at random, only the finding tokens predict the next sentence. The order of sentences
is fixed: if a sentence could stand anywhere, it would be improbable at each place, and beam search would leave it out.
Normal sentences are exchanged: otherwise the most probable report is one that a radiologist dictated many times.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from statistics import mean

import numpy as np

from xr2text.data.curriculum import read_report
from xr2text.data.plain import plain_findings, plain_impression
from xr2text.text.findings.labeler import ABSENT, PRESENT, find_mentions
from xr2text.text.findings.table import KINDS, SIDED_FINDINGS
from xr2text.text.sections import ReportText, split_sentences

MOST_FINDINGS = 3  # findings added to a report
PLAIN, SIDED = 0.5, 0.5  # fraction of reports in plain sentences; fraction of these that name sides
OPACITIES = {"atelectasis", "consolidation", "edema", "lung lesion", "pneumonia"}  # of the lungs, as in CheXpert
USUALLY_DENIED = 0.2  # a finding denied in at least this fraction of reports is denied where a report does not name it
SIZE = re.compile(r"\d\s?(?:mm|cm|millimet\w+|centimet\w+)\b", re.IGNORECASE)
# Words of what a frontal view alone does not show: earlier studies, the patient's history, the other view.
BEYOND = re.compile(
    r"\b(?:stable|unchanged|interval|again|previous(?:ly)?|compar\w+|since|history|developed|persist\w*|worse\w*|"
    r"improv\w+|resol[uv]\w+|increasing|no longer|new|"
    r"lateral (?:view|film|image|projection|radiograph)s?|prior (?:study|exam|film|chest|radiograph)\w*)\b",
    re.IGNORECASE,
)


class Recombiner:
    """Rewrites training reports: findings first, usual denials complete, and sentences of several reports combined."""

    def __init__(self, reports: Iterable[ReportText]):
        donors, places = defaultdict(list), defaultdict(list)  # by asserted finding; by that, or by the denied findings
        denials, assertions, denied, count = defaultdict(list), defaultdict(list), Counter(), 0
        for report in reports:
            sentences = split_sentences(report.findings)
            for number, sentence in enumerate(sentences):
                place = number / len(sentences)
                for finding in _asserted(sentence):
                    places[finding].append(place)
                if _only_denied(sentence):
                    places[_only_denied(sentence)].append(1 + place)  # behind all assertions
                if BEYOND.search(sentence):
                    continue
                if _only_denied(sentence):
                    denials[_only_denied(sentence)].append(sentence)
                elif _asserted(sentence):
                    assertions[_asserted(sentence)].append(sentence)
            for finding in sorted(set().union(*map(_certain, sentences))):
                donors[finding].append(report)
            denied.update(set().union(*map(_only_denied, sentences)))
            count += bool(sentences)
        self._donors = dict(sorted(donors.items()))
        self._denials = dict(sorted(denials.items(), key=lambda item: (-len(item[1]), sorted(item[0]))))
        self._assertions = assertions
        self._usual = {finding for finding, reports in denied.items() if reports >= USUALLY_DENIED * count}
        self._places = {named: mean(found) for named, found in places.items()}

    def arrange(self, report: ReportText) -> ReportText:
        """Sorts the sentences: assertions first, then denials, each at its average place in the training reports. Any
        other sentence stays behind the one before it."""
        place, placed = 1.0, []
        for sentence in split_sentences(report.findings):
            if _asserted(sentence):
                place = min(self._places.get(finding, 1.0) for finding in _asserted(sentence))
            elif _only_denied(sentence):
                place = self._places.get(_only_denied(sentence), 2.0)
            placed.append((place, sentence))
        placed.sort(key=lambda pair: pair[0])
        return ReportText(" ".join(sentence for _, sentence in placed), report.impression)

    def complete(self, report: ReportText, random: np.random.Generator) -> ReportText:
        """Adds to the findings section what only the impression asserts, and a denial of each usually denied finding
        that the report does not name. Denials come from other reports, the most usual kinds first."""
        sentences = _with_impression(report)
        missing = self._usual - {finding for sentence in sentences for finding, _ in _claims(sentence)}
        missing -= _not_to_deny(frozenset().union(*map(_asserted, sentences)))
        for findings, alike in self._denials.items():
            if findings <= missing:
                sentences.append(alike[random.integers(len(alike))])
                missing -= findings
        return ReportText(" ".join(sentences), report.impression)

    def reword(self, report: ReportText, random: np.random.Generator) -> ReportText:
        """Exchanges sentences and keeps the findings. In the findings section, a denial becomes one from any report
        that denies the same. A sentence about what the study does not show becomes one that asserts the same, or is
        left out where it asserts nothing."""

        def reword(sentences: Iterable[str], denials: dict[frozenset[str], list[str]]) -> str:
            reworded = []
            for sentence in sentences:
                alike = denials.get(_only_denied(sentence))
                if BEYOND.search(sentence) and not alike:
                    if not _asserted(sentence):
                        continue
                    alike = self._assertions.get(_asserted(sentence))
                reworded.append(alike[random.integers(len(alike))] if alike else sentence)
            return " ".join(reworded)

        findings, impression = split_sentences(report.findings), split_sentences(report.impression)
        return ReportText(reword(findings, self._denials), reword(impression, {}))

    def simplify(self, report: ReportText, random: np.random.Generator) -> ReportText:
        """Makes some reports say of each finding only that it is present, or on which side. A finding head often sees
        no more, and a decoder that is given no side must not learn to invent one. A sentence with a size is
        always replaced so, or dropped: no report names a size."""
        plain, sided = random.random() < PLAIN, random.random() < SIDED

        def simplify(section: str, say: Callable[[str], str]) -> str:
            sentences = [say(text) if plain or SIZE.search(text) else text for text in split_sentences(section)]
            return " ".join(sentence for sentence in dict.fromkeys(sentences) if not SIZE.search(sentence))

        return ReportText(
            simplify(report.findings, partial(plain_findings, sided=sided)),
            simplify(report.impression, plain_impression),
        )

    def recombine(self, report: ReportText, random: np.random.Generator) -> ReportText:
        """Adds up to `MOST_FINDINGS` findings, drawn with equal probability, each in a sentence of another report. The
        report's own sentences about them are removed, and so are sentences of the impression that assert nothing."""
        count = min(len(self._donors), int(random.integers(1, MOST_FINDINGS + 1)))
        for index in random.choice(len(self._donors), count, replace=False) if count else ():
            finding, donors = list(self._donors.items())[index]
            report = _insert(report, donors[random.integers(len(donors))], finding)
        return report


def certain_findings(report: ReportText, findings: Sequence[str]) -> list[float]:
    """[F], the findings that a decoder is given for a training report: 1 present for certain, 0 not, NaN unknown."""
    said, _ = read_report(report)
    said = dict.fromkeys(SIDED_FINDINGS, 0) | said  # a finding without a side is on no side
    return [float(said[name] == 1) if name in said else math.nan for name in findings]


def _insert(report: ReportText, donor: ReportText, finding: str) -> ReportText:
    """Puts the donor's sentences that assert the finding into `report`."""
    sentence = next(text for text in split_sentences(donor.findings) if finding in _certain(text))
    asserted = _asserted(sentence)

    def others(text: str) -> list[str]:
        kept = _not_denying(asserted, split_sentences(text))
        return [text for text in kept if not {name for name, _ in _claims(text)} & asserted]

    impression = [text for text in split_sentences(donor.impression) if _asserted(text) and _asserted(text) <= asserted]
    impression += [text for text in others(report.impression) if _asserted(text)]
    return ReportText(" ".join([sentence, *others(report.findings)]), " ".join(impression))


def _with_impression(report: ReportText) -> list[str]:
    """The sentences of the findings, preceded by those of the impression that assert only further findings. Denials of
    these are left out."""
    sentences = split_sentences(report.findings)
    for sentence in split_sentences(report.impression):
        asserted = _asserted(sentence)
        if asserted and not asserted & frozenset().union(*map(_asserted, sentences)):
            sentences = [sentence, *_not_denying(asserted, sentences)]
    return sentences


def _not_denying(asserted: frozenset[str], sentences: Iterable[str]) -> list[str]:
    return [sentence for sentence in sentences if not _only_denied(sentence) & _not_to_deny(asserted)]


def _asserted(sentence: str) -> frozenset[str]:
    return frozenset(name for name, said in _claims(sentence) if said)


@lru_cache(maxsize=100_000)
def _certain(sentence: str) -> frozenset[str]:
    """The findings that a sentence asserts without doubt; none where it speaks of things that the study does not
    show."""
    if BEYOND.search(sentence):
        return frozenset()
    names = {mention.finding for mention in find_mentions(sentence) if mention.status == PRESENT}
    return frozenset(names | {KINDS[name] for name in names if name in KINDS})


def _only_denied(sentence: str) -> frozenset[str]:
    """The findings that a sentence denies; none where it also asserts one, or names a side."""
    if _asserted(sentence) or re.search(r"\b(?:left|right)\b", sentence, re.IGNORECASE):
        return frozenset()
    return frozenset(name for name, _ in _claims(sentence))


def _not_to_deny(asserted: frozenset[str]) -> frozenset[str]:
    """The findings that a report must not deny beside these: with edema, it must not call the lungs clear."""
    return asserted | {"lung opacity"} if asserted & OPACITIES else asserted


@lru_cache(maxsize=100_000)
def _claims(sentence: str) -> frozenset[tuple[str, bool]]:
    """The findings that a sentence names, and whether it asserts them. A special finding also counts as its general
    one."""
    claims = {(mention.finding, mention.status != ABSENT) for mention in find_mentions(sentence)}
    return frozenset(claims | {(KINDS[name], said) for name, said in claims if name in KINDS})
