"""What a report asserts beside what the finding head sees: how sure each sentence is, and where the two disagree."""

from collections.abc import Mapping
from dataclasses import dataclass

from xr2text.text.findings.labeler import find_mentions, label_report

HIGH, MODERATE = 0.8, 0.5  # confidence from which a sentence's is called so; below MODERATE it is low
_WRITTEN = {1: "present", 0: "absent", -1: "uncertain"}


@dataclass(frozen=True)
class FindingReading:
    """One finding of the finding head.

    Attributes:
        name: of the finding.
        probability: that it is present, calibrated on the validation studies, in [0, 1].
        threshold: from which it counts as present.
        written: what the report says of it: "present", "uncertain", "absent", or None where it is silent.
    """

    name: str
    probability: float
    threshold: float
    written: str | None

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
    """The head's findings beside a report's text; a finding without a threshold of its own has 0.5."""
    written = {name: _WRITTEN[label] for name, label in label_report(text).items()}
    return tuple(
        FindingReading(name, probability, thresholds.get(name, 0.5), written.get(name))
        for name, probability in probabilities.items()
    )


def sentence_confidence(sentence: str, likelihood: float, probabilities: Mapping[str, float]) -> float:
    """How likely a sentence is true, in [0, 1], as far as the model knows.

    Of a sentence that speaks of findings which the head knows, the least probable of what it says of them: the head's
    probability where it asserts one, the rest to 1 where it denies it. Of any other, `likelihood`.

    Args:
        likelihood: geometric mean of the probabilities of the sentence's tokens.
    """
    said = [
        1 - probabilities[one.finding] if one.status == "absent" else probabilities[one.finding]
        for one in find_mentions(sentence)
        if one.finding in probabilities
    ]
    return min(said, default=likelihood)


def confidence_in_words(confidence: float) -> str:
    """ "high", "moderate" or "low"."""
    return "high" if confidence >= HIGH else "moderate" if confidence >= MODERATE else "low"


def disagreements(readings: tuple[FindingReading, ...]) -> tuple[str, ...]:
    """A sentence for each finding in which report and head disagree, those first that the head is surest of."""
    lines = []
    for one in sorted(readings, key=lambda one: -abs(one.probability - one.threshold)):
        if not one.disagrees:
            continue
        head = f"the finding head gives it {one.probability:.0%} (it counts from {one.threshold:.0%})"
        if not one.seen:
            lines.append(f"The report says {one.name}; {head}.")
        elif one.written is None:
            lines.append(f"The report does not speak of {one.name}; {head}.")
        else:
            lines.append(f"The report denies {one.name}; {head}.")
    return tuple(lines)
