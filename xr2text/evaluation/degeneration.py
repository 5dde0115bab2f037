"""What is wrong with a written text whatever the radiograph shows."""

import re
from collections.abc import Callable, Sequence

from xr2text.text.findings.labeler import contradictions, report_sentences

_TWICE = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)


def count_slips(texts: Sequence[str]) -> dict[str, int]:
    """How many of N texts have each slip, under the slip's name."""
    return {name: sum(map(has_slip, texts)) for name, has_slip in _SLIPS.items()}


def _repeats_a_sentence(text: str) -> bool:
    sentences = [" ".join(re.findall(r"\w+", sentence.casefold())) for sentence in report_sentences(text)]
    return len(set(sentences)) < len(sentences)


_SLIPS: dict[str, Callable[[str], bool]] = {
    "a sentence repeated": _repeats_a_sentence,
    "a finding asserted and denied": lambda text: bool(contradictions(text)),
    "a word twice in a row": lambda text: bool(_TWICE.search(text)),
    'a de-identified word ("XXXX")': lambda text: "xxxx" in text.casefold(),
}
