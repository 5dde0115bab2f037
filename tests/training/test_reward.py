import numpy as np
import pytest

from xr2text.evaluation.language import bleu_from_statistics, score_language
from xr2text.training.reward import bleu_gains, report_rewards

REFERENCE = "The heart is enlarged. There is a small left pleural effusion. No pneumothorax."


def test_the_reference_itself_has_the_highest_reward():
    same, near, other, nothing = report_rewards(
        [REFERENCE] * 4, [REFERENCE, "The heart is enlarged. No pneumothorax.", "The lungs are clear.", ""], 0.5
    )
    assert same > near > other > nothing


def test_findings_count_by_their_weight():
    written = ["Cardiomegaly is seen, and fluid blunts the left costophrenic sulcus.", "The bones are intact."]
    alone = report_rewards([REFERENCE] * 2, written, 0.0)
    weighed = report_rewards([REFERENCE] * 2, written, 2.0) - alone
    assert weighed[0] > 1 and weighed[1] == 0
    normal = report_rewards(["The lungs are clear."], ["Normal heart."], 2.0)
    assert normal > 1.9  # both say that there is no finding


def test_findings_beyond_chexperts_count_where_they_are_asked_for():
    reference, written = "The aorta is tortuous. The heart is enlarged.", ["The heart is enlarged.", "Tortuous aorta."]
    names = ["cardiomegaly", "tortuous or atherosclerotic aorta"]
    alone = report_rewards([reference] * 2, written, 0.0)
    assert report_rewards([reference] * 2, written, 1.0) - alone == pytest.approx([1, 0])
    assert report_rewards([reference] * 2, written, 1.0, findings=names) - alone == pytest.approx([2 / 3, 2 / 3])


def test_a_finding_that_only_one_text_is_certain_of_counts_as_far_as_asked_for():
    enlarged, unsure = "The heart is enlarged.", "The heart is at the upper limits of normal."
    references, written = [enlarged, enlarged, unsure], [enlarged, unsure, unsure]
    alone = report_rewards(references, written, 0.0)
    assert report_rewards(references, written, 1.0) - alone == pytest.approx([1, 1, 1])
    assert report_rewards(references, written, 1.0, unsure_match=0.25) - alone == pytest.approx([1, 0.25, 1])


def test_a_finding_that_the_reference_has_not_costs():
    reference = "The heart is enlarged. No pneumothorax."
    written = [reference, "The heart is enlarged. Possible pneumonia. Pleural effusion.", "The lungs are clear."]
    alone = report_rewards([reference] * 3, written, 0.0)
    assert report_rewards([reference] * 3, written, 0.0, false_cost=0.5) - alone == pytest.approx([0, -1, 0])


def test_recall_counts_by_its_weight():
    half = "The heart is enlarged."
    alone = report_rewards([REFERENCE] * 2, [half, REFERENCE], 0.0)
    short, whole = report_rewards([REFERENCE] * 2, [half, REFERENCE], 0.0, 2.0) - alone
    words, full = 5, 16  # full stops count
    assert short == pytest.approx(2 * words / (0.9 * full + 0.1 * words)) and whole == pytest.approx(2)


def test_without_a_reference_nothing_is_known():
    assert report_rewards(["", " "], ["The lungs are clear."] * 2, 0.5).tolist() == [0, 0]
    assert report_rewards(["", REFERENCE], [REFERENCE] * 2, 0.5)[0] == 0


@pytest.mark.parametrize("length", [5, 9, 30], ids=["short", "a little short", "long"])
def test_bleu_gains_are_the_change_of_the_corpus_score(length):
    written = [
        "The heart is enlarged. No pneumothorax.",
        " ".join(f"{REFERENCE} {REFERENCE}".split()[:length]),
        REFERENCE,
    ]
    statistics = score_language([REFERENCE] * 3, written, "full", meteor=False).bleu_statistics
    gains, step = bleu_gains(statistics), 1e-6
    for number, gain in enumerate(gains):
        weights = np.ones(3)
        weights[number] += step
        before, after = (
            bleu_from_statistics((statistics * row[:, None]).sum(0)[None])[0, 3] for row in (np.ones(3), weights)
        )
        assert gain == pytest.approx(3 * (after - before) / step, abs=1e-3)
    assert gains.sum() == pytest.approx(0, abs=1e-9)
