"""The words that a collection's reports are written in: a byte-level decoder can spell what is no word."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

_WORD = re.compile(r"[^\W\d_]+")


def report_words(texts: Iterable[str]) -> set[str]:
    """Words, in lower case, of at least two texts: one text's alone may be mistyped, or a name."""
    counts = Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
    return {word for word, count in counts.items() if count > 1}


def strange_words(text: str, known: Collection[str]) -> list[str]:
    """The words of a text that are not among those known, in order."""
    return [word for word in _WORD.findall(text.lower()) if word not in known]
