from dataclasses import replace

import pytest
from example_report import make_report

from xr2text.inference.confidence import (
    FindingError,
    FindingReading,
    check_set_findings,
    confidence_in_words,
    disagreements,
    read_findings,
    sentence_confidence,
    spoken_of,
    with_finding,
    without_finding,
)
from xr2text.inference.report import Sentence
from xr2text.model.findings import FindingMeasure

PROBABILITIES = {"cardiomegaly": 0.7, "pleural effusion": 0.05, "nodule": 0.4, "edema": 0.01}
THRESHOLDS = {"cardiomegaly": 0.3, "pleural effusion": 0.2, "edema": 0.2}

KNOWN = FindingMeasure(40, 250, (0.8, 0.65, 0.9), (0.9, 0.86, 0.93), (0.9, 0.85, 0.95))
RARE = FindingMeasure(3, 290, (0.3, 0.1, 0.8), (0.9, 0.86, 0.93), (0.7, 0.5, 0.9))


def readings_of(text, changed=(), **all_of_them):
    """The head's readings beside a text; `changed` has fields by name."""
    changed = dict(changed)
    heads = [
        replace(FindingReading(name, p, THRESHOLDS.get(name, 0.5), **all_of_them), **changed.get(name, {}))
        for name, p in PROBABILITIES.items()
    ]
    return read_findings(text, heads)


def test_the_head_is_read_beside_the_report():
    text = "The heart is normal in size. There is a small pleural effusion. No pulmonary edema."
    readings = {one.name: one for one in readings_of(text)}
    assert list(readings) == list(PROBABILITIES)
    assert [one.written for one in readings.values()] == ["absent", "present", None, "absent"]
    assert [one.seen for one in readings.values()] == [True, False, False, False]  # a nodule's threshold is 0.5
    assert [one.disagrees for one in readings.values()] == [True, True, False, False]
    assert read_findings("", ()) == ()


def test_each_disagreement_is_told_in_a_sentence():
    text = "The heart is normal in size. There is a small pleural effusion."
    told = disagreements(readings_of(text, {"nodule": {"probability": 0.8}}))
    assert told == (
        "The report denies cardiomegaly; the finding head gives it 70% (it counts from 30%).",
        "The report does not speak of nodule; the finding head gives it 80% (it counts from 50%).",
        "The report says pleural effusion; the finding head gives it 5% (it counts from 20%).",
    )
    assert disagreements(readings_of("Cardiomegaly.")) == ()


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
    assert sentence_confidence(sentence, 0.9, readings_of(sentence)) == pytest.approx(confidence)


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
    report = make_report(readings=readings_of("The heart is normal."))
    assert any("denies cardiomegaly" in one for one in report.doubts)
    edited = report.with_text("There is cardiomegaly.", report.impression)
    assert not any("cardiomegaly" in one for one in edited.doubts)
    assert edited.finding_readings[0].probability == 0.7 and edited.finding_readings[0].threshold == 0.3


def test_what_a_person_has_set_counts_and_not_what_the_head_sees():
    text = "The heart is normal in size. There is a small pleural effusion."
    changed = {"cardiomegaly": {"set_to": "absent"}, "pleural effusion": {"set_to": "present"}}
    readings = {one.name: one for one in readings_of(text, changed)}
    assert [readings[name].seen for name in changed] == [False, True]
    assert disagreements(tuple(readings.values())) == ()
    said = disagreements(readings_of("The heart is normal in size.", {"cardiomegaly": {"set_to": "present"}}))
    assert said == ("The report denies cardiomegaly; a person has set it to present.",)
    assert sentence_confidence("There is cardiomegaly.", 0.6, readings_of("", changed)) == 0.6


def test_a_sentence_is_told_from_what_a_person_set():
    readings = readings_of(
        "",
        {
            "nodule": {"set_to": "present"},
            "edema": {"measure": RARE},
            "cardiomegaly": {"measure": KNOWN},
            "pleural effusion": {"measure": KNOWN, "probability": 0.28, "threshold": 0.3},  # 40 of 290 are 14 %
        },
    )
    for sentence, expected in (
        ("There is a nodule.", {"as_set": ("nodule",)}),
        ("There is no nodule or edema.", {"against_set": ("nodule",), "not_assessed": ("edema",)}),
        ("The heart is normal in size.", {}),
        ("There is no pleural effusion.", {"possible": ("pleural effusion",)}),
        ("There is a pleural effusion.", {}),
    ):
        assert {group: names for group, names in spoken_of(sentence, readings).items() if names} == expected


def test_only_what_the_model_has_can_be_set():
    assert check_set_findings(None, ["nodule"]) == {}
    assert check_set_findings({"nodule": "present"}, ["nodule"]) == {"nodule": "present"}
    known = ["nodule", "right lung nodule", "lung lesion", "pleural effusion", "left pleural effusion"]
    for given, what in (({"right lung nodule": "present"}, known[:3]), ({"lung lesion": "absent"}, known[:3]),
                        ({"nodule": "absent"}, known[:2]), ({"pleural effusion": "present"}, known[3:4])):  # fmt: skip
        assert check_set_findings(given, known) == dict.fromkeys(what, *given.values())
    for findings, names, words in (
        ({"nodule": "absent", "right lung nodule": "present"}, known, "'nodule' cannot be absent"),
        ({"right lung nodule": "present", "nodule": "absent"}, known, "'right lung nodule' cannot be present"),
        ({"noodle": "present"}, ["nodule", "mass"], "accepted: nodule, mass"),
        ({"nodule": "maybe"}, ["nodule"], "present or absent; 'nodule' was set to 'maybe'"),
        ({"nodule": "present"}, [], "no finding head"),
    ):
        with pytest.raises(FindingError, match=words):
            check_set_findings(findings, names)


def test_what_followed_from_a_finding_goes_with_it():
    known = ["nodule", "pleural effusion", "right pleural effusion", "left pleural effusion"]
    absent = with_finding({"nodule": "present"}, "pleural effusion", "absent", known)
    assert set(absent) == set(known)
    assert without_finding(absent, "pleural effusion", known) == {"nodule": "present"}
    sided = with_finding({}, "right pleural effusion", "present", known)
    assert sided == {"right pleural effusion": "present", "pleural effusion": "present"}
    assert without_finding(sided, "right pleural effusion", known) == {}
    assert without_finding({"nodule": "present"}, "pleural effusion", known) == {"nodule": "present"}


def test_what_is_not_assessed_is_never_sure_and_is_not_missed_where_it_is_denied():
    assert KNOWN.assessed and not RARE.assessed
    assert not replace(KNOWN, positives=9).assessed and not replace(KNOWN, auc=(0.7, 0.59, 0.8)).assessed
    assert not replace(KNOWN, auc=None).assessed
    likely = FindingReading("mass", 0.28, 0.3, measure=KNOWN)
    assert likely.possible and not replace(likely, probability=0.27).possible  # 40 of 290 are 14 %
    assert not replace(likely, probability=0.3).possible and not replace(likely, measure=None).possible
    text = "The heart is normal in size."
    assert disagreements(readings_of(text, measure=RARE)) == () != disagreements(readings_of(text, measure=KNOWN))
    asserted = disagreements(readings_of("There is pulmonary edema.", measure=RARE))
    assert [line.split(";")[0] for line in asserted] == ["The report says edema"]  # which nobody has seen
    assert sentence_confidence(text, 0.9, readings_of(text, measure=RARE)) == 0.9
    assert Sentence(text, "findings", {}, 0.9).certainty == "high confidence"
    assert Sentence(text, "findings", {}, 0.9, ("nodule",)).certainty == "not assessed by this model: nodule"
    denied = Sentence("There is no mass.", "findings", {}, 0.9, possible=("mass",))
    assert denied.certainty == "denied, though possible: mass"
    assert Sentence(text, "findings", {}, 0.9, (), ("nodule",)).certainty == "as a person set: nodule"
    both = Sentence(text, "findings", {}, 0.9, ("mass",), (), ("nodule",)).certainty
    assert both == "against what a person set: nodule; not assessed by this model: mass"
    assert Sentence(text, "findings", {}).certainty == "written by a person"
