import math

import pandas as pd
import pytest
import torch

from xr2text.model.findings import FindingCalibration
from xr2text.training.report import best_epoch
from xr2text.training.validate import fit_calibration, fit_temperature, fit_thresholds


def test_the_temperature_undoes_overconfidence():
    torch.manual_seed(0)
    truth = torch.randn(4000, 3)
    labels = (torch.rand_like(truth) < truth.sigmoid()).float()
    labels[:100] = math.nan
    assert fit_temperature(3 * truth, labels) == pytest.approx(3, rel=0.12)
    assert fit_temperature(truth, labels) == pytest.approx(1, rel=0.12)
    assert fit_temperature(truth, torch.full_like(truth, math.nan)) == 1


def test_thresholds_give_the_best_f1_and_rare_findings_share_one():
    probabilities = torch.tensor([[0.9, 0.9]] * 10 + [[0.3, 0.2]] * 10 + [[0.1, 0.1]] * 80)
    labels = torch.zeros(100, 2)
    labels[:20, 0] = 1  # from 0.3 on
    labels[40:42, 1] = 1  # two cases of low probability: a threshold for them alone would be lower still
    chosen = fit_thresholds(probabilities, labels, ["common", "rare"])
    assert 0.15 < chosen["common"] < 0.25  # midway between the cases at 0.3 and the others at 0.1
    assert chosen["rare"] > 0.1
    calibration = fit_calibration(probabilities.logit(), labels, ["common", "rare"])
    assert set(calibration.thresholds) == {"common", "rare"} and calibration.temperature > 0


def test_what_too_few_studies_show_is_kept():
    kept = FindingCalibration(1.3, {"common": 0.4, "rare": 0.07})
    probabilities = torch.tensor([[0.9, 0.9]] * 10 + [[0.3, 0.2]] * 10 + [[0.1, 0.1]] * 80)
    labels = torch.zeros(100, 2)
    labels[:20, 0], labels[40:42, 1] = 1, 1
    names = ["common", "rare"]
    two = slice(19, 41)  # with one positive each
    assert fit_calibration(probabilities[two].logit(), labels[two], names, kept) == kept
    fitted = fit_calibration(probabilities.logit(), labels, names, kept)
    assert fitted.thresholds["rare"] == 0.07 and 0.1 < fitted.thresholds["common"] < 0.3
    assert fitted.temperature == fit_temperature(probabilities.logit(), labels) != 1.3


def test_of_equal_scores_the_lower_loss_is_the_best_epoch():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "score": [0.1, 0.2, 0.2, 0.2], "validation ce": [1, 3, 2, 2]})
    assert best_epoch(history)["epoch"] == 3
