"""Studies as training examples: one frontal radiograph and its report.

Letters: B batch, S image side, T tokens.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.data.cache import ImageCache, canvas_of
from xr2text.data.examples import Lazy, examples_of, finding_rows, has_report, report_lengths
from xr2text.data.segmentation import all_regions, region_targets
from xr2text.data.sources import DataError, Study, UnreadableImageError
from xr2text.imaging.transform import ImageTransform, letterbox
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.tokenizer import encode_report, locate_sentences, pad_labels


class ReportDataset(Dataset):
    """Frontal radiographs with their reports. Images are read as they are asked for, or all at once by `read_all`.

    In training every frontal radiograph of a study is an example; in evaluation each study stands once, with its first
    one (or, where it has none, its first image).

    Args:
        studies: with at least one image each.
        max_tokens: length at which a report is cut.
        impression: reports have an impression, see `encode_report`.
        findings: names of the findings to label, in the model's order.
        grid: (H, W) of the model's patches, for the targets of studies with masks; None: they have none.
        mask_repeats: how often a study with masks stands among the training examples.
        grounded: examples know the regions that each token's sentence speaks of.
        placed: examples know the regions in which the report places each finding.
        training: examples are shifted, scaled, turned a little and varied in contrast, reproducibly for each epoch
            (`set_epoch`); never mirrored.
        cache: where resized images are kept; None: the originals are read.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        transform: ImageTransform,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        impression: bool = True,
        findings: Iterable[str] = (),
        grid: tuple[int, int] | None = None,
        mask_repeats: int = 1,
        grounded: bool = False,
        placed: bool = False,
        training: bool = False,
        augment: bool = False,
        seed: int = 0,
        cache: ImageCache | None = None,
    ):
        self.transform, self.augment, self.seed, self.epoch = transform, augment, seed, 0
        self.examples = examples_of(studies, training, impression, mask_repeats)
        self.cache, self.impression, self.training = cache, impression, training
        self.tokenizer, self.max_tokens, self.findings = tokenizer, max_tokens, list(findings)
        self.grounded, self.placed, self.grid = grounded, placed, grid
        # What follows from the reports is kept, unless they are so many that they stay on disk themselves.
        kept = tuple if isinstance(studies, list) else Lazy.as_is
        self.labels = kept(Lazy(len(self), self._labels))
        self.token_regions = kept(Lazy(len(self), self._regions))
        self.finding_places = kept(Lazy(len(self), self._places))
        self.finding_labels = finding_rows(self.examples, self.findings)
        self.finding_targets = self.finding_labels  # what a finding head is to learn, see `training.teachers`
        self._canvases: list[tuple[np.ndarray, tuple[float, ...]] | UnreadableImageError] = []

    def _labels(self, index: int) -> list[int]:
        study = self.examples[index][0]
        if not has_report(study, self.impression):
            return []
        return encode_report(self.tokenizer, study.report, self.max_tokens, self.impression)

    def _regions(self, index: int) -> np.ndarray:
        ids = self.labels[index]
        return token_regions(self.tokenizer, ids) if self.grounded else np.zeros((len(ids), len(REGIONS)), bool)

    def _places(self, index: int) -> torch.Tensor:
        if not self.placed:
            return torch.zeros(len(self.findings), len(REGIONS), dtype=torch.bool)
        return torch.from_numpy(finding_places(self.examples[index][0], self.findings))

    def set_epoch(self, epoch: int) -> None:
        """Changes the augmentation; the same epoch gives the same examples."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def longest(self, count: int) -> list[int]:
        """The examples with the longest reports in tokens, found among those with the longest texts."""
        candidates = np.argsort(-report_lengths(self.examples, self.impression), kind="stable")[: 8 * count].tolist()
        return sorted(candidates, key=lambda index: -len(self.labels[index]))[:count]

    def longest_examples(self, count: int) -> list[dict]:
        """The examples with the longest reports among those that can be read; of too few, the first again."""
        found = []
        for index in self.longest(4 * count):
            try:
                found.append(self[index])
            except UnreadableImageError:
                continue
            if len(found) == count:
                break
        if not found:
            raise DataError("of the radiographs with the longest reports none can be read")
        return found + found[:1] * (count - len(found))

    def read_all(self, progress: bool = True) -> None:
        """Reads every image into memory, as uint8 [S, S]; in training one that cannot be read is an error when it is
        asked for, in evaluation at once."""
        bar = tqdm(range(len(self)), desc="reading images", disable=not progress, leave=False, mininterval=2)
        canvases = []
        for index in bar:
            try:
                canvases.append(self._read(index))
            except UnreadableImageError as error:
                if not self.training:
                    raise
                canvases.append(error)
        self._canvases = canvases

    def _read(self, index: int) -> tuple[np.ndarray, tuple[float, ...]]:
        """The radiograph on the model's canvas, uint8 [S, S], and its box."""
        image = self.examples[index][1]
        pixels, geometry = self.cache.read(image) if self.cache else canvas_of(image, self.transform.size)
        return pixels, geometry.box

    def _masks(self, index: int) -> np.ndarray | None:
        """[K, S, S] bool, the regions on the canvas of a study that has them outlined."""
        files = self.examples[index][0].masks
        if files is None or self.grid is None:
            return None
        outlined = []
        for file in files:
            mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            if mask is None:
                raise DataError(f"{file} cannot be read as a mask")
            outlined.append(letterbox((mask > 127).astype(np.float32), self.transform.size)[0] > 0.5)
        return all_regions(*outlined)

    def __getitem__(self, index: int) -> dict:
        read = self._canvases[index] if self._canvases else self._read(index)
        if isinstance(read, UnreadableImageError):
            raise UnreadableImageError(str(read))
        pixels, box = read
        canvas, masks = pixels.astype(np.float32) / 255, self._masks(index)
        if self.augment:
            canvas, masks = vary(canvas, box, np.random.default_rng([self.seed, self.epoch, index]), masks)
        targets = np.full((len(REGIONS), *(self.grid or (1, 1))), np.nan, dtype=np.float32)
        if masks is not None:
            targets = region_targets(masks, self.grid)
        return {
            "region_targets": torch.from_numpy(targets),
            "pixel_values": self.transform.normalise(torch.from_numpy(canvas)),
            "box": torch.tensor(box, dtype=torch.float32),
            "labels": self.labels[index],
            "token_regions": self.token_regions[index],
            "finding_labels": self.finding_labels[index],
            "finding_targets": self.finding_targets[index],
            "finding_places": self.finding_places[index],
            "index": index,
        }


def finding_places(study: Study, findings: Sequence[str]) -> np.ndarray:
    """[F, K] bool, the regions in which the report asserts each finding, as `text.findings` reads it; none for a
    finding that it does not assert."""
    places = np.zeros((len(findings), len(REGIONS)), bool)
    rows = {name: row for row, name in enumerate(findings)}
    for mention in find_mentions(f"{study.findings}\n\n{study.impression}"):
        if mention.finding in rows and mention.status != "absent":
            places[rows[mention.finding]] |= [name in mention.regions for name in REGION_NAMES]
    return places


def token_regions(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> np.ndarray:
    """[T, K] bool, the regions that each token's sentence speaks of, as `text.findings` reads them; none for a token
    outside all sentences, and for a sentence that speaks of nothing."""
    regions = np.zeros((len(ids), len(REGIONS)), bool)
    for _, sentence, own in locate_sentences(tokenizer, ids):
        named = {name for mention in find_mentions(sentence) for name in mention.regions}
        regions[own] = [name in named for name in REGION_NAMES]
    return regions


def vary(
    canvas: np.ndarray, box: tuple[float, ...], random: np.random.Generator, masks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Another exposure of the same patient: moved by up to 6 %, scaled by up to 10 %, turned by up to 5 degrees, with
    other contrast. Never mirrored: sides are the patient's.

    Args:
        canvas: [S, S] float32 in [0, 1].
        box: the radiograph's place on the canvas; what leaves it is cut off, as at the edge of a detector.
        masks: [K, S, S] bool, moved with it; with masks, moves and scales are twice as large, so that attention learns
            to follow.
    """
    reach = 1 if masks is None else 2
    size = len(canvas)
    left, top, right, bottom = (round(edge * size) for edge in box)
    centre = (left + right) / 2, (top + bottom) / 2
    turn = cv2.getRotationMatrix2D(centre, random.uniform(-5, 5), 1 + reach * random.uniform(-0.1, 0.1))
    turn[:, 2] += reach * random.uniform(-0.06, 0.06, size=2) * (right - left, bottom - top)
    moved = cv2.warpAffine(canvas, turn, (size, size), flags=cv2.INTER_LINEAR)
    gamma, gain, offset = random.uniform(0.8, 1.25), random.uniform(0.85, 1.15), random.uniform(-0.05, 0.05)
    moved = np.clip(moved**gamma * gain + offset, 0, 1)
    result = np.zeros_like(canvas)
    result[top:bottom, left:right] = moved[top:bottom, left:right]
    if masks is None:
        return result, None
    shifted = [cv2.warpAffine(one.astype(np.uint8), turn, (size, size), flags=cv2.INTER_NEAREST) for one in masks]
    kept = np.zeros_like(masks)
    kept[:, top:bottom, left:right] = np.stack(shifted)[:, top:bottom, left:right]
    return result, kept


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    """A batch: pixel_values [B, 3, S, S], box [B, 4], labels [B, T], finding_labels and finding_targets [B, F],
    index [B], region_targets [B, K, H, W], NaN where a region is not outlined, token_regions [B, T, K] bool, and
    finding_places [B, F, K] bool; bad (index: reason) only where the examples tell of radiographs that they stand
    for, see `training.bad`."""
    labels = pad_labels([one["labels"] for one in examples])
    regions = torch.zeros(*labels.shape, len(REGIONS), dtype=torch.bool)
    for row, one in zip(regions, examples, strict=True):
        row[: len(one["labels"])] = torch.from_numpy(one["token_regions"])
    bad = {index: reason for one in examples for index, reason in one.get("bad", {}).items()}
    return {
        "region_targets": torch.stack([one["region_targets"] for one in examples]),
        "pixel_values": torch.stack([one["pixel_values"] for one in examples]),
        "box": torch.stack([one["box"] for one in examples]),
        "labels": labels,
        "token_regions": regions,
        "finding_labels": torch.stack([one["finding_labels"] for one in examples]),
        "finding_targets": torch.stack([one["finding_targets"] for one in examples]),
        "finding_places": torch.stack([one["finding_places"] for one in examples]),
        "index": torch.tensor([one["index"] for one in examples]),
    } | ({"bad": bad} if bad else {})
