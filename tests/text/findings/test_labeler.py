"""Labels of sentences and of whole reports."""

import pandas as pd
import pytest
from finding_sentences import load_cases

from xr2text.text.findings import labeler
from xr2text.text.findings.labeler import contradictions, find_mentions, label_report, label_reports, label_sides
from xr2text.text.findings.table import FINDING_NAMES

CASES = load_cases()
REPORTS = [
    "The heart is enlarged. Small left pleural effusion. No pneumothorax.",
    "Heart size is normal. The lungs are clear.",
    "",
    "Possible pneumonia at the right base. A pacemaker is in place.",
    "Possible edema. Pulmonary edema is present.",
    "No edema. Edema cannot be excluded.",
]
NOTHING_ABNORMAL = (
    "Heart size is normal. The lungs are clear.",
    "No acute cardiopulmonary abnormality.",
    "No focal consolidation, pleural effusion, or pneumothorax. Osseous structures are intact.",
    "Endotracheal tube ends 4 cm above the carina. Lungs are clear. No pneumothorax.",
    "A left PICC ends in the SVC.",
    "Rule out pneumonia. Heart and lungs are normal.",
    "The previously seen effusion has resolved. Lungs are clear.",
    "Pneumonia is unlikely. The heart is not enlarged.",
    "Normal chest.",
)
SOMETHING_ABNORMAL = (
    "Mild cardiomegaly. Lungs are clear.",
    "Possible left lower lobe pneumonia.",
    "No pneumothorax. Heart size is top normal.",
    "Blunting of the left costophrenic angle. Lungs are otherwise clear.",
    "No change in the small right pleural effusion.",
    "Right PICC in place. Bibasilar atelectasis is stable.",
    "No acute disease. Severe degenerative changes of the thoracic spine.",
    "Lungs are clear except for a 5 mm nodule in the right lower lobe.",
)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_labels_of_a_sentence(case):
    labels = label_report(case.text)
    labels.pop("no finding", None)
    assert labels == case.labels, case


def test_the_sentences_are_distinct_and_examine_every_finding():
    assert len({case.text.lower() for case in CASES}) == len(CASES)
    for finding in FINDING_NAMES[1:]:
        labels = [case.labels[finding] for case in CASES if finding in case.labels]
        assert len(labels) >= 4 and labels.count(1) >= 2, finding
    assert {finding for case in CASES for finding in case.labels} <= set(FINDING_NAMES)


@pytest.mark.parametrize("text", NOTHING_ABNORMAL)
def test_no_finding(text):
    assert label_report(text)["no finding"] == 1


@pytest.mark.parametrize("text", SOMETHING_ABNORMAL)
def test_a_finding(text):
    assert label_report(text)["no finding"] == 0


def test_present_outweighs_uncertain_and_uncertain_outweighs_absent():
    assert label_report(REPORTS[4])["edema"] == 1
    assert label_report(REPORTS[5])["edema"] == -1


def test_an_empty_text_has_no_labels():
    assert label_report("  ") == {}


def test_a_finding_both_asserted_and_denied_is_a_contradiction():
    assert contradictions("The heart is enlarged. No pneumothorax. The heart is normal in size.") == {"cardiomegaly"}
    assert contradictions("Possible edema. No edema.") == frozenset()
    assert contradictions("Small left effusion. No pneumothorax.\n\nLeft effusion.") == frozenset()
    assert contradictions("Small right pleural effusion. No left pleural effusion.") == frozenset()
    assert contradictions("Small right pleural effusion. No pleural effusion.") == {"pleural effusion"}
    assert contradictions("Bilateral effusions. No left pleural effusion.") == {"pleural effusion"}


def test_a_mention_keeps_its_side_and_regions():
    report = "Heart size is normal.  There is a small left\npleural effusion."
    (effusion,) = [mention for mention in find_mentions(report) if mention.finding == "pleural effusion"]
    assert (effusion.status, effusion.side) == ("present", "left")
    assert effusion.regions == ("costophrenic angles",)


def test_list_items_and_paragraphs_are_read_apart_and_wrapped_lines_together():
    assert label_report("- No pleural effusion\n- Cardiomegaly") == {
        "pleural effusion": 0, "cardiomegaly": 1, "no finding": 0,
    }  # fmt: skip
    assert label_report("1. No edema\n2. Scoliosis")["scoliosis"] == 1
    assert label_report("No pneumothorax\n\nIMPRESSION: Atelectasis")["atelectasis"] == 1
    assert label_report("There is no\npleural effusion.")["pleural effusion"] == 0
    assert label_report("No pneumothorax\nSmall left effusion")["pleural effusion"] == 1
    assert label_report("(No edema.) Small effusion.")["pleural effusion"] == 1
    assert label_report("Opacity worrisome for aspiration vs. early pneumonia.")["pneumonia"] == -1


def test_structured_reports_are_read_across_their_colons():
    assert label_report("Heart size: normal.\nLungs: Clear.\nPneumothorax: none.") == {
        "cardiomegaly": 0, "lung opacity": 0, "consolidation": 0, "pneumothorax": 0, "no finding": 1,
    }  # fmt: skip
    assert label_report("The heart is enlarged and the mediastinum is normal.") == {
        "cardiomegaly": 1, "enlarged cardiomediastinum": 0, "no finding": 0,
    }  # fmt: skip
    assert label_report("Edema has resolved, with residual small effusions.")["pleural effusion"] == 1
    assert label_report("The effusion is no worse.")["pleural effusion"] == 1


def test_many_reports_are_labelled_as_each_alone():
    table = label_reports(REPORTS)
    assert list(table.columns) == list(FINDING_NAMES) and len(table) == len(REPORTS)
    assert (table.dtypes == "Int8").all()
    for row, report in zip(table.to_dict("records"), REPORTS, strict=True):
        assert {name: value for name, value in row.items() if not pd.isna(value)} == label_report(report)
    assert label_reports([]).shape == (0, len(FINDING_NAMES))


@pytest.mark.slow
def test_processes_share_the_work_without_changing_the_labels(monkeypatch):
    texts = [*REPORTS, *(f"Opacity number {n} in the left lung." for n in range(300))]
    monkeypatch.setattr(labeler, "WORTH_PROCESSES", 10)
    pd.testing.assert_frame_equal(label_reports(texts, processes=2), label_reports(texts))


def test_findings_of_one_side_are_known_where_the_report_says_the_side():
    labels = label_sides("There is a small left pleural effusion. Possible right lung opacity. No pneumothorax.")
    assert (labels["left pleural effusion"], labels["right pleural effusion"]) == (1, 0)
    assert (labels["left lung opacity"], labels["right lung opacity"]) == (0, -1)
    assert (labels["left pneumothorax"], labels["right pneumothorax"]) == (0, 0)
    both = label_sides("Bilateral pleural effusions.")
    assert both["left pleural effusion"] == both["right pleural effusion"] == 1
    assert not {"left pleural effusion", "right pleural effusion"} & set(label_sides("There is a pleural effusion."))
