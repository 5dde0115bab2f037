"""Studies as training examples: one frontal radiograph and its report.

Letters: B batch, S image side, T tokens.
"""

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from xr2text.data.sources import ImageFile, PhantomImage, Study
from xr2text.imaging.transform import ImageTransform, letterbox
from xr2text.text.tokenizer import encode_report, pad_labels


class ReportDataset(Dataset):
    """Frontal radiographs with their reports. Images are read as they are asked for, or all at once by `read_all`.

    In training every frontal radiograph of a study is an example; in evaluation each study stands once, with its first
    one (or, where it has none, its first image).

    Args:
        studies: with at least one image each.
        max_tokens: length at which a report is cut.
        impression: reports have an impression, see `encode_report`.
        findings: names of the findings to label, in the model's order.
        training: examples are shifted, scaled, turned a little and varied in contrast, reproducibly for each epoch
            (`set_epoch`); never mirrored.
    """

    def __init__(
        self,
        studies: list[Study],
        transform: ImageTransform,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        impression: bool = True,
        findings: Iterable[str] = (),
        training: bool = False,
        augment: bool = False,
        seed: int = 0,
    ):
        self.transform, self.augment, self.seed, self.epoch = transform, augment, seed, 0
        self.examples = examples_of(studies, training, impression)
        self.labels = [encode_report(tokenizer, study.report, max_tokens, impression) for study, _ in self.examples]
        self.finding_labels = torch.tensor([finding_row(study, findings) for study, _ in self.examples])
        self._canvases: list[tuple[np.ndarray, tuple[float, ...]]] = []

    def set_epoch(self, epoch: int) -> None:
        """Changes the augmentation; the same epoch gives the same examples."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def read_all(self, progress: bool = True) -> None:
        """Reads every image into memory, as uint8 [S, S]."""
        bar = tqdm(range(len(self)), desc="reading images", disable=not progress, leave=False, mininterval=2)
        self._canvases = [self._read(index) for index in bar]

    def _read(self, index: int) -> tuple[np.ndarray, tuple[float, ...]]:
        """The radiograph on the model's canvas, uint8 [S, S], and its box."""
        pixels, geometry = letterbox(self.examples[index][1].read().pixels, self.transform.size)
        return np.round(pixels * 255).astype(np.uint8), geometry.box

    def __getitem__(self, index: int) -> dict:
        pixels, box = self._canvases[index] if self._canvases else self._read(index)
        canvas = pixels.astype(np.float32) / 255
        if self.augment:
            canvas = vary(canvas, box, np.random.default_rng([self.seed, self.epoch, index]))
        return {
            "pixel_values": self.transform.normalise(torch.from_numpy(canvas)),
            "box": torch.tensor(box, dtype=torch.float32),
            "labels": self.labels[index],
            "finding_labels": self.finding_labels[index],
            "index": index,
        }


def examples_of(studies: list[Study], training: bool, impression: bool) -> list[tuple[Study, ImageFile | PhantomImage]]:
    """Studies with the radiographs they are shown by, see `ReportDataset`."""
    examples = []
    for study in studies:
        frontal = study.frontal_images
        if not training:
            examples.append((study, (frontal or study.images)[0]))
        elif study.findings or (impression and study.impression):
            examples += [(study, image) for image in frontal]
    return examples


def finding_row(study: Study, findings: Iterable[str]) -> list[float]:
    """1 for each finding that the source says is present, 0 for the others; NaN where it says nothing."""
    if study.labels is None:
        return [math.nan for _ in findings]
    return [float(name in study.labels) for name in findings]


def vary(canvas: np.ndarray, box: tuple[float, ...], random: np.random.Generator) -> np.ndarray:
    """Another exposure of the same patient: moved by up to 6 %, scaled by up to 10 %, turned by up to 5 degrees, with
    other contrast. Never mirrored: sides are the patient's.

    Args:
        canvas: [S, S] float32 in [0, 1].
        box: the radiograph's place on the canvas; what leaves it is cut off, as at the edge of a detector.
    """
    size = len(canvas)
    left, top, right, bottom = (round(edge * size) for edge in box)
    centre = (left + right) / 2, (top + bottom) / 2
    turn = cv2.getRotationMatrix2D(centre, random.uniform(-5, 5), random.uniform(0.9, 1.1))
    turn[:, 2] += random.uniform(-0.06, 0.06, size=2) * (right - left, bottom - top)
    moved = cv2.warpAffine(canvas, turn, (size, size), flags=cv2.INTER_LINEAR)
    gamma, gain, offset = random.uniform(0.8, 1.25), random.uniform(0.85, 1.15), random.uniform(-0.05, 0.05)
    moved = np.clip(moved**gamma * gain + offset, 0, 1)
    result = np.zeros_like(canvas)
    result[top:bottom, left:right] = moved[top:bottom, left:right]
    return result


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    """A batch: pixel_values [B, 3, S, S], box [B, 4], labels [B, T], finding_labels [B, F], index [B]."""
    return {
        "pixel_values": torch.stack([one["pixel_values"] for one in examples]),
        "box": torch.stack([one["box"] for one in examples]),
        "labels": pad_labels([one["labels"] for one in examples]),
        "finding_labels": torch.stack([one["finding_labels"] for one in examples]),
        "index": torch.tensor([one["index"] for one in examples]),
    }
