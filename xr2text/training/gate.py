"""Fits the gate of `inference.gate`: principal components, a linear classifier, and how far from their centre frontal
radiographs lie.

Letters: N pictures, D pooled features, P principal components.
"""

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from xr2text.inference.gate import CLASSES, Gate


def fit_gate(gate: Gate, pooled: np.ndarray, classes: np.ndarray, seed: int = 0) -> None:
    """Fits all but the backbone, in place.

    Args:
        gate: with its backbone's weights.
        pooled: [N, D] of `Gate.pooled`.
        classes: [N] numbers of CLASSES, each of which must be there. A fifth of the upright frontal radiographs, drawn
            by `seed`, is kept from the distances to scale them by.
    """
    missing = [name for number, name in enumerate(CLASSES) if not (classes == number).any()]
    if missing:
        raise ValueError(f"the gate needs pictures of every class; there is none of {missing[0]!r}")
    pooled = torch.from_numpy(pooled).double()
    centre = pooled.mean(0)
    _, values, axes = torch.linalg.svd(pooled - centre, full_matrices=False)
    count = gate.settings.components
    axes = axes[:count].T / (values[:count] / len(pooled) ** 0.5)  # [D, P], unit variance on each
    components = ((pooled - centre) @ axes).numpy()
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(components, classes)
    gate.centre.copy_(centre)
    gate.axes.copy_(axes)
    gate.classifier.weight.copy_(torch.from_numpy(model.coef_))
    gate.classifier.bias.copy_(torch.from_numpy(model.intercept_))

    frontal = np.random.default_rng(seed).permutation(components[classes == 0])
    kept, held_out = np.split(frontal, [4 * len(frontal) // 5])
    shape = LedoitWolf().fit(kept)
    gate.frontal_centre.copy_(torch.from_numpy(shape.location_))
    gate.frontal_whitening.copy_(torch.linalg.cholesky(torch.from_numpy(shape.precision_)))
    away = (torch.from_numpy(held_out).float() - gate.frontal_centre) @ gate.frontal_whitening
    gate.usual.copy_(away.norm(dim=1).quantile(0.995))
