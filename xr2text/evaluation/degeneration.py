"""Degeneration: faults of a generated text that need no look at the radiograph."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from xr2text.text.findings.labeler import contradictions, report_sentences

_STEP = re.compile(r"[^\W\d_]+|[.,;:]")  # a word, or a mark that stands for one
_DOUBLED_WORD = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)


@dataclass(frozen=True)
class TrainingText:
    """The words of the training reports, and which follow each other. A byte-level decoder can spell words that do not
    exist, and join words at will."""

    words: frozenset[str]  # in lower case, of at least two reports: a single report's may be mistyped, or a name
    pairs: frozenset[tuple[str, str]]  # words and marks (.,;:) that somewhere follow each other
    triples: frozenset[tuple[str, str, str]]  # within a sentence

    @classmethod
    def from_reports(cls, reports: Iterable[str]) -> "TrainingText":
        counts: Counter[str] = Counter()
        pairs, triples = set(), set()
        for report in reports:
            steps = _steps(report)
            counts.update(set(steps))
            pairs.update(pairwise(steps))
            triples.update(_triples(steps))
        return cls(frozenset(word for word, count in counts.items() if count > 1), frozenset(pairs), frozenset(triples))


def count_degeneration(texts: Sequence[str], training: TrainingText) -> dict[str, int]:
    """How many of N texts have each fault, by the fault's name. Unknown pairs and triples consist of known words."""
    counts: Counter[str] = Counter()
    for text in texts:
        sentences = [" ".join(re.findall(r"\w+", sentence.casefold())) for sentence in report_sentences(text)]
        steps, known = _steps(text), training.words.issuperset
        counts["repeated_sentence"] += len(set(sentences)) < len(sentences)
        counts["contradiction"] += bool(contradictions(text))
        counts["doubled_word"] += bool(_DOUBLED_WORD.search(text))
        counts["deidentified_word"] += "xxxx" in text.casefold()
        counts["unknown_word"] += any(step.isalpha() and step not in training.words for step in steps)
        counts["unknown_pair"] += any(known(pair) and pair not in training.pairs for pair in pairwise(steps))
        counts["unknown_triple"] += any(known(part) and part not in training.triples for part in _triples(steps))
    return dict(counts)


def _steps(text: str) -> list[str]:
    """The words and marks of a text, with a full stop put before the first."""
    return [".", *_STEP.findall(text.lower())]


def _triples(steps: list[str]) -> Iterator[tuple[str, str, str]]:
    return (triple for triple in zip(steps, steps[1:], steps[2:], strict=False) if "." not in triple)
