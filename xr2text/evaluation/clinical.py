"""Clinical scores: the findings that generated reports assert, and how well a finding head's probabilities rank them.

A label table is a DataFrame with one row per study and one column per finding: 1 present, 0 absent, -1 uncertain,
missing (pd.NA or NaN) not mentioned.

Shapes: N studies, F findings, S bootstrap samples, M bins of probability.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from xr2text.text.findings.labeler import NO_FINDING
from xr2text.text.findings.table import CHEXPERT_5, CHEXPERT_14

CONVENTION = (
    "A finding counts as positive where a report asserts it as present or uncertain, and as negative where the report "
    "denies it or does not mention it; macro averages are over the findings that occur in either set of reports. The "
    "labels come from XR2Text's own rule-based reader, not from CheXbert, and are not comparable with CheXbert scores."
)
AVERAGED = {"14": CHEXPERT_14, "5": CHEXPERT_5}
RATES = ("precision", "recall", "f1")
CALIBRATION_BINS = 15
MIN_POSITIVES = 15  # positives that a finding needs for its area to count in a mean


@dataclass(frozen=True)
class Rates:
    """Each 0 to 1, or None where its denominator is 0."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class FindingScore(Rates):
    """A finding over all studies."""

    support: int  # studies whose reference is positive, TP + FN
    asserted: int  # studies whose generated report is positive, TP + FP
    hits: int  # studies where both are, TP
    contradictions: int  # studies whose generated report says present where the reference says absent


@dataclass(frozen=True)
class ClinicalScores:
    """What `score_clinical` returns; always shown with `CONVENTION` beside it."""

    findings: dict[str, FindingScore]
    micro_14: Rates
    macro_14: Rates
    micro_5: Rates
    macro_5: Rates
    contradictions: int  # (study, finding) pairs
    studies_with_contradiction: int


def score_clinical(reference: pd.DataFrame, generated: pd.DataFrame) -> ClinicalScores:
    """Compares the findings of generated reports with those of the reference reports.

    A finding counts as positive where it is asserted present or uncertain, and as negative where it is denied or not
    mentioned, as f1chexbert (Smit et al., EMNLP 2020) counts in its report-generation mode.

    Micro averages pool the counts of the 14 (CheXpert: Irvin et al., AAAI 2019) or 5 findings. Macro averages are means
    over those findings that have support or are asserted; a rate that is undefined for such a finding counts as 0.

    A contradiction is a finding that the generated report says is present (1) and the reference says is absent (0);
    "no finding" never counts as such.

    Args:
        reference, generated: label tables of the same studies, with the same columns in any order.
    """
    positives, contradictions = _read_label_tables(reference, generated)
    names, totals = list(reference.columns), positives.sum(axis=1)  # [3, F]
    counts = np.concatenate([totals, contradictions.sum(axis=0)[None]]).astype(int)  # [4, F]
    findings = {
        name: FindingScore(*_defined(rates), *column.tolist())
        for name, rates, column in zip(names, _rates(totals), counts.T, strict=True)
    }
    averages = {name: Rates(*_defined(values)) for name, values in _averages(names, totals).items()}
    wrong, studies = int(contradictions.sum()), int(contradictions.any(axis=1).sum())
    return ClinicalScores(findings, **averages, contradictions=wrong, studies_with_contradiction=studies)


def clinical_intervals(
    reference: pd.DataFrame, generated: pd.DataFrame, samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, tuple[float, float] | None]]:
    """95 % percentile bootstrap intervals of the averages (Efron and Tibshirani, 1993): whole studies are redrawn.

    Returns:
        {"micro_14": {"precision": (low, high), ...}, ...}, over the samples in which a rate is defined; None without.
    """
    positives, _ = _read_label_tables(reference, generated)
    studies = len(reference)
    draws = np.random.default_rng(seed).multinomial(studies, np.full(studies, 1 / studies), size=samples)  # [S, N]
    draws = draws.astype(float)  # as floats the product uses BLAS; counts this small stay exact
    averages = _averages(list(reference.columns), draws @ positives)  # from totals [3, S, F]: [S, 3] each
    return {name: dict(zip(RATES, map(_interval, values.T), strict=True)) for name, values in averages.items()}


def _read_label_tables(reference: pd.DataFrame, generated: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Positives [3, N, F] float: in the reference (support), in the generated (asserted), in both (hits); and
    contradictions [N, F] bool."""
    truth, claim = _label_array(reference), _label_array(generated[list(reference.columns)])
    support, asserted = np.isin(truth, (1, -1)), np.isin(claim, (1, -1))
    contradictions = (claim == 1) & (truth == 0) & (reference.columns != NO_FINDING)
    return np.stack([support, asserted, support & asserted]).astype(float), contradictions


def _averages(names: list[str], totals: np.ndarray) -> dict[str, np.ndarray]:
    """Micro and macro averages, [..., 3] in the order of `RATES`, from totals [3, ..., F]; NaN where undefined."""
    averages = {}
    for count, findings in AVERAGED.items():
        chosen = totals[..., [names.index(name) for name in findings]]
        occurs = (chosen[0] + chosen[1] > 0).sum(axis=-1)  # [...] findings; the others' rates are all NaN
        averages[f"micro_{count}"] = _rates(chosen.sum(axis=-1))
        averages[f"macro_{count}"] = _ratio(np.nan_to_num(_rates(chosen)).sum(axis=-2), occurs[..., None])
    return averages


def _rates(totals: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 [..., 3] from support, asserted and hits [3, ...]; NaN where undefined."""
    support, asserted, hits = totals
    return np.stack([_ratio(hits, asserted), _ratio(hits, support), _ratio(2 * hits, support + asserted)], axis=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _defined(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    return tuple(np.percentile(values, (2.5, 97.5)).tolist()) if values.size else None


@dataclass(frozen=True)
class HeadFinding:
    """Scores of a finding head for one finding; an area is None where the labels are all of one class."""

    auc: float | None
    average_precision: float | None
    certain_auc: float | None  # without the uncertain
    positives: int  # present or uncertain
    uncertain: int
    studies: int  # studies whose label is known


@dataclass(frozen=True)
class HeadScores:
    """What `score_head` returns."""

    findings: dict[str, HeadFinding]
    mean_auc: float | None  # None where no finding has enough positives and a negative
    mean_average_precision: float | None  # over the same findings
    ece: float
    min_positives: int


@dataclass(frozen=True)
class CalibrationBins:
    """A reliability diagram's data: M equal-width bins of probability, closed at the right, the first at both ends."""

    edges: np.ndarray  # [M + 1]
    counts: np.ndarray  # [M] known (study, finding) pairs
    mean_probability: np.ndarray  # [M], NaN in an empty bin
    share_positive: np.ndarray  # [M], NaN in an empty bin

    @property
    def ece(self) -> float:
        """Expected calibration error: |mean probability - share of positives|, weighted by the size of the bins."""
        gaps = np.nan_to_num(np.abs(self.mean_probability - self.share_positive))  # an empty bin has no weight
        return float(np.average(gaps, weights=self.counts))


def score_head(labels: pd.DataFrame, probabilities: pd.DataFrame, min_positives: int = MIN_POSITIVES) -> HeadScores:
    """Scores a finding head's probabilities against known labels.

    The area under the ROC curve and the average precision are scikit-learn's. Their means are over the findings with at
    least `min_positives` positives and one negative. The expected calibration error (Guo et al., ICML 2017) is the
    binary form, with 15 equal-width bins over all known (study, finding) pairs pooled.

    Args:
        labels: a label table, missing where not known. Uncertain counts as positive, but for `certain_auc`.
        probabilities: of presence, 0 to 1; the same rows and columns, the columns in any order.

    Raises:
        ValueError: no label is known.
    """
    truth, predicted = _read_head_tables(labels, probabilities)
    findings = {name: _head_finding(truth[:, i], predicted[:, i]) for i, name in enumerate(labels.columns)}
    averaged = [score for score in findings.values() if score.auc is not None and score.positives >= min_positives]
    return HeadScores(
        findings=findings,
        mean_auc=float(np.mean([score.auc for score in averaged])) if averaged else None,
        mean_average_precision=float(np.mean([score.average_precision for score in averaged])) if averaged else None,
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
    means = [_ratio(np.bincount(bins, values, CALIBRATION_BINS), counts) for values in (predicted, truth)]
    return CalibrationBins(edges, counts, *means)


def _head_finding(truth: np.ndarray, predicted: np.ndarray) -> HeadFinding:
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    certain, positive = truth >= 0, truth != 0
    two_classes = 0 < positive.sum() < len(truth)
    return HeadFinding(
        auc=_auc(positive, predicted),
        average_precision=float(average_precision_score(positive, predicted)) if two_classes else None,
        certain_auc=_auc(positive[certain], predicted[certain]),
        positives=int(positive.sum()),
        uncertain=int((~certain).sum()),
        studies=len(truth),
    )


def _auc(positive: np.ndarray, predicted: np.ndarray) -> float | None:
    return float(roc_auc_score(positive, predicted)) if 0 < positive.sum() < len(positive) else None


def _read_head_tables(labels: pd.DataFrame, probabilities: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels, NaN where not known, and probabilities, both [N, F] in the labels' order of columns."""
    truth = _label_array(labels)
    if np.isnan(truth).all():
        raise ValueError("no label is known; a head is scored against at least one 1 or 0")
    return truth, probabilities[list(labels.columns)].to_numpy(dtype=float)


def _label_array(table: pd.DataFrame) -> np.ndarray:
    """[N, F], NaN where missing."""
    return table.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
