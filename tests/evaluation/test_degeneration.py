import pytest

from xr2text.evaluation.degeneration import count_slips
from xr2text.text.words import report_words

WORDS = report_words(
    ["The heart is enlarged. No cardiomegaly. XXXX opacity at the left base.",
     "The lungs are clear. No pleural effusion.", "No effusion. Enlarged heart."] * 2
)  # fmt: skip
REPEATED, DENIED, TWICE, REDACTED, STRANGE, UNHEARD = count_slips([], WORDS)


@pytest.mark.parametrize(
    "text, slips",
    [
        ("The heart is enlarged. No pleural effusion.", set()),
        ("The lungs are clear. No effusion. The lungs are  clear", {REPEATED}),
        ("The heart is enlarged. No cardiomegaly.", {DENIED}),
        ("Enlarged enlarged heart.", {TWICE, UNHEARD}),
        ("The hearungs are clear.", {STRANGE}),
        ("The are clear.", {UNHEARD}),
        ("XXXX opacity at the left base.", {REDACTED}),
        ("", set()),
    ],
)
def test_a_slip_is_found_where_it_is(text, slips):
    assert {name for name, count in count_slips([text], WORDS).items() if count} == slips


def test_texts_are_counted_and_not_slips():
    assert count_slips(["Clear clear lungs lungs.", "Clear lungs.", "The the heart."], WORDS)[TWICE] == 2
    assert count_slips(["Cleart lungz.", "Clear lungs."], WORDS)[STRANGE] == 1
