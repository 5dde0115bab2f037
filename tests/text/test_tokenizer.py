import pytest

from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import (
    BASE_TOKENS,
    EOS,
    IGNORED,
    decode_report,
    encode_report,
    locate_sentences,
    pad_labels,
    sentence_marks,
    train_tokenizer,
)

TEXTS = ["The heart is normal in size. The lungs are clear.", "No acute disease.", "Small left pleural effusion."] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 350)


def test_the_first_ids_are_those_of_bart(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(BASE_TOKENS)) == [0, 1, 2, 3]
    assert tokenizer.pad_token_id == 1 and tokenizer.eos_token_id == 2


@pytest.mark.parametrize(
    "report",
    [
        ReportText("The heart is normal in size.", "No acute disease."),
        ReportText("A 2.5 cm mass, unseen before: 50% larger!", "Mass (new)."),
        ReportText("", "No acute disease."),
        ReportText("The lungs are clear.", ""),
    ],
)
def test_a_report_is_decoded_as_it_was(tokenizer, report):
    ids = encode_report(tokenizer, report, 200)
    assert decode_report(tokenizer, ids) == report
    assert (ids[-1] == EOS) == bool(report.impression)  # without an impression, what follows is not known


def test_sentences_know_their_tokens(tokenizer):
    report = ReportText("The lungs are clear. Small left pleural effusion.", "No acute disease.")
    ids = encode_report(tokenizer, report, 200)
    located = locate_sentences(tokenizer, ids)
    assert [(section, text) for section, text, _ in located] == [
        ("findings", "The lungs are clear."),
        ("findings", "Small left pleural effusion."),
        ("impression", "No acute disease."),
    ]
    for _, text, places in located:
        assert tokenizer.decode([ids[place] for place in places]).strip() == text
    positions = [place for *_, places in located for place in places]
    assert positions == sorted(set(positions)) and len(positions) == len(ids) - 3  # all but <findings>, ..., </s>


def test_the_tokens_that_end_a_sentence(tokenizer):
    marks = sentence_marks(tokenizer)
    stop, comma, five, letter = tokenizer.convert_tokens_to_ids([".", ",", "5", "T"])
    assert stop in marks.ends and comma not in marks.ends and five in marks.digits and letter not in marks.digits
    assert marks.spaced
    for token, spaced in marks.spaced.items():
        assert tokenizer.convert_ids_to_tokens(spaced) == f"Ġ{tokenizer.convert_ids_to_tokens(token)}"


def test_findings_alone_are_closed_where_reports_have_no_impression(tokenizer):
    ids = encode_report(tokenizer, ReportText("The lungs are clear.", "No acute disease."), 200, impression=False)
    assert ids[-1] == EOS and decode_report(tokenizer, ids) == ReportText("The lungs are clear.", "")
    assert encode_report(tokenizer, ReportText("", "No acute disease."), 200, impression=False) == []


def test_long_reports_are_cut(tokenizer):
    assert len(encode_report(tokenizer, ReportText("clear " * 100, "x"), 20)) == 20


def test_what_follows_the_end_is_ignored(tokenizer):
    report = ReportText("The lungs are clear.", "No acute disease.")
    ids = encode_report(tokenizer, report, 200)
    assert decode_report(tokenizer, [*ids, *ids[3:6], 1, 1]) == report


def test_labels_are_padded_by_the_ignored_value():
    assert pad_labels([[5, 6, 7], [8]]).tolist() == [[5, 6, 7], [8, IGNORED, IGNORED]]
