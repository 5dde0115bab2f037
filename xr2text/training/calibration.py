"""What is fitted on the validation studies: the finding head's temperature, and from where a finding counts as present.

Letters: N studies, F findings.
"""

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

LEAST_POSITIVES = 8  # below, a finding's own best threshold would be chance: it takes the one that suits all together
TEMPERATURES = torch.logspace(-0.7, 0.7, 57)  # 0.2 to 5
THRESHOLDS = torch.linspace(0.02, 0.8, 79)


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The number to divide logits [N, F] by for the least cross-entropy with labels [N, F], NaN where not known (Guo et
    al., ICML 2017); 1 where nothing is known."""
    known = ~labels.isnan()
    if not known.any():
        return 1.0
    losses = [F.binary_cross_entropy_with_logits(logits[known] / one, labels[known]) for one in TEMPERATURES]
    return round(TEMPERATURES[torch.stack(losses).argmin()].item(), 4)


def fit_thresholds(probabilities: torch.Tensor, labels: torch.Tensor, names: list[str]) -> dict[str, float]:
    """Each finding's probability from which it is called present with the best F1 [N, F]; see LEAST_POSITIVES."""
    known, positive = ~labels.isnan(), labels == 1
    called = (probabilities[None] >= THRESHOLDS[:, None, None]) & known  # [thresholds, N, F]
    right, all_called, drawn = (called & positive).sum(1), called.sum(1), positive.sum(0)  # [thresholds, F], [F]
    together = _middle_of_best(2 * right.sum(1) / (all_called.sum(1) + drawn.sum()).clamp_min(1))
    own = 2 * right / (all_called + drawn).clamp_min(1)  # [thresholds, F]
    return {
        name: _middle_of_best(own[:, column]) if drawn[column] >= LEAST_POSITIVES else together
        for column, name in enumerate(names)
    }


def _middle_of_best(f1: torch.Tensor) -> float:
    """The threshold in the middle of those with the highest F1 [thresholds], which are often several."""
    best = (f1 == f1.max()).nonzero().squeeze(1)
    return round(THRESHOLDS[best[len(best) // 2]].item(), 2)


def mean_auc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean area under the ROC curve over the findings with at least 15 positives and a negative; NaN without any."""
    areas = []
    for column in range(labels.shape[1]):
        known = ~labels[:, column].isnan()
        truth = labels[known, column]
        if truth.sum() >= 15 and (truth == 0).any():
            areas.append(roc_auc_score(truth.numpy(), logits[known, column].numpy()))
    return float(torch.tensor(areas).mean()) if areas else float("nan")
