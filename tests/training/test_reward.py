import pytest

from xr2text.training.reward import report_rewards

REFERENCE = "The heart is enlarged. There is a small left pleural effusion. No pneumothorax."


def test_the_reference_itself_has_the_highest_reward():
    same, near, other, nothing = report_rewards(
        [REFERENCE] * 4, [REFERENCE, "The heart is enlarged. No pneumothorax.", "The lungs are clear.", ""], 0.5
    )
    assert same == pytest.approx(2.5, abs=1e-3) and same > near > other >= nothing


def test_findings_count_by_their_weight():
    written = ["Cardiomegaly is seen, and fluid blunts the left costophrenic sulcus.", "The bones are intact."]
    alone = report_rewards([REFERENCE] * 2, written, 0.0)
    weighed = report_rewards([REFERENCE] * 2, written, 2.0) - alone
    assert weighed[0] > 1 and weighed[1] == 0
    normal = report_rewards(["The lungs are clear."], ["Normal heart."], 2.0)
    assert normal > 1.9  # both say that there is no finding


def test_without_a_reference_nothing_is_known():
    assert report_rewards(["", " "], ["The lungs are clear."] * 2, 0.5).tolist() == [0, 0]
    assert report_rewards(["", REFERENCE], [REFERENCE] * 2, 0.5)[0] == 0
