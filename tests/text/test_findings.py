"""Labels of whole reports, and the command that labels a file of them; single sentences have their own examination."""

import pandas as pd
import pytest

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.text.findings import labeler as findings
from xr2text.text.findings.labeler import contradictions, find_mentions, label_report, label_reports
from xr2text.text.findings.table import CHEXPERT_5, CHEXPERT_14, FINDING_NAMES, FINDINGS

REPORTS = [
    "The heart is enlarged. Small left pleural effusion. No pneumothorax.",
    "Heart size is normal. The lungs are clear.",
    "",
    "Possible pneumonia at the right base. A pacemaker is in place.",
    "Possible edema. Pulmonary edema is present.",
    "No edema. Edema cannot be excluded.",
]


def test_a_finding_both_asserted_and_denied_is_a_contradiction():
    assert contradictions("The heart is enlarged. No pneumothorax. The heart is normal in size.") == {"cardiomegaly"}
    assert contradictions("Possible edema. No edema.") == frozenset()
    assert contradictions("Small left effusion. No pneumothorax.\n\nLeft effusion.") == frozenset()
    assert contradictions("Small right pleural effusion. No left pleural effusion.") == frozenset()
    assert contradictions("Small right pleural effusion. No pleural effusion.") == {"pleural effusion"}
    assert contradictions("Bilateral effusions. No left pleural effusion.") == {"pleural effusion"}


def test_the_table_names_regions_and_the_fourteen_of_chexpert():
    assert len(FINDING_NAMES) == len(set(FINDING_NAMES)) >= 24
    assert set(CHEXPERT_14) <= set(FINDING_NAMES) and len(CHEXPERT_14) == 14
    assert set(CHEXPERT_5) <= set(CHEXPERT_14) and len(CHEXPERT_5) == 5
    for finding in FINDINGS[1:]:
        assert finding.regions and {*finding.regions, *finding.elsewhere} <= set(REGION_NAMES), finding.name
        assert finding.says, finding.name


def test_present_outweighs_uncertain_and_uncertain_outweighs_absent():
    assert label_report(REPORTS[4])["edema"] == 1
    assert label_report(REPORTS[5])["edema"] == -1


def test_no_finding_is_derived_and_devices_do_not_count():
    assert label_report(REPORTS[0])["no finding"] == 0
    assert label_report(REPORTS[1])["no finding"] == 1
    assert label_report("A pacemaker is in place. The lungs are clear.")["no finding"] == 1
    assert label_report(REPORTS[3])["no finding"] == 0  # an uncertain finding is one
    assert label_report("  ") == {}


def test_a_mention_keeps_its_sentence_side_and_severity():
    report = "Heart size is normal.  There is a small left\npleural effusion."
    (effusion,) = [one for one in find_mentions(report) if one.finding == "pleural effusion"]
    assert effusion.sentence == "There is a small left pleural effusion."
    assert (effusion.status, effusion.side, effusion.severity) == ("present", "left", "small")
    assert effusion.regions == ("costophrenic angles",)


def test_list_items_and_paragraphs_are_read_apart_and_wrapped_lines_together():
    assert label_report("- No pleural effusion\n- Cardiomegaly") == {
        "pleural effusion": 0, "cardiomegaly": 1, "no finding": 0,
    }  # fmt: skip
    assert label_report("1. No edema\n2. Scoliosis")["scoliosis"] == 1
    assert label_report("No pneumothorax\n\nIMPRESSION: Atelectasis")["atelectasis"] == 1
    assert label_report("There is no\npleural effusion.")["pleural effusion"] == 0
    assert label_report("No pneumothorax\nSmall left effusion")["pleural effusion"] == 1
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


def test_many_reports_are_labelled_as_one_by_one():
    table = label_reports(REPORTS)
    assert list(table.columns) == list(FINDING_NAMES) and len(table) == len(REPORTS)
    assert (table.dtypes == "Int8").all()
    for row, report in zip(table.to_dict("records"), REPORTS, strict=True):
        assert {name: value for name, value in row.items() if not pd.isna(value)} == label_report(report)


def test_processes_share_the_work_without_changing_the_labels(monkeypatch):
    texts = [*REPORTS, *(f"Opacity number {n} in the left lung." for n in range(300))]
    monkeypatch.setattr(findings, "WORTH_PROCESSES", 10)
    pd.testing.assert_frame_equal(label_reports(texts, processes=2), label_reports(texts))


def test_no_reports_give_an_empty_table():
    assert label_reports([]).shape == (0, len(FINDING_NAMES))


def test_the_command_labels_a_file(tmp_path, capsys):
    reports = pd.DataFrame({"study": ["b", "a", "c"], "text": REPORTS[:3], "name": ["x", "y", "z"]})
    reports.to_csv(tmp_path / "reports.csv", index=False)
    out = tmp_path / "new" / "labels.csv"
    command = ["findings", str(tmp_path / "reports.csv"), "--column", "text", "--out", str(out), "--processes", "1"]
    assert main(command) == 0
    assert list(pd.read_csv(out).columns) == list(FINDING_NAMES)
    assert main([*command, "--keep", "study"]) == 0
    table = pd.read_csv(out)
    assert list(table.columns) == ["study", *FINDING_NAMES]
    assert list(table["study"]) == ["b", "a", "c"]
    assert list(table["cardiomegaly"].fillna(9)) == [1, 0, 9]
    assert out.read_text().splitlines()[1].startswith("b,0,,1,")  # whole numbers, and nothing where nothing is said
    assert [file.name for file in out.parent.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("file", "column", "message"),
    [("none.csv", "text", "expected the table"), ("reports.csv", "body", "no column 'body'; it has study, text")],
)
def test_the_command_says_what_is_missing(tmp_path, capsys, file, column, message):
    (tmp_path / "reports.csv").write_text("study,text\n1,No effusion.\n")
    assert main(["findings", str(tmp_path / file), "--column", column, "--out", str(tmp_path / "out.csv")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
