import math

import pandas as pd
import pytest
import torch

from xr2text.model.findings import FindingCalibration
from xr2text.training.card import findings_table
from xr2text.training.report import best_epoch
from xr2text.training.validate import fit_calibration, fit_scaling, fit_threshold, measure_finding


def test_the_scaling_undoes_overconfidence_and_a_shift():
    torch.manual_seed(0)
    truth = torch.randn(4000, 3)
    labels = (torch.rand_like(truth) < truth.sigmoid()).float()
    labels[:100] = math.nan
    assert fit_scaling(3 * truth - 2, labels) == pytest.approx([1 / 3, 2 / 3], rel=0.12)
    assert fit_scaling(truth, labels) == pytest.approx([1, 0], abs=0.1)
    assert fit_scaling(truth, torch.full_like(truth, math.nan)) == fit_scaling(truth, truth * 0) == [1, 0]


def sixty_of_300():
    """Probabilities and labels of a common finding and a rare one."""
    probabilities = torch.tensor([[0.9, 0.9]] * 30 + [[0.3, 0.2]] * 30 + [[0.1, 0.1]] * 240)
    labels = torch.zeros(300, 2)
    labels[10:70, 0] = 1  # as many as have 0.3 and more
    labels[120:122, 1] = 1
    return probabilities, labels


def test_the_threshold_asks_more_for_precision_than_for_recall():
    assert fit_threshold(*sixty_of_300()) == 0.3  # from 0.3 on 50 of 90 calls are right, from 0.9 on 20 of 60
    # From 0.6 on 20 of 20, of the 60 cases; from 0.4 on 60 of 120, which has the better F1, or 60 of 70.
    for maybe, threshold in ((100, 0.6), (50, 0.4)):
        probabilities = torch.tensor([0.605] * 20 + [0.405] * maybe + [0.1] * 100)[:, None]
        labels = (torch.arange(len(probabilities)) < 60).float()[:, None]
        assert fit_threshold(probabilities, labels) == threshold


def test_a_finding_that_is_not_assessed_counts_as_present_where_it_is_more_likely_than_not():
    torch.manual_seed(0)
    labels = torch.tensor([1.0, 0.0] * 30).expand(3, -1).T.clone()
    labels[18:, 2] = 0  # nine cases, all told rightly, are too few
    sure = 4 * labels - 2
    logits = torch.stack([sure[:, 0], torch.randn(60), sure[:, 2] - 1.9], dim=1)
    fitted = fit_calibration(logits, labels, ["nodule", "granuloma", "mass"])
    assert [fitted.measures[name].assessed for name in ("nodule", "granuloma", "mass")] == [True, False, False]
    assert fitted.thresholds["granuloma"] == fitted.thresholds["mass"] == 0.5 != fitted.thresholds["nodule"]
    assert (
        fitted.measures["granuloma"].sensitivity
        == measure_finding(fitted.probabilities(logits, list(fitted.scaling))[:, 1], labels[:, 1], 0.5).sensitivity
    )


def test_what_too_few_studies_show_is_kept():
    kept = FindingCalibration({"common": [1.3, 0.0], "rare": [1.2, 0.0]}, {"common": 0.4, "rare": 0.07})
    probabilities, labels = sixty_of_300()
    names = ["common", "rare"]
    two = slice(69, 121)  # with one positive each
    assert fit_calibration(probabilities[two].logit(), labels[two], names, kept) == kept
    fitted = fit_calibration(probabilities.logit(), labels, names, kept)
    assert fitted.thresholds["rare"] == 0.07 and fitted.thresholds["common"] != 0.4
    assert fitted.scaling["rare"] == [1.2, 0.0]
    assert fitted.scaling["common"] == fit_scaling(probabilities[:, 0].logit(), labels[:, 0]) != [1.3, 0.0]
    alone = fit_calibration(probabilities.logit(), labels, names)
    assert alone.scaling["rare"] == fit_scaling(probabilities.logit(), labels), "the rare take what suits all together"


def test_of_equal_scores_the_lower_loss_is_the_best_epoch():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "score": [0.1, 0.2, 0.2, 0.2], "validation ce": [1, 3, 2, 2]})
    assert best_epoch(history)["epoch"] == 3
    assert best_epoch(history.drop(columns="validation ce"))["epoch"] == 2, "of a training that learns no reports"


def test_how_well_a_finding_is_known_is_measured_with_intervals():
    torch.manual_seed(0)
    labels = torch.tensor([1.0] * 40 + [0.0] * 160 + [math.nan] * 30)
    probabilities = torch.cat([torch.full((30,), 0.8), torch.full((10,), 0.1), torch.full((160,), 0.2), torch.rand(30)])
    known = measure_finding(probabilities, labels, 0.5)
    assert (known.positives, known.negatives) == (40, 160) and known.assessed
    assert known.sensitivity == [0.75, 0.598, 0.858], "Wilson's, as tables have it for 30 of 40"
    assert known.specificity[0] == 1 and 0.97 < known.specificity[1] < 1
    assert known.auc[0] == pytest.approx(0.75) and known.auc[1] < 0.75 < known.auc[2]
    chance = measure_finding(torch.rand(200), torch.tensor([1.0, 0.0] * 100), 0.5)
    assert chance.auc[1] < 0.5 < chance.auc[2] and not chance.assessed
    rare = measure_finding(torch.tensor([0.9, 0.1, 0.2]), torch.tensor([1.0, 0.0, 0.0]), 0.5)
    assert rare.auc == [1, 1, 1] and not rare.assessed
    none = measure_finding(torch.rand(3), torch.zeros(3), 0.5)
    assert none.sensitivity is None and none.auc is None and not none.assessed


def test_the_card_has_what_was_measured():
    labels, logits = torch.tensor([[1.0], [0.0]] * 20), torch.tensor([[2.0], [-2.0]] * 20)
    table = findings_table(fit_calibration(logits, labels, ["nodule"]))
    assert "| nodule | 20 | 1.00 (0.84 to 1.00) | 1.00 (0.84 to 1.00) | 1.00 (1.00 to 1.00) | yes |" in table
    assert findings_table(FindingCalibration()) == ""
