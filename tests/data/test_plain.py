import pytest

from xr2text.data.plain import PLAIN_SENTENCES, SIDED_SENTENCES, plain_findings, plain_impression
from xr2text.data.recombine import certain_findings
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.findings.table import FINDING_NAMES, FINDING_REGIONS, KINDS, SIDED_FINDINGS
from xr2text.text.sections import ReportText


def test_each_finding_has_a_plain_sentence_that_says_it_and_no_more():
    assert {"no finding", *PLAIN_SENTENCES} == set(FINDING_NAMES)
    for name, sentences in PLAIN_SENTENCES.items():
        for sentence in sentences:
            said = {(mention.finding, mention.status, mention.side) for mention in find_mentions(sentence)}
            assert said == {(finding, "present", None) for finding in (name, KINDS.get(name, name))}


@pytest.mark.parametrize("side", ["right", "left", "both"])
def test_a_plain_sentence_of_a_side_says_it_and_no_more(side):
    for name, (one, both) in SIDED_SENTENCES.items():
        sentence = both if side == "both" else one.format(side=side)
        sided = {kind for kind, (finding, at) in SIDED_FINDINGS.items() if finding == name and side in (at, "both")}
        told = dict(
            zip(FINDING_REGIONS, certain_findings(ReportText(sentence, ""), list(FINDING_REGIONS)), strict=True)
        )
        said = {finding for finding, present in told.items() if present == 1}
        assert said == sided | {name, KINDS.get(name, name)}


def test_a_sentence_becomes_plain_where_nothing_but_findings_would_be_lost():
    sentence = "Small bilateral effusions with a rounded mass in the right upper lobe."
    assert plain_findings(sentence, sided=False) == "There is a lung mass. There is a pleural effusion."
    assert plain_findings(sentence, sided=True) == "There is a lung mass. There are bilateral pleural effusions."
    assert plain_impression(sentence) == "Lung mass. Pleural effusion."
    for kept in (
        "Possible right effusion.",
        "Effusion, but no edema.",
        "The heart is normal in size.",
        "Chest, two views.",
    ):
        assert plain_findings(kept, sided=True) == plain_impression(kept) == kept
