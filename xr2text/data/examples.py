"""Which radiographs stand for which studies, without an object for each of hundreds of thousands.

Letters: E examples.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch

from xr2text.data.index import UNKNOWN, StudyTable
from xr2text.data.study import Image, Study

Item = TypeVar("Item")


class Examples(Sequence):
    """Pairs of a study and one of its radiographs.

    Attributes:
        studies: that they are of.
        rows: [E] of each example's study among these.
        places: [E] of its radiograph among the study's.
        empty: ids of the studies that have a frontal radiograph, but nothing to learn from.
    """

    def __init__(self, studies: Sequence[Study], rows: np.ndarray, places: np.ndarray, empty: Sequence[str] = ()):
        self.studies, self.rows, self.places, self.empty = studies, rows, places, tuple(empty)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Study, Image]:
        study = self.studies[self.rows[index]]
        return study, study.images[self.places[index]]


class Lazy(Sequence, Generic[Item]):
    """What `make` gives for each index, made when it is asked for."""

    def __init__(self, count: int, make: Callable[[int], Item]):
        self.count, self.make = count, make

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.make(index)

    def as_is(self) -> "Lazy[Item]":
        return self


def has_report(study: Study, impression: bool) -> bool:
    """Whether there is something to learn to write from."""
    return bool(study.findings or (impression and study.impression))


def examples_of(studies: Sequence[Study], training: bool, impression: bool, mask_repeats: int = 1) -> Examples:
    """Studies with the radiographs they are shown by, see `ReportDataset`."""
    if isinstance(studies, StudyTable):
        return _examples_of_table(studies, training, impression, mask_repeats)
    pairs, empty = [], []
    for row, study in enumerate(studies):
        frontal = [place for place, image in enumerate(study.images) if image in study.frontal_images]
        if not training:
            pairs.append((row, (frontal or [0])[0]))
        elif has_report(study, impression) or study.labels or study.masks:
            pairs += [(row, place) for place in frontal] * (mask_repeats if study.masks else 1)
        elif frontal:
            empty.append(study.id)
    rows, places = np.array(pairs, np.int64).reshape(-1, 2).T
    return Examples(studies, rows, places, empty)


def _examples_of_table(table: StudyTable, training: bool, impression: bool, mask_repeats: int) -> Examples:
    """The same, column by column."""
    row, place, view = table.views()
    frontal, some_known, some_frontal = view == 1, np.zeros(len(table), bool), np.zeros(len(table), bool)
    np.logical_or.at(some_known, row, view != 0)
    np.logical_or.at(some_frontal, row, frontal)
    # The first image without a view stands for a study without a frontal one.
    unknown = np.flatnonzero((view == 0) & ~some_frontal[row])
    first_unknown = unknown[np.unique(row[unknown], return_index=True)[1]]
    shown = frontal.copy()
    shown[first_unknown] = True
    if not training:
        without = np.ones(len(table), bool)
        without[row[shown]] = False
        shown[(place == 0) & without[row]] = True
        chosen = np.flatnonzero(shown)
        chosen = chosen[np.unique(row[chosen], return_index=True)[1]]
        return Examples(table, row[chosen], place[chosen])
    findings, impressions = table.text_lengths()
    masked = table.masked()
    learnt = (findings > 0) | (impression & (impressions > 0)) | (table.labels() != UNKNOWN).any(1) | masked
    chosen = np.flatnonzero(shown & learnt[row])
    chosen = np.repeat(chosen, np.where(masked[row[chosen]], mask_repeats, 1))
    empty = np.unique(row[shown & ~learnt[row]])
    return Examples(table, row[chosen], place[chosen], [table[index].id for index in empty])


def finding_row(study: Study, findings: Iterable[str]) -> list[float]:
    """1 for each finding that is present or uncertain, 0 for one that is absent, NaN where nothing is known."""
    return [float(abs(study.labels[name])) if name in study.labels else math.nan for name in findings]


def finding_rows(examples: Examples, findings: Sequence[str]) -> torch.Tensor:
    """[E, F] float32, `finding_row` of each example."""
    if not isinstance(examples.studies, StudyTable):
        return torch.tensor([finding_row(study, findings) for study, _ in examples])
    table = examples.studies
    known = table.labels()
    rows = np.full((len(table), len(findings)), np.nan, np.float32)
    for column, name in enumerate(findings):
        if name in table.label_names:
            values = known[:, table.label_names.index(name)]
            rows[:, column] = np.where(values == UNKNOWN, np.nan, np.abs(values))
    return torch.from_numpy(rows[examples.rows])


def report_lengths(examples: Examples, impression: bool) -> np.ndarray:
    """[E] characters of each example's report."""
    if isinstance(examples.studies, StudyTable):
        findings, impressions = examples.studies.text_lengths()
    else:
        findings = np.array([len(study.findings) for study in examples.studies], np.int64)
        impressions = np.array([len(study.impression) for study in examples.studies], np.int64)
    return (findings + impressions * impression)[examples.rows]


def label_names(studies: Sequence[Study]) -> frozenset[str]:
    """Every finding of which something is known in a study."""
    if isinstance(studies, StudyTable):
        known = (studies.labels() != UNKNOWN).any(0)
        return frozenset(name for name, one in zip(studies.label_names, known, strict=True) if one)
    return frozenset().union(*(study.labels for study in studies))
