"""Where a report places a finding: its side and regions, by the words that belong to it.

The words between a finding's neighbours in its sentence belong to it, up to the next joint: "and", "with", a comma.
"""

import re
from collections.abc import Sequence

from xr2text.anatomy import REGIONS
from xr2text.text.findings.table import Finding

Span = tuple[int, int]  # start and end in the sentence, in characters
Place = tuple[str | None, tuple[str, ...]]  # side and regions, see `labeler.Mention`

_SIDE_WORDS = {
    "right": r"right(?:ward|-sided)?|rt|rul|rml|rll|azygos",
    "left": r"left(?:ward|-sided)?|lt|lul|lll|lingula\w*",
    "bilateral": r"bilateral(?:ly)?|both|bi-?basilar|bibasal|bi-?apical",
}
_SIDE = re.compile("|".join(rf"(?P<{side}>\b(?:{words})\b)" for side, words in _SIDE_WORDS.items()))
# "Small right and moderate left effusions", "no right or left effusion"; not where the first side is another finding's.
_WORDS = (
    r"(?:[- ](?:sided|upper|middle|mid|lower|lobe|lobes|zone|base|bases|basal|basilar|apex|apical|perihilar|hilar|"
    r"pleural|tiny|trace|small|minimal|mild|moderate|large|focal|patchy|subsegmental|a))*"
)
_TWO_SIDES = re.compile(
    "|".join(
        rf"\b(?:{_SIDE_WORDS[first]})\b{_WORDS}(?:,? (?:and|or|and/or)| ?/){_WORDS} ?(?:{_SIDE_WORDS[second]})\b"
        for first, second in (("right", "left"), ("left", "right"))
    )
)
# "On the right, none on the left": the second side is free.
_OTHER_SIDE = re.compile(r"(?:,|\band|\bbut) (?:none|not|nothing)(?: (?:on|in|at|the|seen|present))* (?:right|left)\b")
_PLACE_OF = re.compile(r"\b(?:in|of|at|on|within|involving) (?:the )?$")
_JOINT = re.compile(r"\band\b|\bor\b|\bwith\b|,|;|\bwithout\b|\bbut\b")
_ONLY_JOINED = re.compile(r"\s*(?:,|and|or|and/or|/|with|, and|, or)\s*(?:\w+\s)?")
_BOTH_COMPARED = re.compile(
    r",? (?:\w+ )?(?:left|right) (?:\w+ )?(?:greater|larger|more|less|worse|smaller)(?: \w+)? than"
)
_PLACES = [
    (region.name, re.compile("|".join(rf"\b{re.escape(word)}" for word in region.vocabulary))) for region in REGIONS
]


def place(sentence: str, index: int, spans: Sequence[Span], finding: Finding) -> Place:
    """The side and the regions of one finding of a sentence.

    Args:
        sentence: in lower case.
        index: of the finding among `spans`.
        spans: of every finding that the sentence names.
        finding: its row of the table.
    """
    span = spans[index]
    side = _side(sentence, span, spans)
    before, inside, after = _nearby_words(sentence, span, spans)
    return side, _regions(before + inside + after, finding, side)


def _zones(sentence: str, span: Span, spans: Sequence[Span]) -> tuple[str, str]:
    """The words before and after a finding, up to the neighbouring findings."""
    before = max((end for _, end in spans if end <= span[0]), default=0)
    after = min((start for start, _ in spans if start >= span[1]), default=len(sentence))
    return sentence[before : span[0]], sentence[span[1] : after]


def _nearby_words(sentence: str, span: Span, spans: Sequence[Span]) -> tuple[str, str, str]:
    """The words before, in and after a finding, up to the neighbouring findings or a joint, such as "and" or a
    comma."""
    before, after = _zones(sentence, span, spans)
    return _JOINT.split(before)[-1], sentence[slice(*span)], _JOINT.split(after)[0]


def _side_of(words: str) -> str | None:
    sides = {found.lastgroup for found in _SIDE.finditer(_OTHER_SIDE.sub("", words))}
    if not sides:
        return None
    return sides.pop() if len(sides) == 1 else "bilateral"


def _side(sentence: str, span: Span, spans: Sequence[Span]) -> str | None:
    before, after = _zones(sentence, span, spans)
    if _BOTH_COMPARED.match(after):
        return "bilateral"
    ahead, inside, behind = _nearby_words(sentence, span, spans)
    joined = _TWO_SIDES.search(before + inside)
    if joined and joined.end() > len(before) - len(ahead) and not _PLACE_OF.search(before[: joined.start()]):
        return "bilateral"
    if _side_of(behind) and after == sentence[span[1] :]:
        behind = after  # "in the right upper and left lower lobes"
    return _side_of(ahead + inside) or _side_of(behind) or _side_of(before) or _shared_side(sentence, span, spans)


def _shared_side(sentence: str, span: Span, spans: Sequence[Span]) -> str | None:
    """The side of a joined finding: "right effusion and atelectasis", "consolidation or atelectasis of the right
    base"."""
    rest = [neighbour for neighbour in spans if neighbour != span]
    earlier = [neighbour for neighbour in rest if neighbour[1] <= span[0]]
    if earlier and _ONLY_JOINED.fullmatch(sentence[earlier[-1][1] : span[0]]):
        return _side(sentence, earlier[-1], rest)
    later = [neighbour for neighbour in rest if neighbour[0] >= span[1]]
    if later and _ONLY_JOINED.match(sentence[span[1] : later[0][0]]):
        return _side(sentence, later[0], rest)
    return None


def _regions(words: str, finding: Finding, side: str | None) -> tuple[str, ...]:
    possible = finding.regions + finding.elsewhere
    named = tuple(name for name, pattern in _PLACES if name in possible and pattern.search(words))
    regions = named or finding.regions
    other_lung = {"right": "left lung", "left": "right lung"}.get(side)
    return tuple(name for name in regions if name != other_lung) or regions
