"""What a model makes of many studies, reports or image features, batch by batch in a folder.

Studies are cut into fixed batches, batch i holding studies i*B to (i+1)*B - 1 whatever the number of processes, and
dealt out to the processes in turn. Each finished batch is one file, written whole or not at all:

    FOLDER/manifest.json       what the files were made of: model, settings, studies, batch size
    FOLDER/batch-00012.json    predictions (see `Prediction`), or batch-00012.npy, features [B, C]

A run that was stopped at any moment goes on where it was, with any number of processes. No file holds more of a study
than its id.

Letters: B batch, S image side, N studies (in shapes), H x W patch grid, C encoder width.
"""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from xr2text import __version__
from xr2text.config import GenerationConfig
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.sources import Study
from xr2text.errors import XR2TextError
from xr2text.evaluation.processes import Processes
from xr2text.model.xr2text import XR2Text

MANIFEST_FILE = "manifest.json"


class PredictionError(XR2TextError, ValueError):
    """Predictions that are missing, damaged or of something else; the message names the folder or the study."""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one study.

    Attributes:
        id: of the study.
        findings, impression: the report; the impression is empty where the model writes none.
        probabilities: of each finding of the model's finding head, in [0, 1], six decimals; None without a head.
    """

    id: str
    findings: str
    impression: str
    probabilities: dict[str, float] | None


def write_predictions(
    model: XR2Text,
    studies: Sequence[Study],
    folder: str | Path,
    batch_size: int,
    processes: Processes,
    settings: GenerationConfig | None = None,
    readers: int = 2,
) -> list[Prediction]:
    """Writes the reports of all studies, each from its first frontal radiograph, and returns them.

    To be called by all processes together, on a folder that all of them see. Each batch is computed in the same way
    for any number of processes, and gives the same bytes on the same hardware with the same number of threads.

    Args:
        model: is put in evaluation mode and moved to the process's device.
        settings: of the search; None: the checkpoint's.
        readers: threads that read the next batch's images while the model is at work on this one.

    Returns:
        on every process, the predictions in the studies' order.

    Raises:
        PredictionError: the folder holds predictions of another model, split, batch size or search.
        ValueError: there is no study, one has no image or stands there twice, or a size is below 1.
        DataError: an image cannot be read; it is named. What was finished before stays.
    """
    settings = settings or model.generation
    findings = list(model.config.findings)

    def predict(batch: dict[str, torch.Tensor]) -> bytes:
        written = model.generate(batch["pixel_values"], batch["box"], settings)
        probabilities = [None] * len(written.reports)
        if written.finding_logits is not None:
            # Rounded, since the last digits of a float32 say nothing.
            rows = model.finding_probabilities(written.finding_logits).double().cpu().numpy().round(6).tolist()
            probabilities = [dict(zip(findings, row, strict=True)) for row in rows]
        predictions = [
            asdict(Prediction(studies[index].id, report.findings, report.impression, probability))
            for index, report, probability in zip(
                batch["index"].tolist(), written.reports, probabilities, strict=True
            )
        ]  # fmt: skip
        return (json.dumps(predictions, ensure_ascii=False, indent=1) + "\n").encode()

    about = {"kind": "predictions", "generation": asdict(settings)}
    _write_batches(model, studies, Path(folder), batch_size, processes, readers, about, ".json", predict)
    return read_predictions(folder, studies)


def read_predictions(folder: str | Path, studies: Sequence[Study]) -> list[Prediction]:
    """Reads what `write_predictions` wrote.

    Returns:
        the predictions in the studies' order. The folder may hold more studies than are asked for.

    Raises:
        PredictionError: a study is missing, is there twice or is asked for twice (the first such one is named), or a
            file is damaged.
    """
    folder = Path(folder)
    found: dict[str, Prediction] = {}
    for file in _finished(folder, ".json"):
        try:
            predictions = [Prediction(**one) for one in json.loads(file.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise PredictionError(f"{file} is damaged ({error}); remove it and start again") from error
        for one in predictions:
            if one.id in found:
                raise PredictionError(f"{folder} holds more than one prediction for study {one.id!r}")
            found[one.id] = one
    _check_each_once(studies)
    missing = [study.id for study in studies if study.id not in found]
    if missing:
        raise PredictionError(
            f"{folder} holds no prediction for study {missing[0]!r}; {len(missing)} of {len(studies)} are missing"
        )
    return [found[study.id] for study in studies]


def image_features(
    model: XR2Text,
    studies: Sequence[Study],
    folder: str | Path,
    batch_size: int,
    processes: Processes,
    readers: int = 2,
) -> np.ndarray:
    """The encoder's features of each study's first frontal radiograph, mean over the patch grid.

    Kept in `folder`, a folder of their own, as `write_predictions` keeps predictions; arguments and errors are the
    same.

    Returns:
        [N, C] float32 in the studies' order, on every process.
    """

    def encode(batch: dict[str, torch.Tensor]) -> bytes:
        content = BytesIO()
        np.save(content, model.encoder(batch["pixel_values"]).mean(1).float().cpu().numpy())  # [B, C]
        return content.getvalue()

    folder = Path(folder)
    _write_batches(model, studies, folder, batch_size, processes, readers, {"kind": "features"}, ".npy", encode)
    parts = []
    for file in _finished(folder, ".npy"):
        try:
            parts.append(np.load(file, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise PredictionError(f"{file} is damaged ({error}); remove it and start again") from error
    features = np.concatenate(parts)
    if features.shape != (len(studies), model.encoder.width):
        raise PredictionError(
            f"{folder} holds features of shape {list(features.shape)} where {len(studies)} studies of width "
            f"{model.encoder.width} belong; remove it and start again"
        )
    return features


def _write_batches(
    model: XR2Text,
    studies: Sequence[Study],
    folder: Path,
    batch_size: int,
    processes: Processes,
    readers: int,
    about: dict,
    suffix: str,
    compute: Callable[[dict[str, torch.Tensor]], bytes],
) -> None:
    """Computes this process's share of the batches that are missing; returns when all processes are done."""
    for name, value in (("batch_size", batch_size), ("readers", readers)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if not studies:
        raise ValueError(f"there is no study to fill {folder} with")
    _check_each_once(studies)
    _claim(folder, _manifest(model, studies, batch_size, about), processes)

    files = [folder / f"batch-{number:05d}{suffix}" for number in range(-(-len(studies) // batch_size))]
    own = [number for number in range(processes.rank, len(files), processes.count) if not files[number].exists()]
    device = processes.device
    model.eval().to(device, memory_format=torch.channels_last)
    with (
        torch.inference_mode(),
        tqdm(
            desc=about["kind"], total=len(files), initial=len(_finished(folder, suffix)), unit="batch",
            disable=not processes.is_main, dynamic_ncols=True, mininterval=2,
        ) as bar,
    ):  # fmt: skip
        indices = [range(number * batch_size, min((number + 1) * batch_size, len(studies))) for number in own]
        for number, batch in zip(own, _read_ahead(_images(model, studies), indices, readers), strict=True):
            _write_whole(files[number], compute({name: value.to(device) for name, value in batch.items()}))
            if processes.is_main:
                bar.update(len(_finished(folder, suffix)) - bar.n)
        processes.wait()
        bar.update(len(files) - bar.n)


def _images(model: XR2Text, studies: Sequence[Study]) -> ReportDataset:
    """The studies as they are shown in validation, without their reports, so that none can reach the model."""
    bare = [replace(study, findings="", impression="") for study in studies]
    without = next((study.id for study in bare if not study.images), None)
    if without is not None:
        raise ValueError(f"study {without!r} has no image")
    return ReportDataset(bare, model.transform, model.tokenizer, max_tokens=1)


def _read_ahead(data: ReportDataset, batches: list[range], readers: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches in order, the next one being read while its predecessor is in use.

    Threads, not a DataLoader's processes, so that an error keeps its own message.
    """
    with ThreadPoolExecutor(readers) as pool:
        reading: deque[Iterator[dict]] = deque()
        for batch in batches:
            reading.append(pool.map(data.__getitem__, batch))  # begins at once
            if len(reading) == 2:
                yield collate(list(reading.popleft()))
        yield from (collate(list(examples)) for examples in reading)


def _manifest(model: XR2Text, studies: Sequence[Study], batch_size: int, about: dict) -> dict:
    """What the files depend on; of the model and the studies, digests."""
    ids = json.dumps([study.id for study in studies])
    return {
        **about,
        "xr2text_version": __version__,
        "model": _digest_of_model(model),
        "studies": hashlib.sha256(ids.encode()).hexdigest(),
        "batch_size": batch_size,
    }


def _digest_of_model(model: XR2Text) -> str:
    """SHA-256 over the model's settings, vocabulary and every tensor, by name."""
    vocabulary = None if model.tokenizer is None else model.tokenizer.get_vocab()
    digest = hashlib.sha256(json.dumps([asdict(model.config), vocabulary], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _claim(folder: Path, manifest: dict, processes: Processes) -> None:
    """Sets the manifest on a free folder; on a used one, holds that it is the same.

    Raises:
        PredictionError: on every process alike, so that none waits for another.
    """
    file = folder / MANIFEST_FILE
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        if all(file.name.startswith(".") for file in folder.iterdir()):  # free, or stopped in its first moment
            _write_whole(file, (json.dumps(manifest, indent=2) + "\n").encode())
    processes.wait()
    try:
        present = dict(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise PredictionError(
            f"{folder} holds files but no valid {MANIFEST_FILE} that says what they are; remove {folder} or choose "
            "another folder"
        ) from error
    other = sorted(name for name in {*present, *manifest} if present.get(name) != manifest.get(name))
    if other:
        raise PredictionError(
            f"{folder} holds {present.get('kind')} of another model, split or setting (they differ in "
            f"{', '.join(other)}); remove {folder} or choose another folder"
        )


def _check_each_once(studies: Sequence[Study]) -> None:
    doubled = [name for name, count in Counter(study.id for study in studies).items() if count > 1]
    if doubled:
        raise PredictionError(f"study {doubled[0]!r} is asked for more than once")


def _finished(folder: Path, suffix: str) -> list[Path]:
    """Files of finished batches, in order."""
    return sorted(folder.glob(f"batch-*{suffix}"), key=lambda file: int(file.stem.removeprefix("batch-")))


def _write_whole(path: Path, content: bytes) -> None:
    """A file that is there only once it is whole, whenever the process or the machine stops."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
