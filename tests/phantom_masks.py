"""Where the seven regions of a phantom lie in its frontal view."""

import numpy as np

from xr2text.anatomy import REGION_NAMES
from xr2text.phantom.anatomy import ribbons
from xr2text.phantom.drawing import Phantom


def phantom_masks(phantom: Phantom) -> np.ndarray:
    """[7, H, W] bool in the order of `anatomy.REGIONS`. The lungs leave out the heart and are the whole pleural space
    otherwise: fluid, air and collapsed lung stay inside them."""
    canvas, anatomy = phantom.canvas, phantom.anatomy
    right, left = anatomy.lungs["right"], anatomy.lungs["left"]
    heart = canvas.fill(([anatomy.heart], 1)) > 0.5
    domes = np.concatenate([right.dome, left.dome[::-1]])
    diaphragm = np.concatenate([domes, np.add(domes, [0, 0.14])[::-1]])
    circle = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 24)), np.sin(a)], -1) * [0.05, 0.065]
    angles = [lung.tip - [lung.sign * 0.025, 0.035] + circle for lung in (right, left)]
    width = 0.075 + 0.026 * anatomy.spine[:, 1]
    inner = (anatomy.spine[:, 1] > 0.02) & (anatomy.spine[:, 1] < 0.98)
    shapes = {
        "right lung": [right.outline],
        "left lung": [left.outline],
        "heart": [anatomy.heart],
        "mediastinum": [anatomy.mediastinum],
        "spine": ribbons(anatomy.spine[None, inner], width[None, inner]),
        "diaphragm": [diaphragm],
        "costophrenic angles": angles,
    }
    masks = {name: canvas.fill((outlines, 1)) > 0.5 for name, outlines in shapes.items()}
    for name in ("right lung", "left lung", "mediastinum"):
        masks[name] &= ~heart
    return np.stack([masks[name] for name in REGION_NAMES])
