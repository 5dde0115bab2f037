"""What a run trains on: its examples, the stages that show them, and the batches that they come in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.curriculum import Curriculum, Difficulty, measure_difficulty
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.examples import examples_of, label_names
from xr2text.data.index import open_studies
from xr2text.data.study import DataError, Study
from xr2text.imaging.transform import ImageTransform
from xr2text.training.skipped import Skipped, SkippingSubset

SCORED_REPORTS = 200  # validation studies whose reports are written and scored after each epoch


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Attributes:
    train, val: examples; of `val` each study once.
    scored: the validation examples whose reports are written and scored after each epoch.
    """

    train: ReportDataset
    val: ReportDataset
    scored: Subset
    curriculum: Curriculum


def load_split_studies(config: Config) -> dict[str, Sequence[Study]]:
    """Studies by split. Raises DataError where there is nothing to train on or a finding is not labelled."""
    studies = open_studies(config.data, config.model)
    for split in ("train", "val"):
        if not studies[split]:
            raise DataError(f"data.source {config.data.source!r} gives no study for {split}")
    train = studies["train"]
    if config.generation.impression and not any(study.impression for study in train):
        raise DataError("no training study has an impression: generation.impression=false trains on findings alone")
    unknown = [name for name in config.model.findings if name not in label_names(train)]
    if unknown and config.training.init_from is None:  # a checkpoint's finding head knows more than a few studies show
        raise DataError(f"model.findings: no training study is labelled {unknown[0]!r}")
    return studies


def build_curriculum(config: Config, studies: Sequence[Study]) -> Curriculum:
    """The stages over the training examples, in the order of `examples_of`."""
    rows = examples_of(studies, True, config.generation.impression).rows.tolist()
    stages = config.training.curriculum
    difficulty = [measure_difficulty(study.report) if stages else Difficulty(0, 0, None) for study in studies]
    ids = [study.id for study in studies]
    return Curriculum(
        stages, [difficulty[row] for row in rows], [ids[row] for row in rows], config.training.total_epochs
    )


def prepare_data(
    config: Config, studies: dict[str, Sequence[Study]], tokenizer: PreTrainedTokenizerBase, transform: ImageTransform
) -> TrainingData:
    """Examples of the studies, as this tokenizer writes and this transform shows them."""
    settings, image_size = config.training, config.model.image_size
    cache = ImageCache(Path(config.data.cache), image_size) if config.data.cache is not None else None
    grid = (image_size // config.model.encoder.stride,) * 2

    def examples(split: str) -> ReportDataset:
        return ReportDataset(
            studies[split], transform, tokenizer, config.generation.max_tokens, config.generation.impression,
            config.model.findings, grid, grounded=settings.losses.grounding > 0, placed=settings.losses.occlusion > 0,
            training=split == "train", seed=settings.seed, cache=cache,
        )  # fmt: skip

    train, val = examples("train"), examples("val")
    reported = [index for index, (study, _) in enumerate(val.examples) if study.source_findings.strip()]
    if not reported:
        raise DataError("no validation study has findings, so no report can be scored")
    return TrainingData(train, val, Subset(val, reported[:SCORED_REPORTS]), build_curriculum(config, studies["train"]))


def stage_loaders(config: Config, data: TrainingData, skipped: Skipped, accelerator: Accelerator) -> list[DataLoader]:
    """The training batches of each stage of the curriculum."""
    shown = [SkippingSubset(data.train, stage.indices, skipped) for stage in data.curriculum.stages]
    return [make_loader(examples, config, accelerator, shuffle=True) for examples in shown]


def make_loader(data: Dataset, config: Config, accelerator: Accelerator, shuffle: bool = False) -> DataLoader:
    """Batches of each process's share."""
    settings, sampler = config.training, None
    if shuffle and settings.group_by_length:
        together = settings.batch_size * accelerator.num_processes
        lengths = [len(data.dataset.labels[index]) for index in data.indices]
        sampler, shuffle = LengthGroups(lengths, together, settings.seed), False
    # With a random generator for itself, since opening a loader must not move the random state that dropout draws from:
    # a resumed run would differ from one that never stopped.
    generator = torch.Generator().manual_seed(settings.seed)
    return accelerator.prepare(
        DataLoader(
            data, settings.batch_size, shuffle, sampler, collate_fn=collate, num_workers=config.data.workers,
            generator=generator,
        )
    )  # fmt: skip


class LengthGroups(LengthGroupedSampler):
    """transformers' sampler: a random order in which neighbours have reports of like length; another each epoch.

    Args:
        lengths: of the examples' reports.
        batch_size: of all processes together.
        seed: with the epoch it decides the order.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.generator.manual_seed(self.seed * 100_003 + epoch)
