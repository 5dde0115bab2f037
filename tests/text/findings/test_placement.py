"""Sides and regions of the findings of a sentence."""

import pytest
from finding_sentences import load_cases

from xr2text.text.findings.labeler import find_mentions

# These lie in or beside several regions: a case names some of them.
AMONG_OTHERS = {"enlarged cardiomediastinum", "pneumothorax", "pleural effusion", "hilar or mediastinal adenopathy"}
PLACED = [case for case in load_cases() if case.sides or case.regions]


def test_many_sentences_say_where():
    assert sum(bool(case.sides) for case in PLACED) >= 35
    assert sum(bool(case.regions) for case in PLACED) >= 20


@pytest.mark.parametrize("case", PLACED, ids=range(len(PLACED)))
def test_findings_of_a_sentence_are_placed(case):
    mentions = find_mentions(case.text)
    for finding, side in case.sides.items():
        assert side in [mention.side for mention in mentions if mention.finding == finding], f"{finding}: {case}"
    for finding, regions in case.regions.items():
        found = [set(mention.regions) for mention in mentions if mention.finding == finding]
        if finding in AMONG_OTHERS:
            assert any(regions <= places for places in found), f"{finding}: {found}: {case}"
        else:
            assert regions in found, f"{finding}: {found}: {case}"
