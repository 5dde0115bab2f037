"""Predictions for many studies, reports or image features, stored batch by batch in a folder.

Studies are cut into fixed batches, batch i holding studies i*B to (i+1)*B - 1 whatever the number of processes, and
dealt out to the processes in turn. Each finished batch is one file, written whole or not at all:

    FOLDER/manifest.json      what the files were made of: model, settings, studies, batch size
    FOLDER/batch-00012.npz    columns of B rows, see `Predictions`; or `features`

A run that was stopped at any moment goes on where it was, with any number of processes. Of a study no file holds more
than what the model made of it.

Shapes: B batch, S image side, N studies, F findings, K regions, H x W patch grid, C encoder width.
"""

import hashlib
import json
import os
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from xr2text import __version__
from xr2text.data.cache import canvas_of
from xr2text.data.study import Image, Study
from xr2text.errors import XR2TextError
from xr2text.files import atomic_write
from xr2text.imaging.transform import ImageTransform
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.lateral import LateralImages

MANIFEST_FILE = "manifest.json"
READERS = 2  # threads that read the images of the next batches


Batch = tuple[torch.Tensor, torch.Tensor, LateralImages | None]  # frontal images [B, 3, S, S], boxes [B, 4], laterals


class PredictionError(XR2TextError):
    """Predictions that are damaged or of another model, split or setting, or a study that cannot be predicted. The
    message names the folder or the study."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A system's output for N studies, in their order."""

    findings: list[str]
    impressions: list[str]  # empty where the system writes none
    probabilities: np.ndarray | None = None  # [N, F] of the finding head, six decimals; None without a head
    maps: np.ndarray | None = None  # [N, K, H, W] that the reports were written from; None without regions


def processes() -> PartialState:
    """accelerate's state of this launch, or of this process alone. Processes communicate by Gloo on CPUs, by NCCL on
    GPUs."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpu = several and not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu, timeout=timedelta(hours=24))  # how long a process may wait for a slower one


def write_predictions(
    checkpoint: Checkpoint, studies: Sequence[Study], folder: str | Path, batch_size: int, lateral: bool = False
) -> Predictions:
    """Writes the reports of all studies, each from its first frontal radiograph, and returns them on every process.

    To be called by all processes together, on a folder that all of them see. A batch has the same bytes for any number
    of processes of the same hardware and number of threads.

    Args:
        checkpoint: its model is put in evaluation mode and moved to the process's device.
        lateral: reports are written from the study's first lateral radiograph, too, where it has one.

    Raises:
        PredictionError: the folder holds predictions of another model, split, batch size, search or views, or a damaged
            file; or a study has no image or stands there twice.
        DataError: an image cannot be read; it is named. What was finished before stays.
    """
    model = checkpoint.model

    def write(batch: Batch) -> dict[str, np.ndarray]:
        written = checkpoint.generator.generate(*batch)
        columns = {
            "findings": np.array([report.findings for report in written.reports]),
            "impressions": np.array([report.impression for report in written.reports]),
        }
        if written.finding_logits is not None:
            probabilities = model.finding_probabilities(written.finding_logits).double().cpu().numpy()
            columns["probabilities"] = probabilities.round(6)  # the last digits of a float32 carry no information
        if written.visual.region_maps is not None:
            columns["maps"] = written.visual.region_maps.half().cpu().numpy()
        return columns

    about = {"kind": "predictions", "generation": checkpoint.generation.model_dump(), "lateral": lateral}
    columns = _write_batches(checkpoint, studies, Path(folder), batch_size, about, write, lateral)
    texts = [columns.pop(name).tolist() for name in ("findings", "impressions")]
    return Predictions(*texts, **columns)


def image_features(checkpoint: Checkpoint, studies: Sequence[Study], folder: str | Path, batch_size: int) -> np.ndarray:
    """The encoder's features [N, C] of each study's first frontal radiograph, averaged over the patch grid. They are
    kept in a `folder` of their own, as `write_predictions` keeps predictions; arguments and errors are the same."""

    def encode(batch: Batch) -> dict[str, np.ndarray]:
        return {"features": checkpoint.model.encoder(batch[0])[0].mean(1).float().cpu().numpy()}

    return _write_batches(checkpoint, studies, Path(folder), batch_size, {"kind": "features"}, encode)["features"]


def _write_batches(
    checkpoint: Checkpoint,
    studies: Sequence[Study],
    folder: Path,
    batch_size: int,
    about: dict,
    compute: Callable[[Batch], dict[str, np.ndarray]],
    lateral: bool = False,
) -> dict[str, np.ndarray]:
    """Computes this process's share of the missing batches, and returns all columns once all batches are there."""
    _check(studies)
    state = processes()
    _claim(folder, _manifest(checkpoint, studies, batch_size, about), state)
    batches = [range(start, min(start + batch_size, len(studies))) for start in range(0, len(studies), batch_size)]
    files = [folder / f"batch-{number:05d}.npz" for number in range(len(batches))]
    missing = [n for n in range(state.process_index, len(files), state.num_processes) if not files[n].exists()]
    model = checkpoint.model.eval().to(state.device, memory_format=torch.channels_last)
    parts = ([studies[index] for index in batches[number]] for number in missing)
    images = _read_ahead(parts, model.transform, lateral)
    work = zip(missing, images, strict=True)
    with torch.inference_mode():
        for number, batch in tqdm(work, about["kind"], len(missing), unit="batch", disable=not state.is_main_process):
            columns = compute(tuple(part if part is None else part.to(state.device) for part in batch))
            with atomic_write(files[number]) as draft, draft.open("wb") as file:
                np.savez(file, **columns)
    state.wait_for_everyone()
    parts = [_read_batch(file, len(batch)) for file, batch in zip(files, batches, strict=True)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read_batch(file: Path, rows: int) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as columns:
            batch = dict(columns)
        if any(len(column) != rows for column in batch.values()):
            raise ValueError(f"it does not hold {rows} studies")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PredictionError(f"{file} is damaged ({error}); remove it and start again") from error
    return batch


def _read_ahead(batches: Iterable[list[Study]], transform: ImageTransform, lateral: bool) -> Iterator[Batch]:
    """The images of the batches in order; the next batches are read while one is in use."""
    with ThreadPoolExecutor(READERS) as pool:
        reading: deque[Future[Batch]] = deque()
        for batch in batches:
            reading.append(pool.submit(_read_images, batch, transform, lateral))
            if len(reading) > READERS:
                yield reading.popleft().result()
        yield from (batch.result() for batch in reading)


def _read_images(studies: Sequence[Study], transform: ImageTransform, lateral: bool) -> Batch:
    """The first frontal radiographs of the studies, without augmentation, and their lateral ones."""
    images, boxes = _canvases([study.main_image for study in studies], transform)
    sides = [study.lateral_image if lateral else None for study in studies]
    rows = [row for row, side in enumerate(sides) if side is not None]
    if not rows:
        return images, boxes, None
    return images, boxes, LateralImages(*_canvases([sides[row] for row in rows], transform), torch.tensor(rows))


def _canvases(images: Sequence[Image], transform: ImageTransform) -> tuple[torch.Tensor, torch.Tensor]:
    """Model inputs [B, 3, S, S] and their boxes [B, 4]."""
    canvases, geometries = zip(*(canvas_of(image, transform.size) for image in images), strict=True)
    pixels = torch.from_numpy(np.stack(canvases).astype(np.float32) / 255)  # [B, S, S]
    return transform.normalise(pixels), torch.tensor([geometry.box for geometry in geometries])


def _check(studies: Sequence[Study]) -> None:
    counts = Counter(study.id for study in studies)
    for study in studies:
        if not study.images:
            raise PredictionError(f"study {study.id!r} has no image")
        if counts[study.id] > 1:
            raise PredictionError(f"study {study.id!r} is asked for more than once")


def _manifest(checkpoint: Checkpoint, studies: Sequence[Study], batch_size: int, about: dict) -> dict:
    """Identifies what the files depend on: digests of the studies, and of the model's settings, vocabulary and
    tensors."""
    model = checkpoint.model
    parts = [model.config.model_dump(), asdict(model.calibration), checkpoint.tokenizer.get_vocab()]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    ids = json.dumps([study.id for study in studies])
    return {
        **about,
        "xr2text_version": __version__,
        "model": digest.hexdigest(),
        "studies": hashlib.sha256(ids.encode()).hexdigest(),
        "batch_size": batch_size,
    }


def _claim(folder: Path, manifest: dict, state: PartialState) -> None:
    """Writes the manifest into a new folder. Where a used folder has another manifest, it raises PredictionError on
    every process, so that none waits for another."""
    file = folder / MANIFEST_FILE
    if state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        if all(file.name.startswith(".") for file in folder.iterdir()):  # empty, or of a run that was stopped at once
            with atomic_write(file) as draft:
                draft.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    state.wait_for_everyone()
    try:
        present = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise PredictionError(f"{folder} holds files but no valid {MANIFEST_FILE}; choose another folder") from error
    if differing := sorted(name for name in {*present, *manifest} if present.get(name) != manifest.get(name)):
        raise PredictionError(
            f"{folder} holds {present.get('kind')} of another model, split or setting (they differ in "
            f"{', '.join(differing)}); remove {folder} or choose another folder"
        )
