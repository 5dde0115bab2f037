import pytest

from xr2text.evaluation.degeneration import TrainingText, count_degeneration

TRAINING = TrainingText.from_reports(
    ["The heart is enlarged. No cardiomegaly. XXXX opacity at the left base.",
     "The lungs are clear. No pleural effusion.", "No effusion. Enlarged heart. The lungs are enlarged."] * 2
)  # fmt: skip


@pytest.mark.parametrize(
    "text, faults",
    [
        ("The heart is enlarged. No pleural effusion.", set()),
        ("The lungs are clear. No effusion. The lungs are  clear", {"repeated_sentence"}),
        ("The heart is enlarged. No cardiomegaly.", {"contradiction"}),
        ("Enlarged enlarged heart.", {"doubled_word", "unknown_pair", "unknown_triple"}),
        ("The hearungs are clear.", {"unknown_word"}),
        ("The are clear.", {"unknown_pair", "unknown_triple"}),
        ("The lungs are enlarged heart.", {"unknown_triple"}),
        ("XXXX opacity at the left base.", {"deidentified_word"}),
        ("", set()),
    ],
)
def test_a_fault_is_found_where_it_is(text, faults):
    assert {name for name, count in count_degeneration([text], TRAINING).items() if count} == faults


def test_texts_are_counted_and_not_faults():
    texts = ["Clear clear lungs lungs.", "Clear lungs.", "The the heart.", "Cleart lungz."]
    counts = count_degeneration(texts, TRAINING)
    assert (counts["doubled_word"], counts["unknown_word"]) == (2, 1)
