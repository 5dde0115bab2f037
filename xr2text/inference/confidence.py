"""Confidence: how sure each sentence of a report is, and where report and finding head disagree."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from xr2text.errors import XR2TextError
from xr2text.model.findings import FindingMeasure
from xr2text.text.findings.labeler import ABSENT, LABELS, PRESENT, UNCERTAIN, find_mentions, label_report, label_sides
from xr2text.text.findings.table import KINDS

HIGH, MODERATE = 0.8, 0.5  # least confidence of these levels; below MODERATE it is low
POSSIBLE = 2  # multiple of its usual probability from which an absent finding counts as possible
_WRITTEN = {label: status for status, label in LABELS.items()}


class FindingError(XR2TextError, ValueError):
    """A finding that cannot be set; the message says why, in words for the reader."""


@dataclass(frozen=True)
class FindingReading:
    """One finding: the head's probability, what the report says of it and what a person has set."""

    name: str
    probability: float  # calibrated probability that it is present, in [0, 1]
    threshold: float  # probability from which it counts as present
    written: str | None = None  # what the report says: "present", "uncertain", "absent", or None where it is silent
    set_to: str | None = None  # PRESENT or ABSENT as a person has set it; None: as the head sees it
    measure: FindingMeasure | None = None  # how well the head knows it; None where nobody has measured

    @property
    def seen(self) -> bool:
        """Whether the finding counts as present: as a person has set it, else by the head."""
        return self.set_to == PRESENT if self.set_to else self.probability >= self.threshold

    @property
    def assessed(self) -> bool:
        """Whether the head knows the finding well enough to rely on; True where nobody has measured."""
        return self.measure is None or self.measure.assessed

    @property
    def possible(self) -> bool:
        """Whether the finding counts as absent although the head gives it at least twice its usual probability."""
        return self.measure is not None and not self.seen and self.probability >= POSSIBLE * self.measure.prevalence

    @property
    def disagrees(self) -> bool:
        """Whether the report asserts a finding that counts as absent, or leaves out or denies one that counts as
        present. The latter only where a person has set the finding, or the head knows it."""
        if self.written in (PRESENT, UNCERTAIN):
            return not self.seen
        return self.seen and (self.assessed or self.set_to is not None)


def with_finding(findings: Mapping[str, str], name: str, state: str, known: Collection[str]) -> dict[str, str]:
    """The set findings with one more. With a present finding its general one is present, with an absent one its special
    kinds are absent."""
    names = [name]
    pairs = list(KINDS.items())  # nodules of a side, then nodules
    for kind, general in pairs if state == PRESENT else pairs[::-1]:
        found, related = (kind, general) if state == PRESENT else (general, kind)
        if found in names and related in known:
            names.append(related)
    return {**findings, **dict.fromkeys(names, state)}


def without_finding(findings: Mapping[str, str], name: str, known: Collection[str]) -> dict[str, str]:
    """The set findings without one of them, and without what was set along with it."""
    with_it = with_finding({}, name, findings[name], known) if name in findings else {}
    return {finding: state for finding, state in findings.items() if with_it.get(finding) != state}


def check_set_findings(findings: Mapping[str, str] | None, known: Iterable[str]) -> dict[str, str]:
    """The findings that a person has set, by name, completed as `with_finding` does. Raises FindingError for an unknown
    name or state, and for two that contradict each other."""
    known, checked = list(known), {}
    for name, state in (findings or {}).items():
        if not known:
            raise FindingError("This model has no finding head, so no finding can be set.")
        if name not in known:
            raise FindingError(f"{name!r} is no finding of this model; accepted: {', '.join(known)}.")
        if state not in (PRESENT, ABSENT):
            raise FindingError(f"A finding is set to {PRESENT} or {ABSENT}; {name!r} was set to {state!r}.")
        checked = with_finding(checked, name, state, known)
    if wrong := [name for name, state in (findings or {}).items() if checked[name] != state]:
        raise FindingError(f"{wrong[0]!r} cannot be {findings[wrong[0]]} beside the other findings that are set.")
    return checked


def read_findings(text: str, readings: Iterable[FindingReading]) -> tuple[FindingReading, ...]:
    """The readings, with what a report's text says of each finding."""
    labels = label_report(text)
    labels |= {name: label for name, label in label_sides(text).items() if label}
    written = {name: _WRITTEN[label] for name, label in labels.items()}
    return tuple(replace(reading, written=written.get(reading.name)) for reading in readings)


def sentence_confidence(sentence: str, likelihood: float, readings: Iterable[FindingReading]) -> float:
    """How likely a sentence is true, in [0, 1], as far as the model knows.

    What a sentence says of a finding has the head's probability p where it asserts it, and 1 - p where it denies it;
    the least of these counts. A sentence that speaks of no finding of the head has `likelihood`, and so has one whose
    findings a person has set or the head does not know.

    Args:
        likelihood: geometric mean of the probabilities of the sentence's tokens.
    """
    counted = {reading.name: reading.probability for reading in readings if reading.assessed and not reading.set_to}
    probabilities = [
        1 - counted[mention.finding] if mention.status == ABSENT else counted[mention.finding]
        for mention in find_mentions(sentence)
        if mention.finding in counted
    ]
    return min(probabilities, default=likelihood)


def spoken_of(sentence: str, readings: Iterable[FindingReading]) -> dict[str, tuple[str, ...]]:
    """The findings of a sentence that need a remark: "not_assessed" by the model, "possible" although denied, "as_set"
    by a person, and "against_set" where the sentence contradicts that person."""
    statuses = {mention.finding: mention.status for mention in find_mentions(sentence)}
    groups: dict[str, list[str]] = {"not_assessed": [], "possible": [], "as_set": [], "against_set": []}
    for reading in readings:
        if reading.name in statuses and reading.set_to:
            agrees = (reading.set_to == ABSENT) == (statuses[reading.name] == ABSENT)
            groups["as_set" if agrees else "against_set"].append(reading.name)
        elif reading.name in statuses and not reading.assessed:
            groups["not_assessed"].append(reading.name)
        elif statuses.get(reading.name) == ABSENT and reading.possible:
            groups["possible"].append(reading.name)
    return {group: tuple(names) for group, names in groups.items()}


def confidence_in_words(confidence: float) -> str:
    """ "high", "moderate" or "low"."""
    return "high" if confidence >= HIGH else "moderate" if confidence >= MODERATE else "low"


def disagreements(readings: tuple[FindingReading, ...]) -> tuple[str, ...]:
    """A sentence for each finding in which report and head disagree; those of which the head is surest come first."""
    lines = []
    for reading in sorted(readings, key=lambda reading: -abs(reading.probability - reading.threshold)):
        if not reading.disagrees:
            continue
        source = f"the finding head gives it {reading.probability:.0%} (it counts from {reading.threshold:.0%})"
        if reading.set_to:
            source = f"a person has set it to {reading.set_to}"
        if not reading.seen:
            lines.append(f"The report says {reading.name}; {source}.")
        elif reading.written is None:
            lines.append(f"The report does not speak of {reading.name}; {source}.")
        else:
            lines.append(f"The report denies {reading.name}; {source}.")
    return tuple(lines)
