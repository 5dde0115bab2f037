"""The examples of training and evaluation: which radiographs represent which studies.

Shapes: E examples, N studies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from xr2text.data.study import Image, Study
from xr2text.data.study_table import StudyTable

MASK_REPEATS = 4  # how often a study with masks is among the training examples, since such studies are few


@dataclass(frozen=True, eq=False)
class Examples(Sequence[tuple[Study, Image]]):
    """Pairs of a study and one of its radiographs.

    Attributes:
        studies: that they are of.
        rows: [E] of each example's study among these.
        places: [E] of its radiograph among the study's.
        empty: ids of the studies that have a frontal radiograph, but nothing to learn from.
    """

    studies: StudyTable
    rows: np.ndarray
    places: np.ndarray
    empty: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Study, Image]:
        study = self.studies[self.rows[index]]
        return study, study.images[self.places[index]]

    def __iter__(self) -> Iterator[tuple[Study, Image]]:
        for study, place in zip(self.studies.select(self.rows), self.places.tolist(), strict=True):
            yield study, study.images[place]


def reported(studies: StudyTable, impression: bool) -> np.ndarray:
    """[N] bool, the studies with a report to learn to write from."""
    return (studies.text_lengths("findings") > 0) | (impression & (studies.text_lengths("impression") > 0))


def supervised(studies: StudyTable) -> np.ndarray:
    """[N] bool, the studies with labels or masks, which teach something without a report."""
    return studies.masked() | ~np.isnan(studies.labels(studies.label_names)).all(1)


def examples_of(studies: StudyTable, training: bool, impression: bool) -> Examples:
    """Studies with the radiographs they are shown by.

    In training every frontal radiograph of a study from which something can be learnt; in evaluation each study once,
    with its first frontal radiograph or, where it has none, its first image.
    """
    frontal = studies.column("frontal")
    counts = pc.list_value_length(frontal).to_numpy()
    rows, places = np.repeat(np.arange(len(studies)), counts), pc.list_flatten(frontal).to_numpy()
    if not training:
        first = np.zeros(len(studies), np.int64)
        first[rows[::-1]] = places[::-1]  # the first one is written last
        return Examples(studies, np.arange(len(studies)), first)
    learnt = reported(studies, impression) | supervised(studies)
    shown = np.flatnonzero(learnt[rows])
    shown = np.repeat(shown, np.where(studies.masked()[rows[shown]], MASK_REPEATS, 1))
    empty = studies.select(~learnt & (counts > 0)).ids()
    return Examples(studies, rows[shown], places[shown], tuple(empty))


def report_lengths(examples: Examples, impression: bool) -> np.ndarray:
    """[E] characters of each example's report."""
    lengths = examples.studies.text_lengths("findings")
    if impression:
        lengths = lengths + examples.studies.text_lengths("impression")
    return lengths[examples.rows]
