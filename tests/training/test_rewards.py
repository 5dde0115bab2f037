import pytest

from xr2text.training.rewards import findings_f1, rouge_l, total_reward

REFERENCE = "The heart is enlarged. There is a small left pleural effusion. No pneumothorax."


def test_the_reference_itself_has_the_highest_reward():
    drawn = [REFERENCE, "The heart is enlarged. No pneumothorax.", "The lungs are clear.", ""]
    same, near, unlike, nothing = total_reward([REFERENCE] * 4, drawn)
    assert same > near > unlike > nothing
    assert rouge_l([REFERENCE], [REFERENCE]) == pytest.approx(1)


def test_findings_count_in_other_words_and_as_uncertain_ones():
    drawn = [
        "Cardiomegaly is seen, and fluid blunts the left costophrenic sulcus.",
        "The heart may be enlarged.",
        "The bones are intact.",
    ]
    assert findings_f1([REFERENCE] * 3, drawn) == pytest.approx([1, 2 / 3, 0])


def test_two_texts_without_a_finding_agree():
    assert findings_f1(["The lungs are clear."], ["Normal heart."]) == pytest.approx(1)
