import pytest

from xr2text.evaluation.degeneration import count_slips

REPEATED, DENIED, TWICE, REDACTED = count_slips([])


@pytest.mark.parametrize(
    "text, slips",
    [
        ("The heart is enlarged. No pleural effusion.", set()),
        ("The lungs are clear. No effusion. The lungs are  clear", {REPEATED}),
        ("The heart is enlarged. No cardiomegaly.", {DENIED}),
        ("Enlarged enlarged heart.", {TWICE}),
        ("XXXX opacity at the left base.", {REDACTED}),
        ("", set()),
    ],
)
def test_a_slip_is_found_where_it_is(text, slips):
    assert {name for name, count in count_slips([text]).items() if count} == slips


def test_texts_are_counted_and_not_slips():
    assert count_slips(["Clear clear lungs lungs.", "Clear lungs.", "The the heart."])[TWICE] == 2
