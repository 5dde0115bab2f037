import math

import pytest
import torch

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
