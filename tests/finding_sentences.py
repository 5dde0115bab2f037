"""Sentences of chest radiograph reports with their truth: the examination of the findings labeler.

They stand in text/findings/sentences.csv. Every sentence is invented. The truth was written from the conventions of
labelling, independently of the rules that it examines:
- A finding that is not named is not mentioned.
- An opacity that may be pneumonia is a present opacity and an uncertain pneumonia.
- What is only asked for, remembered or recommended asserts nothing.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "text" / "findings" / "sentences.csv"


@dataclass(frozen=True)
class Case:
    """A text and what it asserts.

    Attributes:
        text: one sentence or a short report.
        labels: every finding that the text speaks of, 1 present, 0 absent, -1 uncertain, without "no finding".
        sides: the patient's side of a finding, "right", "left" or "bilateral", where the text says it.
        regions: the anatomical regions of a finding.
        why: what makes the case hard, where it is not plain.
    """

    text: str
    labels: dict[str, int]
    sides: dict[str, str]
    regions: dict[str, frozenset[str]]
    why: str

    def __str__(self) -> str:
        return f"{self.text!r}" + (f" ({self.why})" if self.why else "")


def load_cases() -> list[Case]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return [_case(row) for row in csv.DictReader(file)]


def _case(row: dict[str, str]) -> Case:
    columns = (("present", 1), ("absent", 0), ("uncertain", -1))
    labels = {finding: label for column, label in columns for finding in _parts(row[column], "; ")}
    sides, regions = (_pairs(row[column]) for column in ("sides", "regions"))
    places = {finding: frozenset(_parts(names, " + ")) for finding, names in regions.items()}
    return Case(row["text"], labels, sides, places, row["why"])


def _parts(cell: str, mark: str) -> list[str]:
    return cell.split(mark) if cell else []


def _pairs(cell: str) -> dict[str, str]:
    return dict(part.split(": ") for part in _parts(cell, "; "))
