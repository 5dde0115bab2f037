"""Confidence: how sure each sentence of a report is, and where report and finding head disagree."""

from collections.abc import Mapping
from dataclasses import dataclass

from xr2text.text.findings.labeler import find_mentions, label_report, label_sides

HIGH, MODERATE = 0.8, 0.5  # confidence from which a sentence's is called so; below MODERATE it is low
_WRITTEN = {1: "present", 0: "absent", -1: "uncertain"}


@dataclass(frozen=True)
class FindingReading:
    """One finding of the finding head, beside what the report says of it."""

    name: str
    probability: float  # that it is present, calibrated, in [0, 1]
    threshold: float  # from which it counts as present
    written: str | None  # what the report says: "present", "uncertain", "absent", or None where it is silent

    @property
    def seen(self) -> bool:
        """Whether the head counts it as present."""
        return self.probability >= self.threshold

    @property
    def disagrees(self) -> bool:
        """Whether the report asserts what the head does not see, or leaves out or denies what it sees."""
        return self.seen != (self.written in ("present", "uncertain"))


def read_findings(
    text: str, probabilities: Mapping[str, float], thresholds: Mapping[str, float]
) -> tuple[FindingReading, ...]:
    """The head's findings beside a report's text; a finding that has no threshold has 0.5."""
    labels = label_report(text)
    labels |= {name: label for name, label in label_sides(text).items() if label}
    written = {name: _WRITTEN[label] for name, label in labels.items()}
    return tuple(
        FindingReading(name, probability, thresholds.get(name, 0.5), written.get(name))
        for name, probability in probabilities.items()
    )


def sentence_confidence(sentence: str, likelihood: float, probabilities: Mapping[str, float]) -> float:
    """How likely a sentence is true, in [0, 1], as far as the model knows.

    What a sentence says of a finding has the head's probability p where it asserts it, and 1 - p where it denies it;
    the least of these counts. A sentence that speaks of no finding of the head has `likelihood`.

    Args:
        likelihood: geometric mean of the probabilities of the sentence's tokens.
    """
    said = [
        1 - probabilities[mention.finding] if mention.status == "absent" else probabilities[mention.finding]
        for mention in find_mentions(sentence)
        if mention.finding in probabilities
    ]
    return min(said, default=likelihood)


def confidence_in_words(confidence: float) -> str:
    """ "high", "moderate" or "low"."""
    return "high" if confidence >= HIGH else "moderate" if confidence >= MODERATE else "low"


def disagreements(readings: tuple[FindingReading, ...]) -> tuple[str, ...]:
    """A sentence for each finding in which report and head disagree, those first that the head is surest of."""
    lines = []
    for reading in sorted(readings, key=lambda reading: -abs(reading.probability - reading.threshold)):
        if not reading.disagrees:
            continue
        head = f"the finding head gives it {reading.probability:.0%} (it counts from {reading.threshold:.0%})"
        if not reading.seen:
            lines.append(f"The report says {reading.name}; {head}.")
        elif reading.written is None:
            lines.append(f"The report does not speak of {reading.name}; {head}.")
        else:
            lines.append(f"The report denies {reading.name}; {head}.")
    return tuple(lines)
