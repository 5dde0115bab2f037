"""Clinical scores: the findings that generated reports assert, and how well a finding head's probabilities rank them.

A label table is a DataFrame with one row per study and one column per finding: 1 present, 0 absent, -1 uncertain,
missing (pd.NA or NaN) not mentioned. Dimensions: N studies, F findings, S bootstrap samples.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from xr2text.text.findings.table import CHEXPERT_5, CHEXPERT_14

DISPLAY_NAME = "Findings F1 (XR2Text reader)"
CONVENTION = (
    "A finding counts as positive where a report asserts it as present or uncertain, and as negative where the report "
    "denies it or does not mention it; macro averages are over the findings that occur in either set of reports. The "
    "labels come from XR2Text's own rule-based reader, not from CheXbert, and are not comparable with CheXbert scores."
)
NO_FINDING = "no finding"
AVERAGED = {
    "micro_14": ("micro", CHEXPERT_14),
    "macro_14": ("macro", CHEXPERT_14),
    "micro_5": ("micro", CHEXPERT_5),
    "macro_5": ("macro", CHEXPERT_5),
}
RATES = ("precision", "recall", "f1")
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class FindingScore:
    """One finding over all studies.

    precision is None where nothing is asserted, recall is None where the reference has none, and f1, which is
    2 hits / (support + asserted), is None only where both are so.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int  # studies whose reference is positive
    asserted: int  # studies whose generated report is positive
    hits: int  # studies where both are
    contradictions: int  # studies whose generated report says present where the reference says absent


@dataclass(frozen=True)
class Averages:
    """Over several findings; each 0 to 1, or None where undefined."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClinicalScores:
    """What `score_clinical` returns; shown as `DISPLAY_NAME`, and always with `CONVENTION` beside it."""

    findings: dict[str, FindingScore]
    micro_14: Averages
    macro_14: Averages
    micro_5: Averages
    macro_5: Averages
    contradictions: int  # (study, finding) pairs
    studies_with_contradiction: int

    def as_dict(self) -> dict:
        """Nested dicts of numbers, None where undefined, for JSON."""
        return asdict(self)


def score_clinical(reference: pd.DataFrame, generated: pd.DataFrame) -> ClinicalScores:
    """Compares the findings of generated reports with those of the reference reports.

    A finding counts as positive where it is asserted present or uncertain, and as negative where it is denied or not
    mentioned, as f1chexbert counts in its report-generation mode. The labels come from this project's own rule-based
    reader: the figures are not CheXbert's (Smit et al., EMNLP 2020), and not comparable with them.

    Micro averages pool the counts of the 14 (CheXpert: Irvin et al., AAAI 2019) or 5 findings; one is None where its
    denominator is 0. Macro averages are means over those findings that have support or are asserted, the others being
    left out; a precision or recall that is undefined for such a finding counts as 0, and so does its F1. Other columns
    are scored finding by finding only.

    A contradiction is a finding that the generated report says is present (1) and the reference says is absent (0). It
    is counted over all columns except "no finding", for which it is 0.

    Args:
        reference, generated: label tables of the same studies in the same order, with the same columns in any order,
            the 14 among them.

    Raises:
        ValueError: a table has no rows, lacks one of the 14, repeats a study or a finding, or holds another value than
            1, 0, -1 and missing; or the two do not match. The message names the first place.
    """
    labels = _read_label_tables(reference, generated)
    totals = labels.positives.sum(axis=1)  # [3, F]
    contradictions = labels.contradictions.sum(axis=0)  # [F]
    rates = _rates(totals)  # [F, 3]
    findings = {
        name: FindingScore(*_defined(rates[i]), *(int(total) for total in totals[:, i]), int(contradictions[i]))
        for i, name in enumerate(labels.names)
    }
    averages = {name: Averages(*_defined(values)) for name, values in _averages(labels.names, totals).items()}
    return ClinicalScores(
        findings=findings,
        **averages,
        contradictions=int(contradictions.sum()),
        studies_with_contradiction=int(labels.contradictions.any(axis=1).sum()),
    )


def clinical_intervals(
    reference: pd.DataFrame, generated: pd.DataFrame, samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, tuple[float, float] | None]]:
    """95 % percentile bootstrap intervals of the averages (Efron and Tibshirani, 1993): whole studies are redrawn.

    Args:
        reference, generated: as for `score_clinical`.
        samples: how many times N studies are drawn with replacement.
        seed: of the draw; the same seed gives the same intervals.

    Returns:
        {"micro_14": {"precision": (low, high), "recall": ..., "f1": ...}, "macro_14": ..., "micro_5": ...,
        "macro_5": ...}. An interval is over the samples in which the score is defined, and None where there are none.

    Raises:
        ValueError: as `score_clinical`, or fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; a bootstrap needs at least 1")
    labels = _read_label_tables(reference, generated)
    studies = len(labels.contradictions)
    draws = np.random.default_rng(seed).multinomial(studies, np.full(studies, 1 / studies), size=samples)  # [S, N]
    draws = draws.astype(float)  # a product of floats goes through BLAS, and counts this small stay exact
    averages = _averages(labels.names, draws @ labels.positives)  # from totals [3, S, F]: [S, 3] each
    return {
        average: {rate: _interval(values[:, i]) for i, rate in enumerate(RATES)} for average, values in averages.items()
    }


@dataclass(frozen=True)
class _Labels:
    """Two label tables as matrices of 0 and 1."""

    names: tuple[str, ...]  # F findings
    positives: np.ndarray  # [3, N, F], float: in the reference (support), in the generated (asserted), in both (hits)
    contradictions: np.ndarray  # [N, F], bool


def _read_label_tables(reference: pd.DataFrame, generated: pd.DataFrame) -> _Labels:
    _require_values(reference, (1, 0, -1), "reference labels")
    _require_values(generated, (1, 0, -1), "generated labels")
    generated = _matched(reference, generated, "reference labels", "generated labels")
    if missing := [name for name in CHEXPERT_14 if name not in reference.columns]:
        raise ValueError(f"the label tables have no column {missing[0]!r}, one of the 14 that are averaged")
    if reference.empty:
        raise ValueError("the label tables have no rows; at least one study is needed")
    if reference.index.has_duplicates:
        repeated = reference.index[reference.index.duplicated()][0]
        raise ValueError(f"study {repeated} has more than one row in the reference labels")
    truth, claim = _to_array(reference), _to_array(generated)
    support, asserted = np.isin(truth, (1, -1)), np.isin(claim, (1, -1))
    positives = np.stack([support, asserted, support & asserted]).astype(float)
    contradictions = (claim == 1) & (truth == 0) & (reference.columns != NO_FINDING)
    return _Labels(tuple(reference.columns), positives, contradictions)


def _averages(names: tuple[str, ...], totals: np.ndarray) -> dict[str, np.ndarray]:
    """Each average of `AVERAGED`, [..., 3] in the order of `RATES`, from totals [3, ..., F]; NaN where undefined."""
    averages = {}
    for average, (kind, findings) in AVERAGED.items():
        chosen = totals[..., [names.index(name) for name in findings]]
        if kind == "micro":
            averages[average] = _rates(chosen.sum(axis=-1))
        else:
            occurs = (chosen[0] + chosen[1] > 0).sum(axis=-1)  # [...] findings; the others' rates are all NaN
            averages[average] = _ratio(np.nan_to_num(_rates(chosen)).sum(axis=-2), occurs[..., None])
    return averages


def _rates(totals: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 [..., 3] from support, asserted and hits [3, ...]; NaN where undefined."""
    support, asserted, hits = totals
    rates = (_ratio(hits, asserted), _ratio(hits, support), _ratio(2 * hits, support + asserted))
    return np.stack(rates, axis=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _defined(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


class HeadFinding(TypedDict):
    """One finding of a head: an area is None where the labels that it counts are all of one class."""

    auc: float | None
    average_precision: float | None
    certain_auc: float | None  # without the uncertain
    positives: int  # present or uncertain
    uncertain: int
    studies: int  # studies whose label is known


@dataclass(frozen=True)
class HeadScores:
    """What `score_head` returns; each score 0 to 1."""

    findings: dict[str, HeadFinding]
    mean_auc: float | None  # None where no finding has enough positives and a negative
    mean_average_precision: float | None  # over the same findings
    ece: float
    min_positives: int

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class CalibrationBins:
    """A reliability diagram's data: M equal-width bins of probability, the first closed, the others open at the left.

    mean_probability and share_positive are NaN in an empty bin.
    """

    edges: np.ndarray  # [M + 1]
    counts: np.ndarray  # [M] known (study, finding) pairs
    mean_probability: np.ndarray  # [M]
    share_positive: np.ndarray  # [M]

    @property
    def ece(self) -> float:
        """Expected calibration error: |mean probability - share of positives|, weighted by the size of the bins."""
        gaps = np.nan_to_num(np.abs(self.mean_probability - self.share_positive))  # an empty bin has no weight
        return float(np.average(gaps, weights=self.counts))


def score_head(labels: pd.DataFrame, probabilities: pd.DataFrame, min_positives: int = 15) -> HeadScores:
    """Scores a finding head's probabilities against known labels.

    The area under the ROC curve and the average precision are scikit-learn's. Their means are over the findings with at
    least `min_positives` positives and one negative. The expected calibration error (Guo et al., ICML 2017) is the
    binary form, with 15 equal-width bins over all known (study, finding) pairs pooled.

    Args:
        labels: 1 present, -1 uncertain, 0 absent, missing where not known; rows and columns as in `probabilities`, the
            columns in any order. Uncertain counts as positive, but for `certain_auc`.
        probabilities: of presence, 0 to 1.
        min_positives: at least 1.

    Raises:
        ValueError: the tables do not match, a value is outside its range or a probability is missing, no label is
            known, or `min_positives` is below 1. The message names the first place.
    """
    if min_positives < 1:
        raise ValueError(f"min_positives is {min_positives}; at least 1 is needed for an area to be defined")
    truth, predicted = _read_head_tables(labels, probabilities)
    findings = {name: _head_finding(truth[:, i], predicted[:, i]) for i, name in enumerate(labels.columns)}
    averaged = [
        finding for finding in findings.values() if finding["auc"] is not None and finding["positives"] >= min_positives
    ]
    return HeadScores(
        findings=findings,
        mean_auc=_mean(finding["auc"] for finding in averaged),
        mean_average_precision=_mean(finding["average_precision"] for finding in averaged),
        ece=calibration_bins(labels, probabilities).ece,
        min_positives=min_positives,
    )


def calibration_bins(labels: pd.DataFrame, probabilities: pd.DataFrame) -> CalibrationBins:
    """Bins all known (study, finding) pairs by their probability; arguments and errors as for `score_head`."""
    truth, predicted = _read_head_tables(labels, probabilities)
    known = ~np.isnan(truth)
    truth, predicted = np.abs(truth[known]), predicted[known]
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.clip(np.searchsorted(edges, predicted, side="left") - 1, 0, None)  # a probability of 0 is in the first
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    mean_probability, share_positive = (
        _ratio(np.bincount(bins, weights=values, minlength=CALIBRATION_BINS), counts) for values in (predicted, truth)
    )
    return CalibrationBins(edges, counts, mean_probability, share_positive)


def _head_finding(truth: np.ndarray, predicted: np.ndarray) -> HeadFinding:
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    certain, positive = truth >= 0, truth != 0
    two_classes = 0 < positive.sum() < len(truth)
    return {
        "auc": _auc(positive, predicted),
        "average_precision": float(average_precision_score(positive, predicted)) if two_classes else None,
        "certain_auc": _auc(positive[certain], predicted[certain]),
        "positives": int(positive.sum()),
        "uncertain": int((~certain).sum()),
        "studies": len(truth),
    }


def _auc(positive: np.ndarray, predicted: np.ndarray) -> float | None:
    return float(roc_auc_score(positive, predicted)) if 0 < positive.sum() < len(positive) else None


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None


def _read_head_tables(labels: pd.DataFrame, probabilities: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels, NaN where not known, and probabilities, both [N, F] in the labels' order of columns."""
    _require_values(labels, (1, 0, -1), "labels")
    probabilities = _matched(labels, probabilities, "labels", "probabilities")
    if labels.isna().all(axis=None):
        raise ValueError("no label is known; a head is scored against at least one 1 or 0")
    predicted = _to_array(probabilities)
    wrong = np.argwhere(~((predicted >= 0) & (predicted <= 1)))  # a NaN is wrong too
    if wrong.size:
        row, column = wrong[0]
        raise ValueError(
            f"the probability of {labels.columns[column]!r} in row {labels.index[row]} is {predicted[row, column]}; "
            "accepted are 0 to 1"
        )
    return _to_array(labels), predicted


def _to_array(table: pd.DataFrame) -> np.ndarray:
    return table.to_numpy(dtype=float, na_value=np.nan)


def _require_values(table: pd.DataFrame, accepted: tuple[int, ...], name: str) -> None:
    wrong = np.argwhere((~table.isin(accepted) & table.notna()).to_numpy())
    if wrong.size:
        row, column = wrong[0]
        raise ValueError(
            f"the {name} hold {table.iat[row, column]} for {table.columns[column]!r} in row {table.index[row]}; "
            f"accepted are {', '.join(map(str, accepted))} and missing"
        )


def _matched(table: pd.DataFrame, other: pd.DataFrame, name: str, other_name: str) -> pd.DataFrame:
    """`other` with its columns in the order of `table`, after both are shown to have the same rows and columns."""
    sides = ((table, name, other, other_name), (other, other_name, table, name))
    for side, owner, opposite, opposite_owner in sides:
        if side.columns.has_duplicates:
            raise ValueError(f"the {owner} have more than one column {side.columns[side.columns.duplicated()][0]!r}")
        if unmatched := [column for column in side.columns if column not in opposite.columns]:
            raise ValueError(f"the {owner} have a column {unmatched[0]!r} and the {opposite_owner} do not")
    for position, (row, other_row) in enumerate(zip(table.index, other.index, strict=False)):
        if row != other_row:
            raise ValueError(f"row {position} is {row} in the {name} and {other_row} in the {other_name}")
    if len(table) != len(other):
        raise ValueError(f"the {name} have {len(table)} rows and the {other_name} have {len(other)}")
    return other[list(table.columns)]
