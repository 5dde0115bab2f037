"""What is wrong with a written text whatever the radiograph shows."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from xr2text.model.xr2text import TWICE
from xr2text.text.findings.labeler import contradictions, report_sentences
from xr2text.text.words import strange_pairs, strange_words


def count_slips(texts: Sequence[str], known_words: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How many of N texts have each slip, under the slip's name.

    Args:
        known_words: of the training reports, see `text.words.report_words`.
    """
    counts = {name: sum(map(has_slip, texts)) for name, has_slip in _SLIPS.items()}
    strange = sum(bool(strange_words(text, known_words)) for text in texts)
    unheard = sum(bool(strange_pairs(text, known_words)) for text in texts)
    return {**counts, "a word of no two training reports": strange, "words that never follow each other there": unheard}


def _repeats_a_sentence(text: str) -> bool:
    sentences = [" ".join(re.findall(r"\w+", sentence.casefold())) for sentence in report_sentences(text)]
    return len(set(sentences)) < len(sentences)


_SLIPS: dict[str, Callable[[str], bool]] = {
    "a sentence repeated": _repeats_a_sentence,
    "a finding asserted and denied": lambda text: bool(contradictions(text)),
    "a word twice in a row": lambda text: bool(TWICE.search(text)),
    'a de-identified word ("XXXX")': lambda text: "xxxx" in text.casefold(),
}
