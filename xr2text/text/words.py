"""The words that a collection's reports are written in, and what follows each: a byte-level decoder can spell what is
no word, and put words together that make no sentence."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

_STEP = re.compile(r"[^\W\d_]+|[.,;:]")  # a word, or a mark that stands for one


def report_words(texts: Iterable[str]) -> dict[str, set[str]]:
    """Words, in lower case, of at least two texts, since one text's alone may be mistyped, or a name; each with those,
    and the marks, that somewhere follow it. A text begins as if after a full stop."""
    counts: Counter[str] = Counter()
    pairs = set()
    for text in texts:
        steps = _steps(text)
        counts.update(set(steps))
        pairs.update(pairwise(steps))
    known: dict[str, set[str]] = {word: set() for word, count in counts.items() if count > 1}
    for word, follower in pairs:
        if word in known and follower in known:
            known[word].add(follower)
    return known


def strange_words(text: str, known: Collection[str]) -> list[str]:
    """The words of a text that are not among those known, in order."""
    return [step for step in _steps(text) if step.isalpha() and step not in known]


def strange_pairs(text: str, known: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    """Where a known word or mark of a text is followed by another that never follows it, in order."""
    steps = pairwise(_steps(text))
    return [(word, after) for word, after in steps if {word, after} <= known.keys() and after not in known[word]]


def _steps(text: str) -> list[str]:
    return [".", *_STEP.findall(text.lower())]
