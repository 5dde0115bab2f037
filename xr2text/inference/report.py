"""The report: its text, the regions that it was written from, and how far to rely on it.

Shapes: H, W original height and width; h, w patch grid; K = 7 regions in the order of `anatomy.REGION_NAMES`; Q tokens,
D width, F findings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.confidence import FindingReading, confidence_in_words, disagreements, read_findings
from xr2text.model.haqt_arr import VisualTokens
from xr2text.text.sections import split_sentences


@dataclass(frozen=True, eq=False)
class Encoded:
    """One study as the decoder reads it: visual tokens of a batch of one, and the finding head's logits [1, F]."""

    visual: VisualTokens
    head_logits: torch.Tensor | None

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Encoded":
        """Applies `change` to every tensor."""
        return Encoded(self.visual.each(change), None if self.head_logits is None else change(self.head_logits))


@dataclass(frozen=True)
class Sentence:
    """One sentence of the report."""

    text: str
    section: str  # "findings" or "impression"
    region_weights: dict[str, float]  # attribution by region, summing to 1; empty: a person wrote it
    confidence: float | None = None  # probability that it is true, see `sentence_confidence`; None: a person wrote it
    not_assessed: tuple[str, ...] = ()  # findings of the sentence that the model does not know well enough
    as_set: tuple[str, ...] = ()  # findings of which the sentence says what a person has set
    against_set: tuple[str, ...] = ()  # findings of which it contradicts what a person has set
    lateral_weight: float = 0.0  # fraction of the attribution that is the lateral view's; the regions have the rest
    possible: tuple[str, ...] = ()  # findings that it denies although they have twice their usual probability

    @property
    def region(self) -> str | None:
        """The region with the largest weight; None for a sentence that a person wrote."""
        if not self.region_weights:
            return None
        return max(self.region_weights, key=self.region_weights.__getitem__)

    @property
    def certainty(self) -> str:
        """How far to rely on the sentence, in words. The model is never sure of findings that it does not know, nor of
        denying possible ones."""
        if self.confidence is None:
            return "written by a person"
        reasons = {
            "against what a person set": self.against_set,
            "not assessed by this model": self.not_assessed,
            "denied, though possible": self.possible,
            "as a person set": self.as_set,
        }
        remarks = [f"{reason}: {', '.join(names)}" for reason, names in reasons.items() if names]
        return "; ".join(remarks) or f"{confidence_in_words(self.confidence)} confidence"


@dataclass(frozen=True, eq=False)
class Report:
    """The report of one study, with the regions that its sentences come from.

    Attributes:
        findings, impression: the two sections.
        sentences: of both sections, in order.
        region_weights: the router's weight of each region, by name; they sum to 1.
        grid_maps: [K, h, w] float32, attention of each region on the patch grid; each map sums to 1.
        geometry: brings the maps to the original's pixels.
        radiograph: what was read.
        model: name and version of the model.
        warnings: sentences that a reader of the report should know.
        notes: those of them that are of the radiograph, whatever is written.
        lateral: the lateral view that was read beside it; None: there was none.
        lateral_geometry: brings `lateral_map` to its pixels.
        finding_readings: the finding head's probabilities beside what the report says; empty without such a head.
        edited: a person has changed the text since the model wrote it.
        encoded: what the model saw, for `Reporter.rewrite`; None where a report was not kept for that.
    """

    findings: str
    impression: str
    sentences: tuple[Sentence, ...]
    region_weights: dict[str, float]
    grid_maps: np.ndarray
    geometry: Geometry
    radiograph: Radiograph
    model: str
    warnings: tuple[str, ...]
    finding_readings: tuple[FindingReading, ...] = ()
    edited: bool = False
    encoded: Encoded | None = None
    notes: tuple[str, ...] = ()
    lateral: Radiograph | None = None
    lateral_geometry: Geometry | None = None
    lateral_map: np.ndarray | None = None  # [h, w] float32, attention to the lateral view; it sums to 1

    @property
    def set_findings(self) -> dict[str, str]:
        """The findings that a person has set, "present" or "absent" by name."""
        return {reading.name: reading.set_to for reading in self.finding_readings if reading.set_to}

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings, and a sentence for each finding in which report and finding head disagree."""
        return (*self.warnings, *disagreements(self.finding_readings))

    def with_text(self, findings: str, impression: str) -> "Report":
        """The report with a person's text; sentences that are unchanged keep their regions."""
        findings, impression = " ".join(findings.split()), " ".join(impression.split())
        if (findings, impression) == (self.findings, self.impression):
            return self
        written = {(sentence.section, sentence.text): sentence for sentence in self.sentences}
        sentences = tuple(
            written.get((section, text), Sentence(text, section, {}))
            for section, whole in (("findings", findings), ("impression", impression))
            for text in split_sentences(whole)
        )
        readings = read_findings(f"{findings}\n\n{impression}", self.finding_readings)
        return replace(
            self, findings=findings, impression=impression, sentences=sentences, finding_readings=readings, edited=True
        )

    @property
    def maps(self) -> np.ndarray:
        """[K, H, W] float32 on the pixels of `radiograph`, each scaled so that its peak is 1."""
        return self.maps_at(self.radiograph.height, self.radiograph.width)

    def maps_at(self, height: int, width: int, dtype: type = np.float32) -> np.ndarray:
        """`maps` on the radiograph resized to [height, width], one region in memory at a time beside the result."""
        maps = np.empty((len(self.grid_maps), height, width), dtype)
        for k in range(len(maps)):
            region = self.geometry.map_to_original(self.grid_maps[k : k + 1], (height, width))[0]
            maps[k] = region / region.max()
        return maps
