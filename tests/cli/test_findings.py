"""The command that labels a file of reports."""

import pandas as pd
import pytest

from xr2text.cli.main import main
from xr2text.text.findings.table import FINDING_NAMES

REPORTS = ["The heart is enlarged. Small left effusion. No pneumothorax.", "Heart size is normal.", ""]


def test_a_file_is_labelled(tmp_path):
    reports = pd.DataFrame({"study": ["b", "a", "c"], "text": REPORTS, "name": ["x", "y", "z"]})
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
def test_what_is_missing_is_named(tmp_path, capsys, file, column, message):
    (tmp_path / "reports.csv").write_text("study,text\n1,No effusion.\n")
    assert main(["findings", str(tmp_path / file), "--column", column, "--out", str(tmp_path / "out.csv")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id,report\n1,No pneumothorax. Small effusion.,\n", "line 2: 3 cells"),
        ("id,report\n1,Clear.\n2,No edema, effusion, or pneumothorax.\n", "line 3: 4 cells"),
        ("cardiomegaly,report,id\n1,Cardiomegaly.,1\n", "--keep 'cardiomegaly': the labels have a column of this name"),
    ],
)
def test_what_would_shift_or_clash_is_refused(tmp_path, capsys, rows, message):
    (tmp_path / "reports.csv").write_text(rows)
    keep = ["--keep", "id", *(["cardiomegaly"] if "cardiomegaly" in rows else [])]
    command = ["findings", str(tmp_path / "reports.csv"), "--column", "report", "--out", str(tmp_path / "out.csv")]
    assert main([*command, *keep]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


WHOLE = """FINAL REPORT
 HISTORY:  Left pneumothorax.

 TECHNIQUE:  AP view over a pacemaker. The sensitivity to detect pneumothorax is diminished.

 FINDINGS:  Small left pleural effusion.

 IMPRESSION:  No edema.

 RECOMMENDATION(S):  Repeat to exclude pneumonia."""


@pytest.mark.parametrize(
    ("options", "text", "labels"),
    [
        ([], WHOLE, {"pleural effusion": 1, "edema": 0}),
        (
            [],
            "History: Left pneumothorax. Findings: Cardiomegaly. Impression: No edema.",
            {"cardiomegaly": 1, "edema": 0},
        ),
        ([], "HISTORY: left pneumothorax", {}),
        ([], "Cardiomegaly.\n\nNo edema.", {"cardiomegaly": 1, "edema": 0}),
        (["--whole"], WHOLE, {"pleural effusion": 1, "edema": 0, "support devices": 1}),
    ],
)
def test_of_a_whole_report_the_sections_are_found_first(tmp_path, options, text, labels):
    pd.DataFrame({"text": [text]}).to_csv(tmp_path / "reports.csv", index=False)
    command = ["findings", str(tmp_path / "reports.csv"), "--column", "text", "--out", str(tmp_path / "out.csv")]
    assert main([*command, *options, "--processes", "1"]) == 0
    (row,) = pd.read_csv(tmp_path / "out.csv").to_dict("records")
    assert {name: value for name, value in row.items() if value == value and name != "no finding"} == labels
