"""Inference: a radiograph in, a report with its region maps out, for the page, the command line and programs.

Shapes: H, W original height and width; h, w patch grid; K = 7 regions in the order of `anatomy.REGION_NAMES`; B batch,
T report tokens, F findings.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xr2text import __version__
from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import radiograph_from_array, read_radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.confidence import FindingReading, disagreements, read_findings, sentence_confidence
from xr2text.inference.gate import Gate
from xr2text.model.attribution import token_attribution, token_log_probabilities
from xr2text.model.checkpoint import Checkpoint, CheckpointError
from xr2text.model.generate import GeneratedReports
from xr2text.model.lateral import LateralImages
from xr2text.text.sections import split_sentences
from xr2text.text.tokenizer import EOS, locate_sentences

ImageSource = str | os.PathLike | bytes | Radiograph | np.ndarray | Image.Image
Views = tuple[ImageSource, ImageSource | None]  # the frontal radiograph and the lateral one


@dataclass(frozen=True)
class Sentence:
    """One sentence of the report."""

    text: str
    section: str  # "findings" or "impression"
    region_weights: dict[str, float]  # of what it was written from, by region; they sum to 1; empty: a person wrote it
    lateral_weight: float = 0.0  # share of the lateral view in what it was written from, beside all regions
    confidence: float | None = None  # how likely it is true, see `sentence_confidence`; None: a person wrote it

    @property
    def region(self) -> str | None:
        """The region that it was written from most; None for a sentence that a person wrote."""
        if not self.region_weights:
            return None
        return max(self.region_weights, key=self.region_weights.__getitem__)


@dataclass(frozen=True, eq=False)
class Report:
    """The report of one radiograph, and the places that it was written from.

    Attributes:
        findings, impression: the two sections.
        sentences: of both sections, in order.
        region_weights: the router's weight of each region, by name; they sum to 1.
        grid_maps: [K, h, w] float32, attention of each region on the patch grid; each map sums to 1.
        geometry: brings the maps to the original's pixels.
        radiograph: what was read.
        model: name and version of the model.
        warnings: sentences that a reader of the report should know.
        finding_readings: the finding head's probabilities beside what the report says; empty without such a head.
        edited: a person has changed the text since the model wrote it.
        lateral: the lateral view that was read beside it; None: there was none.
        lateral_map: [h, w] float32, attention to the lateral view on its patch grid, summing to 1; None without a view.
        lateral_geometry: brings that map to the lateral view's pixels.
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
    lateral: Radiograph | None = None
    lateral_map: np.ndarray | None = None
    lateral_geometry: Geometry | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings, and where report and finding head disagree."""
        return (*self.warnings, *disagreements(self.finding_readings))

    def with_text(self, findings: str, impression: str) -> "Report":
        """The report as a person has edited it: sentences that stand as they were keep their regions."""
        findings, impression = " ".join(findings.split()), " ".join(impression.split())
        if (findings, impression) == (self.findings, self.impression):
            return self
        written = {(sentence.section, sentence.text): sentence for sentence in self.sentences}
        sentences = tuple(
            written.get((section, text), Sentence(text, section, {}))
            for section, whole in (("findings", findings), ("impression", impression))
            for text in split_sentences(whole)
        )
        readings = read_findings(
            f"{findings}\n\n{impression}",
            {reading.name: reading.probability for reading in self.finding_readings},
            {reading.name: reading.threshold for reading in self.finding_readings},
        )
        return replace(
            self, findings=findings, impression=impression, sentences=sentences, finding_readings=readings, edited=True
        )

    @property
    def maps(self) -> np.ndarray:
        """[K, H, W] float32 on the original's pixels, each scaled so that its peak is 1."""
        return self.maps_at(self.radiograph.height, self.radiograph.width)

    def sentence_map(self, sentence: Sentence) -> np.ndarray:
        """[h, w] float32, a sentence's place on the patch grid: the regions' maps by its weights; it sums to 1."""
        return np.tensordot(np.array(list(sentence.region_weights.values()), np.float32), self.grid_maps, axes=1)

    def maps_at(self, height: int, width: int, dtype: type = np.float32) -> np.ndarray:
        """`maps` on the radiograph resized to [height, width], one region in memory at a time beside the result."""
        maps = np.empty((len(self.grid_maps), height, width), dtype)
        for k in range(len(maps)):
            region = self.geometry.map_to_original(self.grid_maps[k : k + 1], (height, width))[0]
            maps[k] = region / region.max()
        return maps


class Reporter:
    """Writes reports with a loaded checkpoint; several threads may share it, and take turns.

    Args:
        device: where it runs; None: a GPU if one is found, else the CPU.
        gate: stops what is no frontal chest radiograph; None: a report is written of every image.

    Raises:
        CheckpointError: the model has no region maps (projection "linear").
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device | None = None, gate: Gate | None = None):
        if checkpoint.model.config.haqt.projection != "haqt_arr":
            raise CheckpointError("this checkpoint has no region tokens (projection: linear), so it has no region maps")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.checkpoint, self.generator = checkpoint, checkpoint.generator
        self.model = checkpoint.model.eval().to(self.device, memory_format=torch.channels_last)
        self.gate = None if gate is None else gate.to(self.device)
        self.model_name = f"{checkpoint.name} {__version__}"
        self._turn, self._threads = threading.Lock(), torch.get_num_threads()

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, device: str | torch.device | None = None) -> "Reporter":
        """Loads a checkpoint folder or hub id, and the gate that ships. Raises CheckpointError."""
        return cls(Checkpoint.from_pretrained(path_or_id), device, Gate.load())

    def report(
        self,
        image: ImageSource,
        lateral: ImageSource | None = None,
        force: bool = False,
        max_time: float | None = None,
    ) -> Report:
        """Writes the report of one study; a frontal radiograph that was turned by quarters or is a negative is put
        right before.

        Args:
            image: the frontal radiograph: a file's path or content (PNG, JPEG, TIFF, WebP, BMP, DICOM), or pixels.
            lateral: the lateral one, if there is one. A checkpoint that reads frontal views alone warns of it.
            force: also where it is doubtful whether the image is a frontal chest radiograph.
            max_time: seconds after which the search stops, at its next step.

        Raises:
            TimeoutError: the report was not written within `max_time`.
            ImageError: the image cannot be read or is not accepted; its text is one sentence for the reader.
            RefusedImageError: an ImageError: it is no frontal chest radiograph.
            DoubtfulImageError: an ImageError: it may be none, and `force` is not set.
        """
        ends = None if max_time is None else time.monotonic() + max_time
        radiograph, side = _as_radiograph(image), None if lateral is None else _as_radiograph(lateral)
        with self._in_turn():
            report = self._write([(*self._admit(radiograph, force), side)], ends)[0]
        if ends is not None and time.monotonic() > ends:
            raise TimeoutError(f"the report was not written within {max_time:g} seconds")
        return report

    def reports(
        self, images: Iterable[ImageSource | Views], batch_size: int = 8, force: bool = False
    ) -> Iterator[Report | ImageError]:
        """Writes the reports of many studies, `batch_size` at a time, in their order.

        Args:
            images: frontal radiographs, or pairs of a frontal and a lateral one (or None).

        Yields:
            a report, or the ImageError that says why there is none, see `report`.
        """
        images = iter(images)
        while batch := list(islice(images, batch_size)):
            admitted = []
            for study in batch:
                image, lateral = study if isinstance(study, tuple) else (study, None)
                try:
                    radiograph, side = _as_radiograph(image), None if lateral is None else _as_radiograph(lateral)
                    with self._in_turn():
                        admitted.append((*self._admit(radiograph, force), side))
                except ImageError as error:
                    admitted.append(error)
            with self._in_turn():
                written = iter(self._write([given for given in admitted if isinstance(given, tuple)]))
            for given in admitted:
                yield next(written) if isinstance(given, tuple) else given

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One report at a time, on the cores that are free: two threads of which one must wait for a core are slower by
        far than one. Their number is the whole process's."""
        with self._turn:
            torch.set_num_threads(min(self._threads, free_cores()))
            try:
                yield
            finally:
                torch.set_num_threads(self._threads)

    def _admit(self, radiograph: Radiograph, force: bool) -> tuple[Radiograph, tuple[str, ...]]:
        return (radiograph, ()) if self.gate is None else self.gate.admit(radiograph, force)

    def _write(
        self, admitted: list[tuple[Radiograph, tuple[str, ...], Radiograph | None]], ends: float | None = None
    ) -> list[Report]:
        """The reports of frontal radiographs, each with what the gate says of it, and their lateral views."""
        if not admitted:
            return []
        pixels, geometries = zip(*(self.model.transform(radiograph) for radiograph, *_ in admitted), strict=True)
        box = torch.tensor([geometry.box for geometry in geometries])
        left = None if ends is None else max(0.0, ends - time.monotonic())
        laterals = [side if self.model.lateral is not None else None for *_, side in admitted]
        lateral_images, lateral_geometries = self._lateral_images(laterals)
        generated = self.generator.generate(
            torch.stack(pixels).to(self.device), box.to(self.device), lateral_images, max_time=left
        )
        probabilities = self._probabilities(generated)
        sentences = self._sentences(generated, probabilities)
        weights = generated.visual.region_weights.float().cpu().tolist()
        maps = generated.visual.region_maps.float().cpu().numpy()
        return [
            Report(
                findings=text.findings,
                impression=text.impression,
                sentences=sentences[row],
                region_weights=dict(zip(REGION_NAMES, weights[row], strict=True)),
                grid_maps=maps[row],
                geometry=geometries[row],
                radiograph=radiograph,
                model=self.model_name,
                warnings=(*notes, *self._warnings(radiograph, side, EOS in generated.token_ids[row])),
                finding_readings=read_findings(
                    f"{text.findings}\n\n{text.impression}", probabilities[row], self.model.calibration.thresholds
                ),
                lateral=laterals[row],
                lateral_map=None if laterals[row] is None else generated.visual.lateral.map[row].float().cpu().numpy(),
                lateral_geometry=lateral_geometries.get(row),
            )
            for row, (text, (radiograph, notes, side)) in enumerate(zip(generated.reports, admitted, strict=True))
        ]

    def _lateral_images(self, laterals: list[Radiograph | None]) -> tuple[LateralImages | None, dict[int, Geometry]]:
        """The lateral views of a batch, and by its row the geometry of each."""
        inputs = {row: self.model.transform(side) for row, side in enumerate(laterals) if side is not None}
        if not inputs:
            return None, {}
        geometries = {row: geometry for row, (_, geometry) in inputs.items()}
        box = torch.tensor([geometry.box for geometry in geometries.values()])
        images = LateralImages(torch.stack([pixels for pixels, _ in inputs.values()]), box, torch.tensor(list(inputs)))
        return images.to(self.device), geometries

    def _probabilities(self, generated: GeneratedReports) -> list[dict[str, float]]:
        """Of each report, the finding head's probabilities by name; empty without such a head."""
        if generated.finding_logits is None:
            return [{} for _ in generated.reports]
        rows = self.model.finding_probabilities(generated.finding_logits.float()).cpu().tolist()
        return [dict(zip(self.model.config.findings, row, strict=True)) for row in rows]

    def _sentences(self, generated: GeneratedReports, probabilities: list[dict]) -> list[tuple[Sentence, ...]]:
        weights = token_attribution(self.model, generated).cpu()  # [B, T, K + 1]
        log_p = token_log_probabilities(self.model, generated).cpu()  # [B, T]

        def sentence(row: int, section: str, text: str, tokens: list[int]) -> Sentence:
            *regions, lateral = weights[row, tokens].mean(0).tolist()
            shares = {name: share / sum(regions) for name, share in zip(REGION_NAMES, regions, strict=True)}
            likelihood = log_p[row, tokens].mean().exp().item()
            confidence = sentence_confidence(text, likelihood, probabilities[row])
            return Sentence(text, section, shares, lateral, confidence)

        return [
            tuple(sentence(row, *located) for located in locate_sentences(self.checkpoint.tokenizer, ids))
            for row, ids in enumerate(generated.token_ids.tolist())
        ]

    def _warnings(self, radiograph: Radiograph, lateral: Radiograph | None, finished: bool) -> list[str]:
        warnings = [*radiograph.notes]
        if radiograph.view == "lateral":
            warnings.append("The file says that this is a lateral view; it was read as a frontal one.")
        if lateral is not None and self.model.lateral is None:
            warnings.append("The lateral view was not read: this model knows frontal views only.")
        if min(radiograph.height, radiograph.width) < self.model.transform.size // 2:
            warnings.append(
                f"The image is small ({radiograph.width} × {radiograph.height} pixels); fine detail is missing."
            )
        if not finished:
            warnings.append("The report reached its longest length and was cut.")
        return warnings


def _as_radiograph(image: ImageSource) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    if isinstance(image, np.ndarray | Image.Image):
        return radiograph_from_array(image)
    return read_radiograph(image)


def free_cores() -> int:
    """How many cores have nothing else to run at this moment; all of them where the system does not say."""
    cores = os.cpu_count() or 1
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])  # this thread among them
    except (OSError, ValueError, IndexError):
        return cores
    return max(1, cores - running + 1)
