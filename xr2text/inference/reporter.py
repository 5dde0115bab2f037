"""A radiograph in, a report with its region maps out: the one path of the page, the command line and programs.

Letters: H, W original height and width; h, w patch grid; seven regions in the order of `anatomy.REGION_NAMES`.
"""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xr2text import __version__
from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.read import radiograph_from_array, read_radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.confidence import FindingReading, disagreements, read_findings, sentence_confidence
from xr2text.inference.gate import Gate
from xr2text.model.xr2text import CheckpointError, GeneratedReports, XR2Text
from xr2text.text.sections import split_sentences
from xr2text.text.tokenizer import EOS, locate_sentences

_ends: ContextVar[float] = ContextVar("ends", default=math.inf)  # time.monotonic() at which a report is given up


@dataclass(frozen=True)
class Sentence:
    """One sentence of the report.

    Attributes:
        text: as it stands in the report.
        section: "findings" or "impression".
        region_weights: how much the sentence was written from each region, by name; they sum to 1. Empty for a sentence
            that a person wrote.
        confidence: how likely it is true as far as the model knows, in [0, 1], see `agreement.sentence_confidence`.
            None for a sentence that a person wrote.
    """

    text: str
    section: str
    region_weights: dict[str, float]
    confidence: float | None = None

    @property
    def region(self) -> str | None:
        """The region that it was written from most; None for a sentence that a person wrote."""
        if not self.region_weights:
            return None
        return max(self.region_weights, key=self.region_weights.__getitem__)


@dataclass(frozen=True, eq=False)
class Report:
    """What the model wrote of one radiograph, and where it looked while writing.

    Attributes:
        findings, impression: the two sections.
        sentences: of both sections, in order.
        region_weights: the router's weight of each region, by name; they sum to 1.
        grid_maps: [7, h, w] float32, attention of each region on the patch grid; each map sums to 1.
        geometry: brings the maps to the original's pixels.
        radiograph: what was read.
        model: name and version of the model.
        warnings: sentences that a reader of the report should know.
        finding_readings: the finding head's probabilities beside what the report says; empty without such a head.
        edited: a person has changed the text since the model wrote it.
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

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings, and where report and finding head disagree."""
        return (*self.warnings, *disagreements(self.finding_readings))

    def with_text(self, findings: str, impression: str) -> "Report":
        """The report as a person has edited it: sentences that stand as they were keep their regions."""
        findings, impression = " ".join(findings.split()), " ".join(impression.split())
        if (findings, impression) == (self.findings, self.impression):
            return self
        written = {(one.section, one.text): one for one in self.sentences}
        sentences = tuple(
            written.get((section, text), Sentence(text, section, {}))
            for section, whole in (("findings", findings), ("impression", impression))
            for text in split_sentences(whole)
        )
        readings = read_findings(
            f"{findings}\n\n{impression}",
            {one.name: one.probability for one in self.finding_readings},
            {one.name: one.threshold for one in self.finding_readings},
        )
        return replace(
            self, findings=findings, impression=impression, sentences=sentences, finding_readings=readings, edited=True
        )

    @property
    def maps(self) -> np.ndarray:
        """[7, H, W] float32 on the original's pixels, each scaled so that its peak is 1."""
        return self.maps_at(self.radiograph.height, self.radiograph.width)

    def sentence_map(self, sentence: Sentence) -> np.ndarray:
        """[h, w] float32, a sentence's place on the patch grid: the regions' maps by its weights; it sums to 1."""
        return np.tensordot(np.array(list(sentence.region_weights.values()), np.float32), self.grid_maps, axes=1)

    def maps_at(self, height: int, width: int, dtype: type = np.float32) -> np.ndarray:
        """`maps` on the radiograph resized to [height, width], one region in memory at a time beside the result."""
        maps = np.empty((len(self.grid_maps), height, width), dtype)
        for k in range(len(maps)):
            one = self.geometry.map_to_original(self.grid_maps[k : k + 1], (height, width))[0]
            maps[k] = one / one.max()
        return maps


class Reporter:
    """Writes reports with one loaded model.

    Args:
        model: in evaluation mode, with HAQT-ARR.
        device: where it runs; None: a GPU if there is one, else the CPU.
        gate: stops what is no frontal chest radiograph; None: a report is written of every picture.
    """

    def __init__(self, model: XR2Text, device: str | torch.device | None = None, gate: Gate | None = None):
        if model.config.haqt.projection != "haqt_arr":
            raise CheckpointError("this checkpoint has no region tokens (projection: linear), so it has no region maps")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        for part in (model.encoder, model.decoder.bart):  # bart is called at every step of the search
            part.register_forward_pre_hook(_give_up_when_late)
        self.gate = None if gate is None else gate.to(self.device)
        self._turn = threading.Lock()  # the model changes its attention while it looks where a report came from
        self.model_name = f"{model.name} {__version__}"

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, device: str | torch.device | None = None) -> "Reporter":
        """Loads a checkpoint folder or hub id, and the gate that ships. Raises CheckpointError where one of the two
        cannot be read."""
        return cls(XR2Text.from_pretrained(path_or_id), device, Gate.load())

    def report(
        self,
        image: str | os.PathLike | bytes | Radiograph | np.ndarray | Image.Image,
        force: bool = False,
        seconds: float = math.inf,
    ) -> Report:
        """Writes the report of one radiograph; one that was turned by quarters or is a negative is put right before.

        Args:
            image: a file's path or content (PNG, JPEG, TIFF, WebP, BMP, DICOM), or pixels.
            force: also where it is doubtful whether the picture is a frontal chest radiograph.
            seconds: after which the search stops, at its next step.

        Raises:
            TimeoutError: the report was not written within `seconds`.
            ImageError: the image cannot be read or is not accepted; its text is one sentence for the reader.
            RefusedImageError: an ImageError: it is no frontal chest radiograph.
            DoubtfulImageError: an ImageError: it may be none, and `force` is not set.
        """
        with _at_most(seconds):
            radiograph, notes = _as_radiograph(image), ()
            if self.gate is not None:
                radiograph, notes = self.gate.admit(radiograph, force)
            with self._turn:
                return self._write(radiograph, notes)

    def _write(self, radiograph: Radiograph, notes: tuple[str, ...]) -> Report:
        pixels, geometry = self.model.transform(radiograph)
        box = torch.tensor([geometry.box], dtype=torch.float32)
        written = self.model.generate(pixels[None].to(self.device), box.to(self.device))
        text, visual = written.reports[0], written.visual
        probabilities = self._probabilities(written)
        weights = visual.region_weights[0].float().cpu().tolist()
        return Report(
            findings=text.findings,
            impression=text.impression,
            sentences=self._sentences(written, probabilities),
            region_weights=dict(zip(REGION_NAMES, weights, strict=True)),
            grid_maps=visual.region_maps[0].float().cpu().numpy(),
            geometry=geometry,
            radiograph=radiograph,
            model=self.model_name,
            warnings=(*notes, *self._warnings(radiograph, EOS in written.token_ids[0])),
            finding_readings=read_findings(
                f"{text.findings}\n\n{text.impression}", probabilities, self.model.config.finding_thresholds
            ),
        )

    def _probabilities(self, written: GeneratedReports) -> dict[str, float]:
        if written.finding_logits is None:
            return {}
        probabilities = self.model.finding_probabilities(written.finding_logits[0].float()).cpu().tolist()
        return dict(zip(self.model.config.findings, probabilities, strict=True))

    def _sentences(self, written: GeneratedReports, probabilities: dict[str, float]) -> tuple[Sentence, ...]:
        weights = self.model.token_regions(written)[0].cpu()  # [T, K]
        log_p = self.model.token_log_probabilities(written)[0].cpu()  # [T]
        located = locate_sentences(self.model.tokenizer, written.token_ids[0].tolist())
        return tuple(
            Sentence(
                text, section, dict(zip(REGION_NAMES, weights[own].mean(0).tolist(), strict=True)),
                sentence_confidence(text, log_p[own].mean().exp().item(), probabilities),
            )
            for section, text, own in located
        )  # fmt: skip

    def _warnings(self, radiograph: Radiograph, finished: bool) -> list[str]:
        warnings = []
        if radiograph.view == "lateral":
            warnings.append("The file says that this is a lateral view; the model knows frontal views only.")
        if min(radiograph.height, radiograph.width) < self.model.transform.size // 2:
            warnings.append(
                f"The image is small ({radiograph.width} × {radiograph.height} pixels); fine detail is missing."
            )
        if not finished:
            warnings.append("The report reached its longest length and was cut.")
        return warnings


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    before = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(before)


def _give_up_when_late(*_: object) -> None:
    if time.monotonic() > _ends.get():
        raise TimeoutError("the report was not written in its time")


def _as_radiograph(image: str | os.PathLike | bytes | Radiograph | np.ndarray | Image.Image) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    if isinstance(image, np.ndarray | Image.Image):
        return radiograph_from_array(image)
    return read_radiograph(image)
