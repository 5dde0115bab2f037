"""Inference: a radiograph in, a report with its region maps out, for the page, the command line and programs.

Shapes: H, W original height and width; h, w patch grid; K = 7 regions in the order of `anatomy.REGION_NAMES`; B batch,
T report tokens, F findings.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from xr2text.inference.confidence import (
    FindingReading,
    check_set_findings,
    read_findings,
    sentence_confidence,
    spoken_of,
)
from xr2text.inference.gate import DoubtfulImageError, Gate
from xr2text.inference.report import Encoded, Report, Sentence
from xr2text.model.attribution import read_tokens, sentence_attribution
from xr2text.model.checkpoint import Checkpoint, CheckpointError
from xr2text.model.generate import GeneratedReports
from xr2text.model.lateral import LateralImages
from xr2text.text.tokenizer import EOS, locate_sentences

NO_LATERAL = "It is doubtful whether the second image is a lateral view of a chest."
CUT = "The report reached its longest length and was cut."
ImageSource = str | os.PathLike | bytes | Radiograph | np.ndarray | Image.Image
Views = tuple[ImageSource, ImageSource | None]  # the frontal radiograph and the lateral one


@dataclass(frozen=True, eq=False)
class Admitted:
    """The input of a report: the frontal radiograph, notes for the reader, and the lateral view."""

    radiograph: Radiograph
    notes: tuple[str, ...]
    lateral: Radiograph | None = None


class Reporter:
    """Writes reports with a loaded checkpoint. Several threads may share it and take turns.

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

    @property
    def takes_lateral(self) -> bool:
        """Whether the checkpoint reads a lateral view beside the frontal one."""
        return self.model.lateral is not None

    def is_lateral(self, radiograph: Radiograph) -> bool:
        """Whether a radiograph is a lateral view, by its file's header or, where that does not say, by the gate."""
        if self.gate is None:
            return radiograph.view == "lateral"
        with self._in_turn():
            return self.gate.view(radiograph) == "lateral"

    def report(
        self, image: ImageSource, lateral: ImageSource | None = None, force: bool = False,
        max_time: float | None = None, findings: Mapping[str, str] | None = None,
    ) -> Report:  # fmt: skip
        """Writes the report of one study. A frontal radiograph that is a negative, or turned by quarters, is corrected
        first.

        Args:
            image: the frontal radiograph: a file's path or content (PNG, JPEG, TIFF, WebP, BMP, DICOM), or pixels.
            lateral: the lateral one, if there is one. A checkpoint that reads frontal views alone warns of it.
            force: also where it is doubtful whether the image is a frontal chest radiograph or `lateral` a lateral one.
            max_time: seconds after which the search stops, at its next step.
            findings: what a person has set to "present" or "absent", by finding; the report is written from that.

        Raises:
            TimeoutError: the report was not written within `max_time`.
            FindingError: a finding that this model does not have, or another state.
            ImageError: the image cannot be read or is not accepted; its text is one sentence for the reader.
            RefusedImageError: an ImageError: it is no frontal chest radiograph.
            DoubtfulImageError: an ImageError: it may be none, or `lateral` no lateral one, and `force` is not set.
        """
        findings = self._checked(findings)
        views = _as_radiograph(image), None if lateral is None else _as_radiograph(lateral)
        with self._until(max_time) as ends, self._in_turn():
            return self._write([self._admit(*views, force)], findings, ends)[0]

    def rewrite(self, report: Report, findings: Mapping[str, str], max_time: float | None = None) -> Report:
        """Writes a report anew for the same encoded study, with only these findings set. Raises TimeoutError and
        FindingError as `report` does."""
        findings = self._checked(findings)
        with self._until(max_time) as ends, self._in_turn():
            encoded = report.encoded.each(lambda values: values.to(self.device))
            generated = self.generator.write(encoded.visual, encoded.head_logits, _left(ends), findings)
            admitted = Admitted(report.radiograph, report.notes, report.lateral)
            geometries = [report.geometry], {0: report.lateral_geometry}
            return self._read(generated, findings, [admitted], *geometries)[0]

    def reports(
        self, images: Iterable[ImageSource | Views], batch_size: int = 8, force: bool = False,
        findings: Mapping[str, str] | None = None,
    ) -> Iterator[Report | ImageError]:  # fmt: skip
        """Writes the reports of many studies, `batch_size` at a time, in their order, with the same findings set.

        Args:
            images: frontal radiographs, or pairs of a frontal and a lateral one (or None).

        Yields:
            a report, or the ImageError that says why there is none, see `report`.
        """
        images, findings = iter(images), self._checked(findings)
        while batch := list(islice(images, batch_size)):
            admitted = []
            for study in batch:
                image, lateral = study if isinstance(study, tuple) else (study, None)
                try:
                    views = _as_radiograph(image), None if lateral is None else _as_radiograph(lateral)
                    with self._in_turn():
                        admitted.append(self._admit(*views, force))
                except ImageError as error:
                    admitted.append(error)
            with self._in_turn():
                written = iter(self._write([given for given in admitted if isinstance(given, Admitted)], findings))
            for given in admitted:
                yield next(written) if isinstance(given, Admitted) else given

    def _checked(self, findings: Mapping[str, str] | None) -> dict[str, str]:
        return check_set_findings(findings, self.model.config.findings)

    @contextmanager
    def _until(self, max_time: float | None) -> Iterator[float | None]:
        """Gives the time at which `max_time` seconds are over. Raises TimeoutError where the block takes longer."""
        ends = None if max_time is None else time.monotonic() + max_time
        yield ends
        if ends is not None and time.monotonic() > ends:
            raise TimeoutError(f"the report was not written within {max_time:g} seconds")

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One report at a time, with no more threads than there are free cores: two threads that share a core are far
        slower than one. torch's thread count is that of the whole process."""
        with self._turn:
            torch.set_num_threads(min(self._threads, free_cores()))
            try:
                yield
            finally:
                torch.set_num_threads(self._threads)

    def _admit(self, radiograph: Radiograph, lateral: Radiograph | None, force: bool) -> Admitted:
        """Checks both views, and corrects the frontal one where needed. Raises ImageError."""
        if lateral is not None and not force:
            if lateral.contradiction:
                raise DoubtfulImageError(lateral.contradiction)
            if self.takes_lateral and self.gate is not None and self.gate.view(lateral) != "lateral":
                raise DoubtfulImageError(NO_LATERAL)
        contradictions = [view.contradiction for view in (radiograph, lateral) if view is not None]
        radiograph, notes = (radiograph, ()) if self.gate is None else self.gate.admit(radiograph, force)
        contradictions = [sentence for sentence in contradictions if sentence not in " ".join(notes)]
        notes = (*notes, *contradictions, *self._notes(radiograph))
        if lateral is not None and not self.takes_lateral:
            lateral, notes = None, (*notes, "The lateral view was not read: this model knows frontal views only.")
        return Admitted(radiograph, notes, lateral)

    def _write(self, admitted: list[Admitted], findings: dict[str, str], ends: float | None = None) -> list[Report]:
        if not admitted:
            return []
        pixels, geometries = zip(*(self.model.transform(study.radiograph) for study in admitted), strict=True)
        box = torch.tensor([geometry.box for geometry in geometries])
        lateral, lateral_geometries = self._lateral_images(admitted)
        images = torch.stack(pixels).to(self.device)
        generated = self.generator.generate(images, box.to(self.device), lateral, _left(ends), findings)
        return self._read(generated, findings, admitted, geometries, lateral_geometries)

    def _lateral_images(self, admitted: list[Admitted]) -> tuple[LateralImages | None, dict[int, Geometry]]:
        """The lateral views of a batch, and the geometry of each by its row."""
        rows = [row for row, study in enumerate(admitted) if study.lateral is not None]
        if not rows:
            return None, {}
        pixels, geometries = zip(*(self.model.transform(admitted[row].lateral) for row in rows), strict=True)
        box = torch.tensor([geometry.box for geometry in geometries])
        images = LateralImages(torch.stack(pixels), box, torch.tensor(rows)).to(self.device)
        return images, dict(zip(rows, geometries, strict=True))

    def _read(
        self,
        generated: GeneratedReports,
        findings: dict[str, str],
        admitted: list[Admitted],
        geometries: Sequence[Geometry],
        lateral_geometries: Mapping[int, Geometry | None],
    ) -> list[Report]:
        """Makes reports of what was generated: sentences, regions, maps, findings and warnings."""
        readings = self._readings(generated, findings)
        sentences = self._sentences(generated, readings)
        whole = Encoded(generated.visual, generated.head_logits)
        weights = generated.visual.region_weights.float().cpu().tolist()
        maps = generated.visual.region_maps.float().cpu().numpy()
        sides = generated.visual.lateral
        return [
            Report(
                findings=text.findings,
                impression=text.impression,
                sentences=sentences[row],
                region_weights=dict(zip(REGION_NAMES, weights[row], strict=True)),
                grid_maps=maps[row],
                geometry=geometries[row],
                radiograph=study.radiograph,
                model=self.model_name,
                notes=study.notes,
                warnings=(*study.notes, *(() if EOS in generated.token_ids[row] else (CUT,))),
                finding_readings=read_findings(f"{text.findings}\n\n{text.impression}", readings[row]),
                encoded=whole.each(lambda values, row=row: values[row : row + 1].cpu().clone()),
                lateral=study.lateral,
                lateral_geometry=lateral_geometries.get(row),
                lateral_map=None if study.lateral is None else sides.map[row].float().cpu().numpy(),
            )
            for row, (text, study) in enumerate(zip(generated.reports, admitted, strict=True))
        ]

    def _readings(self, generated: GeneratedReports, findings: dict[str, str]) -> list[list[FindingReading]]:
        """What the finding head sees for each report; empty lists for a model without a head."""
        if generated.head_logits is None:
            return [[] for _ in generated.reports]
        calibration = self.model.calibration
        rows = self.model.finding_probabilities(generated.head_logits.float()).cpu().tolist()
        return [
            [
                FindingReading(
                    name, probability, calibration.thresholds.get(name, 0.5),
                    set_to=findings.get(name), measure=calibration.measures.get(name),
                )
                for name, probability in zip(self.model.config.findings, row, strict=True)
            ]
            for row in rows
        ]  # fmt: skip

    def _sentences(
        self, generated: GeneratedReports, readings: list[list[FindingReading]]
    ) -> list[tuple[Sentence, ...]]:
        of_tokens, log_p = read_tokens(self.model, generated)  # [B, T, K + 1], [B, T]
        located = [locate_sentences(self.checkpoint.tokenizer, ids) for ids in generated.token_ids.tolist()]
        places = sentence_attribution(self.model, generated.visual, of_tokens, located)

        def sentence(row: int, place: torch.Tensor, section: str, text: str, tokens: list[int]) -> Sentence:
            *regions, lateral = place.tolist()
            shares = {name: share / sum(regions) for name, share in zip(REGION_NAMES, regions, strict=True)}
            confidence = sentence_confidence(text, log_p[row, tokens].mean().exp().item(), readings[row])
            return Sentence(text, section, shares, confidence, lateral_weight=lateral, **spoken_of(text, readings[row]))

        return [
            tuple(sentence(row, place, *found) for place, found in zip(places[row], located[row], strict=True))
            for row in range(len(located))
        ]

    def _notes(self, radiograph: Radiograph) -> Iterator[str]:
        """Notes about a radiograph that hold whatever the report says."""
        yield from radiograph.notes
        if radiograph.view == "lateral":
            yield "The file says that this is a lateral view; it was read as a frontal one."
        if min(radiograph.height, radiograph.width) < self.model.transform.size // 2:
            yield f"The image is small ({radiograph.width} × {radiograph.height} pixels); fine detail is missing."


def _left(ends: float | None) -> float | None:
    """Seconds until `ends`."""
    return None if ends is None else max(0.0, ends - time.monotonic())


def _as_radiograph(image: ImageSource) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    if isinstance(image, np.ndarray | Image.Image):
        return radiograph_from_array(image)
    return read_radiograph(image)


def free_cores() -> int:
    """How many cores are idle at this moment; all cores where the system does not say."""
    cores = os.cpu_count() or 1
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])  # includes this thread
    except (OSError, ValueError, IndexError):
        return cores
    return max(1, cores - running + 1)
