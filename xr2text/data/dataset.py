"""The dataset of training and validation: a frontal radiograph, the lateral one beside it, and their report.

Shapes: E examples, B batch, M of it with a lateral view, S image side, T tokens, F findings, K regions, H x W patch
grid.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.data.cache import ImageCache, canvas_of
from xr2text.data.examples import examples_of, report_lengths
from xr2text.data.recombine import Recombiner, certain_findings
from xr2text.data.segmentation import all_regions, read_outlines, segmentation_targets
from xr2text.data.study import DataError, Image, Study, UnreadableImageError
from xr2text.data.study_table import StudyTable
from xr2text.imaging.augment import augment
from xr2text.imaging.transform import ImageTransform, letterbox
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import encode_report, pad_labels

LATERAL_DROPPED = 0.4  # fraction of lateral views dropped in training, so that a frontal view alone is read as well


class ReportDataset(Dataset):
    """Frontal radiographs with their reports, see `examples_of`.

    Args:
        studies: with at least one image each.
        max_tokens: length at which a report is cut.
        impression: reports have an impression, see `encode_report`.
        findings: names of the findings to label, in the model's order.
        grid: (H, W) of the model's patches, for the targets of studies with masks; None: they have none.
        with_finding_regions: examples know the regions in which the report places each finding.
        with_lateral: examples hold their study's lateral radiograph where it has one.
        recombined: fraction of the reports that are made of several, another choice each epoch; 0: they are as written.
        training: examples are augmented, reproducibly for each epoch (`set_epoch`).
        augmentation: its strength, see `augment`.
        cache: where resized images are kept; None: the originals are read.
    """

    def __init__(
        self,
        studies: StudyTable,
        transform: ImageTransform,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        impression: bool = True,
        findings: Iterable[str] = (),
        grid: tuple[int, int] | None = None,
        with_finding_regions: bool = False,
        with_lateral: bool = False,
        recombined: float = 0.0,
        training: bool = False,
        augmentation: float = 1.0,
        seed: int = 0,
        cache: ImageCache | None = None,
    ):
        self.examples = examples_of(studies, training, impression)
        self.transform, self.tokenizer, self.max_tokens, self.impression = transform, tokenizer, max_tokens, impression
        self.findings, self.grid, self.cache = list(findings), grid, cache
        self.with_finding_regions, self.with_lateral = with_finding_regions, with_lateral
        self.training, self.seed, self.epoch, self.recombined = training, seed, 0, recombined
        self.augmentation = augmentation
        self.recombiner = Recombiner(study.report for study in studies) if recombined else None
        # [E, F]: 1 present or uncertain, 0 absent, NaN where nothing is known
        self.finding_labels = torch.from_numpy(np.abs(studies.labels(self.findings))[self.examples.rows])

    def set_epoch(self, epoch: int) -> None:
        """Changes augmentation, dropped laterals and recombined reports; the same epoch gives the same examples."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        """Raises UnreadableImageError, or DataError for a mask that cannot be read."""
        study, image = self.examples[index]
        random = np.random.default_rng([self.seed, self.epoch, index])
        ids, reported = self._report(study, self.finding_labels[index], random)
        count = len(self.findings)
        places = finding_regions(study, self.findings) if self.with_finding_regions else _no_regions(count)
        return {
            "labels": ids,  # T of them
            "finding_labels": self.finding_labels[index],  # [F], of the radiograph
            "reported_findings": reported,  # [F], of the tokens
            "finding_regions": torch.from_numpy(places),  # [F, K]
            "index": index,
            **self._images(study, image, random),
        }

    def _images(self, study: Study, image: Image, random: np.random.Generator) -> dict:
        canvas, box, masks = self._view(image, random, self._masks(study))
        if masks is None:
            segmentation = np.full((len(REGIONS), *(self.grid or (1, 1))), math.nan, np.float32)
        else:
            segmentation = segmentation_targets(masks, self.grid)
        return {
            "pixel_values": canvas,  # [3, S, S]
            "box": box,  # [4]
            "lateral": self._lateral(study, random),
            "segmentation_targets": torch.from_numpy(segmentation),  # [K, H, W]
        }

    def _view(
        self, image: Image, random: np.random.Generator, masks: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None]:
        """A radiograph as the model's input [3, S, S], its box [4], and its masks [K, S, S]."""
        pixels, geometry = self.cache.read(image) if self.cache else canvas_of(image, self.transform.size)
        canvas = pixels.astype(np.float32) / 255
        if self.training:
            canvas, masks = augment(canvas, geometry.box, random, masks, self.augmentation)
        return self.transform.normalise(torch.from_numpy(canvas)), torch.tensor(geometry.box), masks

    def _lateral(self, study: Study, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The lateral view's input [3, S, S] and box [4]; None where the study has none, or it is unreadable or dropped
        at random."""
        image = study.lateral_image if self.with_lateral else None
        if image is None or (self.training and random.random() < LATERAL_DROPPED):
            return None
        try:
            return self._view(image, random)[:2]
        except UnreadableImageError:
            return None

    def token_counts(self) -> list[int]:
        """[E] tokens of each example's report."""
        return [len(self._token_ids(study.report)) for study, _ in self.examples]

    def longest_examples(self, count: int) -> list[dict]:
        """The `count` examples with the longest reports in tokens, for a trial of memory. They are searched among the
        longest texts, and their radiographs can be read; where there are too few, the first is repeated. Raises
        DataError where there is none."""
        texts = np.argsort(-report_lengths(self.examples, self.impression), kind="stable")[: 8 * count].tolist()
        found = []
        for index in sorted(texts, key=lambda index: -len(self._token_ids(self.examples[index][0].report))):
            try:
                found.append(self[index])
            except UnreadableImageError:
                continue
            if len(found) == count:
                return found
        if not found:
            raise DataError("of the radiographs with the longest reports none can be read")
        return found + found[:1] * (count - len(found))

    def _report(
        self, study: Study, labels: torch.Tensor, random: np.random.Generator
    ) -> tuple[list[int], torch.Tensor]:
        """Token ids of a report and its findings [F]: the study's report with `labels` or, with a recombiner, a
        rewritten one with what it asserts for certain."""
        if self.recombiner is None or not study.findings:
            return self._token_ids(study.report), labels
        report = self.recombiner.reword(study.report, random)
        if random.random() < self.recombined:
            report = self.recombiner.recombine(report, random)
        report = self.recombiner.simplify(report, random)
        findings = torch.tensor(certain_findings(report, self.findings))
        return self._token_ids(self.recombiner.arrange(self.recombiner.complete(report, random))), findings

    def _token_ids(self, report: ReportText) -> list[int]:
        if report.findings or (self.impression and report.impression):
            return encode_report(self.tokenizer, report, self.max_tokens, self.impression)
        return []

    def _masks(self, study: Study) -> np.ndarray | None:
        """[K, S, S] bool, the region masks on the canvas, for a study whose organs are outlined."""
        if study.masks is None or self.grid is None:
            return None
        outlines = [letterbox(outline.astype(np.float32), self.transform.size)[0] for outline in read_outlines(study)]
        return all_regions(*(outline > 0.5 for outline in outlines))


def _no_regions(count: int) -> np.ndarray:
    return np.zeros((count, len(REGIONS)), bool)


def finding_regions(study: Study, findings: list[str]) -> np.ndarray:
    """[F, K] bool, the regions in which a report asserts each finding, as `text.findings` reads it. A row is all false
    where the report does not assert the finding."""
    regions = _no_regions(len(findings))
    rows = {name: row for row, name in enumerate(findings)}
    for mention in find_mentions(f"{study.findings}\n\n{study.impression}"):
        if mention.finding in rows and mention.status != "absent":
            regions[rows[mention.finding]] |= [name in mention.regions for name in REGION_NAMES]
    return regions


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    """A batch: labels [B, T], finding_labels and reported_findings [B, F], finding_regions [B, F, K] bool, index [B],
    pixel_values [B, 3, S, S], box [B, 4] and segmentation_targets [B, K, H, W], NaN where a region is not outlined;
    where an example has a lateral view, lateral_pixel_values [M, 3, S, S], lateral_box [M, 4] and lateral_rows [M];
    skipped (index: reason) only where examples stand for radiographs that cannot be read."""
    stacked = (
        "finding_labels", "reported_findings", "finding_regions", "pixel_values", "box", "segmentation_targets",
    )  # fmt: skip
    batch = {name: torch.stack([example[name] for example in examples]) for name in stacked}
    batch["labels"] = pad_labels([example["labels"] for example in examples])
    batch["index"] = torch.tensor([example["index"] for example in examples])
    laterals = [(*example["lateral"], row) for row, example in enumerate(examples) if example["lateral"]]
    if laterals:
        pixels, boxes, rows = zip(*laterals, strict=True)
        batch["lateral_pixel_values"], batch["lateral_box"] = torch.stack(pixels), torch.stack(boxes)
        batch["lateral_rows"] = torch.tensor(rows)
    if skipped := {index: reason for example in examples for index, reason in example.get("skipped", {}).items()}:
        batch["skipped"] = skipped
    return batch
