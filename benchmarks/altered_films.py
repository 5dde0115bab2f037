"""Frontal radiographs as they should not be: what the gate lets pass of these, its distance is to tell of."""

import cv2
import numpy as np

Pixels = np.ndarray  # float32 [H, W] in [0, 1]


def blurred(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 60)


def noisy(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels + random.normal(0, 0.15, pixels.shape)


def tilted(pixels: Pixels, random: np.random.Generator) -> Pixels:
    height, width = pixels.shape
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1), (width, height))


def upper_part(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels[: int(0.6 * len(pixels))]


def lower_part(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels[int(0.4 * len(pixels)) :]


def one_side(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels[:, : pixels.shape[1] // 2]


def enlarged(pixels: Pixels, random: np.random.Generator) -> Pixels:
    height, width = (side // 6 for side in pixels.shape)
    return pixels[height:-height, width:-width]


def framed(pixels: Pixels, random: np.random.Generator) -> Pixels:
    wide = [int(0.35 * max(pixels.shape))] * 4
    return cv2.copyMakeBorder(pixels, *wide, cv2.BORDER_CONSTANT, value=0)


def bar_across(pixels: Pixels, random: np.random.Generator) -> Pixels:
    pixels = pixels.copy()
    pixels[int(0.35 * len(pixels)) : int(0.55 * len(pixels))] = 1
    return pixels


def through_a_tube(pixels: Pixels, random: np.random.Generator) -> Pixels:
    y, x = (np.linspace(-0.5, 0.5, side) for side in pixels.shape)
    return pixels * (np.hypot(y[:, None], x[None]) < 0.42)


def four_greys(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return np.round(3 * pixels) / 3


def widened(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return cv2.resize(pixels, (2 * pixels.shape[1], pixels.shape[0]))


def dark(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels**4


def mirrored(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return pixels[:, ::-1]


ALTERATIONS = {
    "blurred": blurred, "noisy": noisy, "tilted by 20°": tilted, "upper 60 %": upper_part, "lower 60 %": lower_part,
    "one half": one_side, "middle two thirds": enlarged, "in a wide black frame": framed,
    "a white bar across": bar_across, "through a round hole": through_a_tube, "four greys": four_greys,
    "twice as wide": widened, "dark (power 4)": dark, "mirrored": mirrored,
}  # fmt: skip


def altered(name: str, pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A film as one of ALTERATIONS has it."""
    return np.ascontiguousarray(np.clip(ALTERATIONS[name](pixels, random), 0, 1).astype(np.float32))
