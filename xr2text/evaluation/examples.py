"""The studies that an evaluation shows: where the reports are worst, and where they are best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xr2text.data.sources import Study
from xr2text.evaluation.clinical import NO_FINDING
from xr2text.evaluation.plots import EXAMPLES_OF_A_KIND, Example
from xr2text.inference.overlay import Canvas, draw_grey, make_canvas
from xr2text.inference.reporter import Reporter


@dataclass(frozen=True, eq=False)
class ShownStudy:
    """A study of the examples' page, before its picture is drawn."""

    study: Study
    text: str
    matched: tuple[str, ...]
    missed: tuple[str, ...]
    invented: tuple[str, ...]

    @property
    def score(self) -> float:
        """F1 of the study's findings; 1 where both reports assert none."""
        right, wrong = 2 * len(self.matched), len(self.missed) + len(self.invented)
        return right / (right + wrong) if right + wrong else 1.0

    def draw(self, reporter: Reporter | None) -> Example:
        """With the regions that the report was written from, where its model is at hand."""
        radiograph = (self.study.frontal_images or self.study.images)[0].read()
        canvas = Canvas(draw_grey(radiograph.pixels)) if reporter is None else make_canvas(reporter.report(radiograph))
        texts = self.study.source_findings, self.text
        return Example(self.study.id, self.score, canvas, *texts, self.matched, self.missed, self.invented)


def worst_and_best(
    studies: Sequence[Study], texts: Sequence[str], reference: pd.DataFrame, generated: pd.DataFrame, ties: np.ndarray
) -> list[ShownStudy]:
    """The lowest and the highest by the F1 of their findings, then by how many are right, then by `ties`.

    Args:
        texts: N generated findings sections.
        reference, generated: label tables with N rows.
        ties: [N] decides among studies of equal findings.

    Returns:
        all studies where they fill no more than a page.
    """
    shown = []
    for index, study in enumerate(studies):
        there, told = (set(_positive(table.iloc[index])) for table in (reference, generated))
        parts = (there & told, there - told, told - there)
        shown.append(ShownStudy(study, texts[index], *(tuple(sorted(part)) for part in parts)))

    def rank(index: int) -> tuple[float, int, float]:
        one = shown[index]
        return one.score, len(one.matched) - len(one.missed) - len(one.invented), ties[index]

    order = sorted(range(len(shown)), key=rank)
    half = EXAMPLES_OF_A_KIND
    chosen = order if len(order) <= 2 * half else order[:half] + order[-half:]
    return [shown[index] for index in chosen]


def _positive(labels: pd.Series) -> list[str]:
    return [name for name, value in labels.dropna().items() if value and name != NO_FINDING]
