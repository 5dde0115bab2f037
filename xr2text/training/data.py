"""The training data: examples, the stages of the curriculum, and batches."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.check import obstacles
from xr2text.data.curriculum import Curriculum
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.examples import examples_of
from xr2text.data.sources import load_studies
from xr2text.data.sources.layout import set_apart
from xr2text.data.study import DataError
from xr2text.data.study_table import StudyTable
from xr2text.imaging.transform import ImageTransform
from xr2text.training.skipped import Skipped, SkippingSubset

SCORED_REPORTS = 200  # validation studies whose reports are written and scored after each epoch
WATCHED_STUDIES, WATCHED_REPORTS = 200, 40  # the same, after an epoch whose scores choose nothing: studies, reports


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The data of a run.

    Attributes:
        train, val: examples; `val` has each study once.
        scored: the validation examples whose reports are written and scored after each epoch.
        watched: validation examples, and those whose reports are written, after an epoch whose scores choose nothing.
        curriculum: the stages over `train`.
    """

    train: ReportDataset
    val: ReportDataset
    scored: Subset
    watched: tuple[Subset, Subset]
    curriculum: Curriculum


def load_split_studies(config: Config) -> dict[str, StudyTable]:
    """Studies by split. Raises DataError where they are not fit to train on or a validation radiograph is missing."""
    studies = load_studies(config.data, config.model.findings)
    if config.data.tuning_fraction:
        studies |= set_apart(studies["train"], config.data.tuning_fraction, config.data.tuning_fold)
    if found := obstacles(config, studies):
        raise DataError(found[0])
    for _, image in examples_of(studies["val"], False, config.generation.impression):
        image.version()
    return studies


def build_curriculum(config: Config, studies: StudyTable) -> Curriculum:
    """The stages of the curriculum over the training examples, in the order of `examples_of`."""
    rows = examples_of(studies, True, config.generation.impression).rows
    return Curriculum(config.training.curriculum, studies.difficulty()[rows], rows, config.training.total_epochs)


def prepare_data(
    config: Config, studies: dict[str, StudyTable], tokenizer: PreTrainedTokenizerBase, transform: ImageTransform
) -> TrainingData:
    """The examples of all studies, with reports as token ids and radiographs as model input."""
    settings, image_size = config.training, config.model.image_size
    cache = ImageCache(Path(config.data.cache), image_size) if config.data.cache is not None else None
    grid = (image_size // config.model.encoder.stride,) * 2

    def examples(split: str) -> ReportDataset:
        return ReportDataset(
            studies[split], transform, tokenizer, config.generation.max_tokens, config.generation.impression,
            config.model.findings, grid, with_finding_regions=split == "train" and settings.losses.occlusion > 0,
            with_lateral=config.model.haqt.lateral_queries > 0, training=split == "train",
            augmentation=config.data.augmentation, seed=settings.seed, cache=cache,
            recombined=settings.recombined if split == "train" else 0.0,
        )  # fmt: skip

    train, val = examples("train"), examples("val")
    reported = [index for index, (study, _) in enumerate(val.examples) if study.source_findings.strip()]
    watched = reported if reported and settings.losses.learn_reports else range(len(val))
    fewer = Subset(val, watched[:WATCHED_STUDIES]), Subset(val, reported[:WATCHED_REPORTS])
    scored = Subset(val, reported[:SCORED_REPORTS])
    return TrainingData(train, val, scored, fewer, build_curriculum(config, studies["train"]))


def stage_loaders(config: Config, data: TrainingData, skipped: Skipped, accelerator: Accelerator) -> list[DataLoader]:
    """The training batches of each stage of the curriculum."""
    shown = [SkippingSubset(data.train, stage.indices, skipped) for stage in data.curriculum.stages]
    return [make_loader(examples, config, accelerator, shuffle=True) for examples in shown]


def make_loader(data: Dataset, config: Config, accelerator: Accelerator, shuffle: bool = False) -> DataLoader:
    """A loader of batches, shared among the processes."""
    settings, sampler = config.training, None
    if shuffle and settings.group_by_length:
        together = settings.batch_size * accelerator.num_processes
        counts = data.dataset.token_counts()
        sampler, shuffle = LengthGroups([counts[index] for index in data.indices], together, settings.seed), False
    # With a random generator for itself, since opening a loader must not move the random state that dropout draws from:
    # a resumed run would differ from one that never stopped.
    generator = torch.Generator().manual_seed(settings.seed)
    loader = DataLoader(
        data, settings.batch_size, shuffle, sampler, collate_fn=collate, num_workers=config.data.workers,
        generator=generator,
    )  # fmt: skip
    return accelerator.prepare(loader)


def progress_bar(loader: DataLoader, what: str, accelerator: Accelerator) -> tqdm:
    """A progress bar over a loader, shown by the first process of each machine."""
    return tqdm(loader, desc=what, disable=not accelerator.is_local_main_process, leave=False, mininterval=2)


class LengthGroups(LengthGroupedSampler):
    """transformers' sampler that groups reports of similar length, with another random order in each epoch.

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
