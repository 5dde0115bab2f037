"""Clinical scores against tables worked out by hand, a slow bootstrap and scikit-learn."""

import json
import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from xr2text.evaluation.clinical import (
    CONVENTION,
    Rates,
    calibration_bins,
    clinical_intervals,
    score_clinical,
    score_head,
)
from xr2text.text.findings.table import CHEXPERT_5, CHEXPERT_14

AVERAGES = ("micro_14", "macro_14", "micro_5", "macro_5")
EXTRA = ("granuloma", "scoliosis")
NA = pd.NA


def label_table(studies=4, **findings):
    """Nothing mentioned but the findings given, whose names are written with underscores."""
    columns = dict.fromkeys((*CHEXPERT_14, *EXTRA), [NA] * studies)
    columns |= {name.replace("_", " "): values for name, values in findings.items()}
    return pd.DataFrame(columns, index=[f"study-{i}" for i in range(studies)]).astype("Int8")


def random_tables(studies, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1, np.nan], (studies, len(CHEXPERT_14)), p=[0.2, 0.3, 0.1, 0.4])
    claim = np.where(rng.random(truth.shape) < 0.6, truth, rng.permutation(truth))
    return tuple(pd.DataFrame(values, columns=list(CHEXPERT_14)).astype("Int8") for values in (truth, claim))


REFERENCE = label_table(
    edema=[1, -1, 0, NA],
    cardiomegaly=[1, 1, NA, NA],
    pleural_effusion=[0, NA, NA, NA],
    fracture=[NA, NA, 1, NA],
    no_finding=[0, 0, 0, 1],
    granuloma=[NA, 0, NA, NA],
)
GENERATED = label_table(
    edema=[-1, 0, 1, -1],
    cardiomegaly=[1, 0, NA, NA],
    pleural_effusion=[1, NA, NA, NA],
    no_finding=[1, 0, 0, 1],
    granuloma=[NA, 1, NA, NA],
)
# support, asserted, hits: edema 2 3 1, cardiomegaly 2 1 1, pleural effusion 0 1 0, fracture 1 0 0, no finding 1 2 1


def test_a_finding_by_hand_with_uncertain_as_positive():
    edema = score_clinical(REFERENCE, GENERATED).findings["edema"]
    assert (edema.support, edema.asserted, edema.hits, edema.contradictions) == (2, 3, 1, 1)
    assert (edema.precision, edema.recall) == (pytest.approx(1 / 3), 0.5)
    assert edema.f1 == pytest.approx(2 / 5)


@pytest.mark.parametrize("said", [1, -1])
@pytest.mark.parametrize("meant", [1, 0, -1, NA])
def test_present_and_uncertain_are_one_class_and_absent_and_silent_the_other(meant, said):
    score = score_clinical(label_table(1, edema=[meant]), label_table(1, edema=[said])).findings["edema"]
    positive = meant is not NA and meant != 0
    assert (score.support, score.asserted, score.hits) == (positive, 1, positive)
    reverse = score_clinical(label_table(1, edema=[said]), label_table(1, edema=[meant])).findings["edema"]
    assert (reverse.support, reverse.asserted, reverse.hits) == (1, positive, positive)


def test_every_average_by_hand():
    scores = score_clinical(REFERENCE, GENERATED)
    # Pooled over the 14: support 6, asserted 7, hits 3; over the 5: support 4, asserted 5, hits 2.
    assert asdict(scores.micro_14) == pytest.approx({"precision": 3 / 7, "recall": 3 / 6, "f1": 6 / 13})
    assert asdict(scores.micro_5) == pytest.approx({"precision": 2 / 5, "recall": 2 / 4, "f1": 4 / 9})
    # Means over the five findings that occur: no finding, edema, cardiomegaly, pleural effusion (recall undefined),
    # fracture (precision undefined); over three of them among the 5.
    macro_14 = {
        "precision": (1 / 2 + 1 / 3 + 1 + 0 + 0) / 5,
        "recall": (1 + 1 / 2 + 1 / 2 + 0 + 0) / 5,
        "f1": (2 / 3 + 2 / 5 + 2 / 3 + 0 + 0) / 5,
    }
    assert asdict(scores.macro_14) == pytest.approx(macro_14)
    macro_5 = {"precision": (1 / 3 + 1 + 0) / 3, "recall": (1 / 2 + 1 / 2 + 0) / 3, "f1": (2 / 5 + 2 / 3 + 0) / 3}
    assert asdict(scores.macro_5) == pytest.approx(macro_5)


def test_averages_agree_with_scikit_learn():
    reference, generated = random_tables(60)
    scores = score_clinical(reference, generated)
    for names, suffix in ((CHEXPERT_14, "14"), (CHEXPERT_5, "5")):
        truth, claim = (table[list(names)].isin([1, -1]).to_numpy(int) for table in (reference, generated))
        for way in ("micro", "macro"):
            expected = precision_recall_fscore_support(truth, claim, average=way)[:3]
            assert list(asdict(getattr(scores, f"{way}_{suffix}")).values()) == pytest.approx(list(expected))


def test_undefined_rates_are_none():
    findings = score_clinical(REFERENCE, GENERATED).findings
    unasserted, unsupported, neither = findings["fracture"], findings["pleural effusion"], findings["pneumonia"]
    assert (unasserted.precision, unasserted.recall, unasserted.f1) == (None, 0, 0)
    assert (unsupported.precision, unsupported.recall, unsupported.f1) == (0, None, 0)
    assert (neither.precision, neither.recall, neither.f1) == (None, None, None)


def test_averages_where_nothing_is_asserted_or_nothing_occurs():
    silent = score_clinical(REFERENCE, label_table())
    assert silent.micro_14 == Rates(None, 0, 0)
    assert silent.macro_14 == Rates(0, 0, 0)
    empty = score_clinical(label_table(), label_table())
    assert all(getattr(empty, average) == Rates(None, None, None) for average in AVERAGES)


def test_contradictions_are_present_against_absent_without_no_finding():
    scores = score_clinical(REFERENCE, GENERATED)
    found = {name: score.contradictions for name, score in scores.findings.items() if score.contradictions}
    assert found == {"edema": 1, "pleural effusion": 1, "granuloma": 1}  # no finding: 1 against 0, and not counted
    assert scores.contradictions == 3
    assert scores.studies_with_contradiction == 3
    both = score_clinical(*(label_table(2, edema=said, fracture=said) for said in ([0, NA], [1, 1])))
    assert (both.contradictions, both.studies_with_contradiction) == (2, 1)


@pytest.mark.parametrize(("meant", "said"), [(0, -1), (NA, 1), (-1, 1), (1, 0), (0, 0)])
def test_nothing_else_is_a_contradiction(meant, said):
    assert score_clinical(label_table(1, edema=[meant]), label_table(1, edema=[said])).contradictions == 0


def test_other_columns_are_scored_but_do_not_enter_the_averages():
    changed = GENERATED.assign(scoliosis=[1, 1, 1, 1]).astype("Int8")
    before, after = score_clinical(REFERENCE, GENERATED), score_clinical(REFERENCE, changed)
    assert [getattr(after, average) for average in AVERAGES] == [getattr(before, average) for average in AVERAGES]
    assert clinical_intervals(REFERENCE, changed, 50) == clinical_intervals(REFERENCE, GENERATED, 50)
    assert (before.findings["scoliosis"].asserted, after.findings["scoliosis"].asserted) == (0, 4)
    assert set(after.findings) == {*CHEXPERT_14, *EXTRA}


def test_order_of_columns_does_not_matter():
    turned = GENERATED[GENERATED.columns[::-1]]
    assert score_clinical(REFERENCE, turned) == score_clinical(REFERENCE, GENERATED)
    assert score_clinical(REFERENCE[REFERENCE.columns[::-1]], turned) == score_clinical(REFERENCE, GENERATED)


def test_float_tables_with_nan_are_read_alike():
    reference, generated = (table.astype("Float64").astype(float) for table in (REFERENCE, GENERATED))
    assert reference.isna().any(axis=None)
    assert score_clinical(reference, generated) == score_clinical(REFERENCE, GENERATED)


def test_scores_are_json():
    plain = json.loads(json.dumps(asdict(score_clinical(REFERENCE, GENERATED))))
    assert plain["micro_5"]["recall"] == 0.5
    assert plain["findings"]["fracture"]["precision"] is None
    assert plain["contradictions"] == 3
    intervals = json.loads(json.dumps(clinical_intervals(REFERENCE, GENERATED, 20)))
    assert len(intervals["micro_5"]["f1"]) == 2


def test_the_convention_says_whose_labels_these_are():
    assert "present or uncertain" in CONVENTION and "not comparable with CheXbert" in CONVENTION


def test_intervals_hold_the_score_and_shrink_with_more_studies():
    reference, generated = random_tables(200)
    scores, intervals = score_clinical(reference, generated), clinical_intervals(reference, generated, 500)
    for average in AVERAGES:
        for rate, value in asdict(getattr(scores, average)).items():
            low, high = intervals[average][rate]
            assert 0 <= low < value < high <= 1
    low, high = intervals["micro_14"]["f1"]
    more = clinical_intervals(*random_tables(2000), samples=500)["micro_14"]["f1"]
    assert more[1] - more[0] < 0.5 * (high - low)


def test_the_seed_decides_the_intervals():
    tables = random_tables(50)
    assert clinical_intervals(*tables, samples=100, seed=3) == clinical_intervals(*tables, samples=100, seed=3)
    assert clinical_intervals(*tables, samples=100, seed=3) != clinical_intervals(*tables, samples=100, seed=4)


@pytest.mark.parametrize("tables", [random_tables(12), (REFERENCE, GENERATED)], ids=["random", "with undefined scores"])
def test_the_bootstrap_equals_a_slow_loop(tables):
    reference, generated = tables
    studies, samples = len(reference), 25
    slow = {average: {"precision": [], "recall": [], "f1": []} for average in AVERAGES}
    for counts in np.random.default_rng(5).multinomial(studies, np.full(studies, 1 / studies), size=samples):
        rows = np.repeat(np.arange(studies), counts)
        scores = score_clinical(*(table.iloc[rows].reset_index(drop=True) for table in (reference, generated)))
        for average in AVERAGES:
            for rate, value in asdict(getattr(scores, average)).items():
                slow[average][rate].append(value)
    intervals = clinical_intervals(reference, generated, samples, seed=5)
    for average in AVERAGES:
        for rate, values in slow[average].items():
            expected = np.percentile([value for value in values if value is not None], (2.5, 97.5))
            assert intervals[average][rate] == pytest.approx(tuple(expected))


def test_an_interval_is_none_where_the_score_never_is_defined():
    intervals = clinical_intervals(REFERENCE, label_table(), samples=200)
    assert intervals["micro_5"]["precision"] is None
    assert intervals["micro_5"]["recall"] == (0, 0)


def head_tables(rows=80, seed=1):
    rng = np.random.default_rng(seed)
    probabilities = pd.DataFrame(rng.random((rows, 3)), columns=["edema", "fracture", "granuloma"])
    labels = (rng.random((rows, 3)) < probabilities**2).astype(float).mask(rng.random((rows, 3)) < 0.2)
    return labels.astype("Int8"), probabilities


def test_areas_are_scikit_learns_over_known_labels():
    labels, probabilities = head_tables()
    scores = score_head(labels, probabilities, min_positives=1)
    for name in labels:
        known = labels[name].notna().to_numpy()
        truth, predicted = labels[name][known].to_numpy(int), probabilities[name][known]
        assert asdict(scores.findings[name]) == {
            "auc": pytest.approx(roc_auc_score(truth, predicted)),
            "average_precision": pytest.approx(average_precision_score(truth, predicted)),
            "certain_auc": pytest.approx(roc_auc_score(truth, predicted)),
            "positives": truth.sum(),
            "uncertain": 0,
            "studies": known.sum(),
        }
        assert known.sum() < len(labels)
    areas = [finding.auc for finding in scores.findings.values()]
    assert scores.mean_auc == pytest.approx(np.mean(areas))


def test_an_area_by_hand():
    labels = pd.DataFrame({"edema": [1, 0, 1, 0, NA]}, dtype="Int8")
    scores = score_head(labels, pd.DataFrame({"edema": [0.9, 0.8, 0.7, 0.1, 0.99]}), min_positives=2)
    # Of the four pairs three are in order; precision is 1/1 and 2/3 at the two positives.
    assert asdict(scores.findings["edema"]) == pytest.approx(
        {
            "auc": 0.75, "average_precision": 5 / 6, "certain_auc": 0.75, "positives": 2, "uncertain": 0, "studies": 4,
        }
    )  # fmt: skip


def test_an_uncertain_finding_is_positive_and_stays_out_of_the_certain_area():
    labels = pd.DataFrame({"edema": [1, 0, -1, 0]}, dtype="Int8")
    probabilities = pd.DataFrame({"edema": [0.9, 0.8, 0.7, 0.1]})
    found = score_head(labels, probabilities).findings["edema"]
    assert (found.auc, found.certain_auc, found.positives, found.uncertain) == (0.75, 1.0, 2, 1)
    assert calibration_bins(labels, probabilities).share_positive[10] == 1  # 0.7
    alone = score_head(labels.iloc[1:], probabilities.iloc[1:]).findings["edema"]
    assert (alone.auc, alone.certain_auc) == (0.5, None)


def test_means_leave_out_rare_findings_and_those_of_one_class():
    labels, probabilities = head_tables()
    labels["fracture"] = pd.array([1] * 3 + [0] * 77, dtype="Int8")
    labels["granuloma"] = pd.array([1] * 80, dtype="Int8")
    scores = score_head(labels, probabilities, min_positives=4)
    assert asdict(scores.findings["granuloma"]) == {
        "auc": None, "average_precision": None, "certain_auc": None, "positives": 80, "uncertain": 0, "studies": 80,
    }  # fmt: skip
    assert scores.findings["fracture"].auc is not None
    assert scores.mean_auc == scores.findings["edema"].auc
    assert scores.mean_average_precision == scores.findings["edema"].average_precision
    both = score_head(labels, probabilities, min_positives=3)  # the bound itself is enough
    areas = [scores.findings[name].auc for name in ("edema", "fracture")]
    assert both.mean_auc == pytest.approx(np.mean(areas))
    none = score_head(labels, probabilities, min_positives=81)
    assert (none.mean_auc, none.mean_average_precision) == (None, None)
    assert json.loads(json.dumps(asdict(none)))["min_positives"] == 81


def test_calibration_error_by_hand():
    labels = pd.DataFrame({"edema": [0, 1, 1], "fracture": [1, NA, 0]}, dtype="Int8")
    probabilities = pd.DataFrame({"edema": [0.01, 0.05, 0.9], "fracture": [0.55, 0.3, 0.92]})
    bins = calibration_bins(labels, probabilities)
    # Bins 0: 0.01, 0.05 (one positive); 8: 0.55 (positive); 13: 0.9, 0.92 (one positive); 0.3 has no known label.
    assert bins.counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0]
    assert bins.edges == pytest.approx(np.arange(16) / 15)
    assert bins.mean_probability[[0, 8, 13]] == pytest.approx([0.03, 0.55, 0.91])
    assert bins.share_positive[[0, 8, 13]] == pytest.approx([0.5, 1, 0.5])
    assert np.isnan(bins.mean_probability[1]) and np.isnan(bins.share_positive[1])
    expected = (2 * 0.47 + 1 * 0.45 + 2 * 0.41) / 5
    assert bins.ece == pytest.approx(expected)
    assert score_head(labels, probabilities).ece == pytest.approx(expected)


def test_calibration_error_of_four_values_by_hand():
    labels = pd.DataFrame({"edema": [0, 0, 1, 1]}, dtype="Int8")
    probabilities = pd.DataFrame({"edema": [0.1, 0.4, 0.6, 0.8]})
    assert score_head(labels, probabilities, min_positives=1).ece == pytest.approx((0.1 + 0.4 + 0.4 + 0.2) / 4)


def test_perfect_calibration_has_no_error():
    labels = pd.DataFrame({"edema": [1] + [0] * 9 + [1] * 7 + [0] * 3}, dtype="Int8")
    probabilities = pd.DataFrame({"edema": [0.1] * 10 + [0.7] * 10})
    assert score_head(labels, probabilities, min_positives=1).ece == pytest.approx(0, abs=1e-12)


def test_the_ends_of_the_range_fall_in_the_end_bins():
    labels = pd.DataFrame({"edema": [0, 1, 0]}, dtype="Int8")
    bins = calibration_bins(labels, pd.DataFrame({"edema": [0.0, 1.0, 1 / 15]}))
    assert (bins.counts[0], bins.counts[-1], bins.counts.sum()) == (2, 1, 3)  # an edge belongs to the bin below
    assert math.isclose(bins.ece, (2 * (1 / 30)) / 3)


def test_head_columns_are_matched_by_name():
    labels, probabilities = head_tables()
    turned = probabilities[["granuloma", "edema", "fracture"]]
    assert score_head(labels, turned, 1) == score_head(labels, probabilities, 1)


def test_a_head_without_a_known_label_has_no_score():
    labels, probabilities = head_tables(5)
    for score in (score_head, calibration_bins):
        with pytest.raises(ValueError, match="no label is known"):
            score(labels.assign(edema=NA, fracture=NA, granuloma=NA), probabilities)
