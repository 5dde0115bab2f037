"""Synthetic frontal chest radiographs drawn from varying anatomy, with true region masks and a true report.

A patient is drawn in fractions of the picture (phantom_anatomy), summed as attenuation and exposed (phantom_drawing),
and described (phantom_text), so the size only rasterises: the same seed is the same patient at every size. Each finding
has a random stream of its own, so the same seed with and without it differs by the finding alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xr2text.imaging.read import Radiograph
from xr2text.phantom.anatomy import draw_anatomy, draw_disease
from xr2text.phantom.drawing import Canvas, radiograph_pixels, region_masks
from xr2text.phantom.text import FINDINGS, findings_in, unknown_sentences, write_report

__all__ = ["FINDINGS", "Phantom", "draw_phantom", "findings_in", "unknown_sentences"]

NORMAL_RATIO = (0.38, 0.47)  # cardiothoracic ratio: the textbook limit is 0.50, the gap keeps the report true
ENLARGED_RATIO = (0.56, 0.65)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn radiograph and what is true of it.

    Attributes:
        pixels: [H, W] float32 in [0, 1], dense tissue bright; the patient's right is on the left.
        masks: [7, H, W] bool in the order of anatomy.REGIONS. The lungs leave out the heart and are the whole pleural
            space otherwise: fluid, air and collapsed lung stay inside them.
        findings: what is drawn, a subset of FINDINGS.
        findings_text: the Findings section of its report.
        impression_text: the Impression.
    """

    pixels: np.ndarray
    masks: np.ndarray
    findings: frozenset[str]
    findings_text: str
    impression_text: str

    @property
    def radiograph(self) -> Radiograph:
        return Radiograph(pixels=self.pixels, source="phantom", modality=None, body_part="CHEST", view="PA")


def _random_findings(rng: np.random.Generator) -> frozenset[str]:
    """None in two of five patients, otherwise one to three; not fluid and air in the pleura of one side."""
    if rng.uniform() < 0.4:
        return frozenset()
    wanted = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    chosen: list[str] = []
    for i in rng.permutation(len(FINDINGS)):
        side, _, kind = FINDINGS[i].partition(" ")
        rival = {"pleural effusion": f"{side} pneumothorax", "pneumothorax": f"{side} pleural effusion"}.get(kind)
        if len(chosen) < wanted and rival not in chosen:
            chosen.append(FINDINGS[i])
    return frozenset(chosen)


def draw_phantom(seed: int, size: int | tuple[int, int] = 256, findings: Iterable[str] | None = None) -> Phantom:
    """Draw a patient.

    Args:
        seed: >= 0; decides the anatomy, the findings' shapes and the wording. Same arguments, same phantom.
        size: pixels of a square picture, or (height, width); the anatomy fills either, stretched with it.
        findings: a subset of FINDINGS, drawn as given; None chooses from the seed, normal in about 40 %.

    Returns:
        The radiograph, its masks and its report.

    Raises:
        ValueError: an unknown finding, or a side of fewer than 32 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 32:
        raise ValueError(f"size {size} is too small to draw a chest: at least 32 pixels a side")
    if findings is None:
        present = _random_findings(np.random.default_rng([seed, 6]))
    else:
        present = frozenset([findings] if isinstance(findings, str) else findings)
    if unknown := sorted(present - set(FINDINGS)):
        raise ValueError(f"unknown findings {unknown}; allowed: {', '.join(FINDINGS)}")

    rng = np.random.default_rng([seed, 0])
    canvas = Canvas(height, width, rng)
    normal, enlarged = rng.uniform(*NORMAL_RATIO), rng.uniform(*ENLARGED_RATIO)
    anatomy = draw_anatomy(rng, enlarged if "cardiomegaly" in present else normal)
    disease = draw_disease(anatomy, present, seed)
    text = write_report(disease.details, np.random.default_rng([seed, 7]))
    return Phantom(radiograph_pixels(canvas, anatomy, disease, seed), region_masks(canvas, anatomy), present, *text)
