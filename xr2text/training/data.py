"""What a run trains on: examples, the tokenizer that their reports are written in, and the stages that show them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from tqdm.auto import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.curriculum import Curriculum, Difficulty, measure_difficulty
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.examples import examples_of, label_names
from xr2text.data.index import StudyTable, open_studies
from xr2text.data.sources import DataError, Study
from xr2text.files import atomic_write
from xr2text.imaging.transform import ImageTransform
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import load_bart_tokenizer, remember_words, train_tokenizer
from xr2text.training.teachers import taught_findings

TARGETS_FILE = "finding_targets.safetensors"  # in a run's folder: what its teachers said


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Attributes:
    train, val: examples; of `val` each study once.
    scored: the validation examples whose reports are written and scored after each epoch.
    """

    tokenizer: PreTrainedTokenizerBase
    train: ReportDataset
    val: ReportDataset
    scored: Subset
    curriculum: Curriculum


def load_split_studies(config: Config) -> dict[str, Sequence[Study]]:
    """Studies by split. Raises DataError where there is nothing to train on or a finding is not labelled."""
    studies = open_studies(config.data, config.model.image.size)
    for split in ("train", "val"):
        if not studies[split]:
            raise DataError(f"data.source {config.data.source!r} gives no study for {split}")
    train = studies["train"]
    if config.generation.impression and not any(study.impression for study in train):
        raise DataError("no training study has an impression: generation.impression=false trains on findings alone")
    labelled = label_names(train)
    unknown = [name for name in config.model.findings if name not in labelled]
    if unknown:
        raise DataError(f"model.findings: no training study is labelled {unknown[0]!r}")
    return studies


def build_curriculum(config: Config, studies: Sequence[Study], progress: bool = False) -> Curriculum:
    """The stages over the training examples, in the order of `examples_of`."""
    impression, repeats = config.generation.impression, config.data.mask_repeats
    rows = examples_of(studies, True, impression, repeats).rows.tolist()
    ids = studies.ids() if isinstance(studies, StudyTable) else [study.id for study in studies]
    if not config.training.curriculum:
        difficulty = [Difficulty(0, 0, None)] * len(studies)  # one stage, with all
    elif isinstance(studies, StudyTable):
        difficulty = studies.difficulties()
    else:
        bar = tqdm(studies, desc="reading reports", disable=not progress, leave=False, mininterval=2)
        difficulty = [measure_difficulty(study.report) for study in bar]
    return Curriculum(
        config.training.curriculum,
        [difficulty[row] for row in rows],
        [ids[row] for row in rows],
        config.training.total_epochs,
    )


def prepare_tokenizer(config: Config, studies: Sequence[Study], resumed: bool) -> PreTrainedTokenizerBase:
    """The resumed run's tokenizer, the first phase's, BART's own, or one learned from the training reports;
    with the words of these reports."""
    if resumed:
        return AutoTokenizer.from_pretrained(str(Path(config.output) / "tokenizer"))

    def texts() -> Iterator[str]:
        return (text for study in studies for text in (study.findings, study.impression) if text)

    if config.training.start_from is not None:
        tokenizer = XR2Text.from_pretrained(config.training.start_from).tokenizer
    elif config.model.decoder.weights is not None:
        tokenizer = load_bart_tokenizer(config.model.decoder.weights)
    else:
        tokenizer = train_tokenizer(texts(), config.model.decoder.vocab_size)
    remember_words(tokenizer, texts())
    return tokenizer


def prepare_data(config: Config, resumed: bool, progress: bool) -> TrainingData:
    """Reads the studies, and their images where `data.keep_in_memory` says so."""
    studies, settings = load_split_studies(config), config.training
    tokenizer = prepare_tokenizer(config, studies["train"], resumed)
    image = config.model.image
    transform = ImageTransform(image.size, tuple(image.mean), tuple(image.std))
    cache = ImageCache(Path(config.data.cache), image.size) if config.data.cache is not None else None
    grid = (image.size // config.model.encoder.stride,) * 2

    def examples(split: str) -> ReportDataset:
        training = split == "train"
        data = ReportDataset(
            studies[split], transform, tokenizer, config.generation.max_tokens, config.generation.impression,
            findings=config.model.findings, grid=grid, mask_repeats=config.data.mask_repeats,
            grounded=training and settings.losses.grounding > 0, placed=training and settings.losses.hidden > 0,
            training=training, augment=training and settings.augment, seed=settings.seed, cache=cache,
        )  # fmt: skip
        if config.data.keep_in_memory:
            data.read_all(progress)
        return data

    train, val = examples("train"), examples("val")
    if settings.teachers:
        train.finding_targets = _finding_targets(config, train, resumed, progress)
    written = [index for index, (study, _) in enumerate(val.examples) if study.source_findings.strip()]
    if not written:
        raise DataError("no validation study has findings, so no report can be scored")
    scored = Subset(val, written[: settings.scored_reports])
    return TrainingData(tokenizer, train, val, scored, build_curriculum(config, studies["train"], progress))


def _finding_targets(config: Config, train: ReportDataset, resumed: bool, progress: bool) -> torch.Tensor:
    """What the finding head is to learn of each training example, [N, F]. The teachers are asked once for a run."""
    file, settings = Path(config.output) / TARGETS_FILE, config.training
    if resumed and file.is_file():
        targets = load_file(file)["targets"]
        if targets.shape != train.finding_labels.shape:
            raise DataError(f"--resume: {file} is of {len(targets)} examples; there are {len(train)} now")
        return targets
    names = list(config.model.findings)
    targets = taught_findings(train, settings.teachers, names, settings.teacher_share, progress)
    with atomic_write(file) as draft:
        save_file({"targets": targets}, draft)
    return targets


def make_loader(data: Dataset, config: Config, accelerator: Accelerator, shuffle: bool = False) -> DataLoader:
    """Batches of each process's share."""
    # A generator of its own: opening a loader must not move the random state that dropout draws from, or a resumed run
    # would differ from one that never stopped.
    settings, sampler = config.training, None
    if shuffle and settings.group_by_length:
        together = settings.batch_size * accelerator.num_processes
        sampler, shuffle = LengthGroups(report_lengths(data), together, settings.seed), False
    return accelerator.prepare(
        DataLoader(
            data, settings.batch_size, shuffle, sampler, collate_fn=collate, num_workers=config.data.workers,
            generator=torch.Generator().manual_seed(settings.seed),
        )
    )  # fmt: skip


def report_lengths(data: ReportDataset | Subset) -> list[int]:
    """Tokens of each example's report."""
    if isinstance(data, Subset):
        return [len(data.dataset.labels[index]) for index in data.indices]
    return [len(ids) for ids in data.labels]


class LengthGroups(Sampler[int]):
    """Every example once, in a random order in which neighbours have reports of like length: the examples are shuffled,
    cut into pools of POOL batches, sorted by length within each, and the batches shuffled again.

    Args:
        lengths: of the examples' reports.
        batch_size: of all processes together.
        seed: with the epoch (`set_epoch`) it decides the order.
    """

    POOL = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=random).tolist()
        pool, batches = self.POOL * self.batch_size, []
        for start in range(0, len(order), pool):
            like = sorted(order[start : start + pool], key=self.lengths.__getitem__)
            batches += [like[place : place + self.batch_size] for place in range(0, len(like), self.batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self.batch_size else []  # a batch that is not full comes last
        places = torch.randperm(len(batches), generator=random).tolist()
        for batch in [batches[place] for place in places] + last:
            yield from batch
