import pytest
from example_report import make_report

from xr2text.inference.confidence import confidence_in_words, disagreements, read_findings, sentence_confidence

PROBABILITIES = {"cardiomegaly": 0.7, "pleural effusion": 0.05, "nodule": 0.4, "edema": 0.01}
THRESHOLDS = {"cardiomegaly": 0.3, "pleural effusion": 0.2, "edema": 0.2}


def test_the_head_is_read_beside_the_report():
    text = "The heart is normal in size. There is a small pleural effusion. No pulmonary edema."
    readings = {one.name: one for one in read_findings(text, PROBABILITIES, THRESHOLDS)}
    assert list(readings) == list(PROBABILITIES)
    assert [one.written for one in readings.values()] == ["absent", "present", None, "absent"]
    assert [one.seen for one in readings.values()] == [True, False, False, False]  # a nodule's threshold is 0.5
    assert [one.disagrees for one in readings.values()] == [True, True, False, False]
    assert read_findings("", {}, {}) == ()


def test_each_disagreement_is_told_in_a_sentence():
    text = "The heart is normal in size. There is a small pleural effusion."
    told = disagreements(read_findings(text, PROBABILITIES | {"nodule": 0.8}, THRESHOLDS))
    assert told == (
        "The report denies cardiomegaly; the finding head gives it 70% (it counts from 30%).",
        "The report does not speak of nodule; the finding head gives it 80% (it counts from 50%).",
        "The report says pleural effusion; the finding head gives it 5% (it counts from 20%).",
    )
    assert disagreements(read_findings("Cardiomegaly.", PROBABILITIES, THRESHOLDS)) == ()


@pytest.mark.parametrize(
    ("sentence", "confidence"),
    [
        ("There is cardiomegaly.", 0.7),
        ("The heart is normal in size.", 0.3),
        ("No pleural effusion or nodule.", 0.6),  # the less probable of the two
        ("There is a pneumothorax.", 0.9),  # the head does not know it: how fluently it was written
        ("Comparison is made.", 0.9),
    ],
)
def test_a_sentence_is_as_sure_as_what_it_says_of_findings(sentence, confidence):
    assert sentence_confidence(sentence, 0.9, PROBABILITIES) == pytest.approx(confidence)


def test_confidence_has_three_words():
    assert [confidence_in_words(one) for one in (1.0, 0.8, 0.79, 0.5, 0.49, 0)] == [
        "high", "high", "moderate", "moderate", "low", "low",
    ]  # fmt: skip


def test_an_edited_report_keeps_the_regions_of_what_was_left_as_it_was():
    report = make_report()
    edited = report.with_text("The heart is normal.\nThere is a nodule.", "No acute disease. ")
    assert edited.edited and not report.edited
    assert edited.findings == "The heart is normal. There is a nodule."
    assert [(one.text, one.region, one.section) for one in edited.sentences] == [
        ("The heart is normal.", "heart", "findings"),
        ("There is a nodule.", None, "findings"),
        ("No acute disease.", "left lung", "impression"),
    ]
    assert report.with_text("The heart is normal.  The lungs are clear.", report.impression) is report
    assert edited.with_text("", "").sentences == ()


def test_an_edited_report_is_compared_with_the_head_anew():
    report = make_report(readings=read_findings("The heart is normal.", PROBABILITIES, THRESHOLDS))
    assert any("denies cardiomegaly" in one for one in report.doubts)
    edited = report.with_text("There is cardiomegaly.", report.impression)
    assert not any("cardiomegaly" in one for one in edited.doubts)
    assert edited.finding_readings[0].probability == 0.7 and edited.finding_readings[0].threshold == 0.3
