"""What a run leaves to read: its figures, sample reports and the validation reports of its end."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xr2text.data.dataset import ReportDataset
from xr2text.text.sections import ReportText
from xr2text.training.report import Sample


def append_history(path: Path, row: dict) -> pd.DataFrame:
    """Adds an epoch's figures to history.csv, and gives it all; a resumed run that repeats an epoch replaces its row.

    The file is written anew beside the old one, so that a kill leaves one of them whole. Columns may come and go.
    """
    rows = pd.DataFrame([row])
    if path.is_file():
        old = pd.read_csv(path)
        rows = pd.concat([old[old["epoch"] != row["epoch"]], rows], ignore_index=True)
    draft = path.with_name(f".{path.name}.draft")
    rows.to_csv(draft, index=False)
    os.replace(draft, path)
    return rows


def append_samples(path: Path, epoch: int, samples: Sequence[Sample]) -> None:
    """Adds an epoch's sample reports to samples.md, beside what the radiologist wrote."""
    with path.open("a") as file:
        file.write(f"\n## Epoch {epoch}\n")
        for one in samples:
            file.write(
                f"\n**{one.study_id}**\n\n- reference: {one.reference.findings} / {one.reference.impression}\n"
                f"- generated: {one.report.findings} / {one.report.impression}\n"
            )


def write_table(path: Path, data: ReportDataset, reports: dict[int, ReportText]) -> None:
    """validation_reports.csv: each study's reference and generated sections."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "reference_findings", "reference_impression", "findings", "impression"])
        for index, report in sorted(reports.items()):
            study = data.examples[index][0]
            table.writerow([study.id, study.findings, study.impression, report.findings, report.impression])
