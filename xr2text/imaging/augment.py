"""Augmentation: another exposure of the same patient."""

import math

import cv2
import numpy as np

SHIFT, SCALE, TURN = 0.06, 0.12, 8  # largest shift (fraction of a side), scaling and rotation (degrees)
LOG_GAMMA, GAIN, OFFSET = 0.35, 0.2, 0.08  # largest changes of the exposure


def augment(
    canvas: np.ndarray,
    box: tuple[float, ...],
    random: np.random.Generator,
    masks: np.ndarray | None = None,
    strength: float = 1.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Shifts, scales and turns a radiograph a little and varies its contrast.

    It is never mirrored: sides are the patient's.

    Args:
        canvas: [S, S] float32 in [0, 1].
        box: the radiograph's place on the canvas, (left, top, right, bottom) as fractions; what leaves it is cut off,
            as at the edge of a detector.
        masks: [K, S, S] bool, moved with it; shifts and scales are then twice as large, so that attention learns to
            follow.
        strength: fraction of the greatest changes; 0 leaves everything as it is.

    Returns:
        the canvas and the masks, as they were given.
    """
    reach = strength * (1 if masks is None else 2)
    size = len(canvas)
    left, top, right, bottom = (round(edge * size) for edge in box)
    centre = (left + right) / 2, (top + bottom) / 2
    turn = cv2.getRotationMatrix2D(
        centre, strength * random.uniform(-TURN, TURN), 1 + reach * random.uniform(-SCALE, SCALE)
    )
    turn[:, 2] += reach * random.uniform(-SHIFT, SHIFT, size=2) * (right - left, bottom - top)
    log_gamma, gain, offset = (strength * random.uniform(-most, most) for most in (LOG_GAMMA, GAIN, OFFSET))
    inside = np.zeros(canvas.shape, bool)
    inside[top:bottom, left:right] = True
    moved = cv2.warpAffine(canvas, turn, (size, size), flags=cv2.INTER_LINEAR)
    moved = np.clip(moved ** math.exp(log_gamma) * (1 + gain) + offset, 0, 1) * inside
    if masks is None:
        return moved, None
    shifted = [cv2.warpAffine(mask.astype(np.uint8), turn, (size, size), flags=cv2.INTER_NEAREST) for mask in masks]
    return moved, np.stack(shifted).astype(bool) & inside
