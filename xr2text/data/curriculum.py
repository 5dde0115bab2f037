"""Curriculum learning: how difficult a report is, and the stages that show more and more studies.

Shapes: E examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xr2text.config import ConfigError, StageConfig
from xr2text.text.findings.labeler import NO_FINDING, SUPPORT_DEVICES, find_mentions, label_report, label_sides
from xr2text.text.findings.table import FINDING_NAMES, FINDING_REGIONS, SIDED_FINDINGS
from xr2text.text.sections import ReportText


class Difficulty(NamedTuple):
    """The difficulty of a report: how much it asserts.

    Attributes:
        findings: distinct findings that are present or uncertain, support devices left out; 0: a normal study.
        regions: distinct anatomical regions that these involve.
    """

    findings: int
    regions: int


def read_report(report: ReportText, label: bool = True) -> tuple[dict[str, int], Difficulty]:
    """Labels of all findings, 0 where the report does not mention one, and its difficulty. Labels are empty where there
    is no text or `label` is false."""
    text = f"{report.findings}\n\n{report.impression}".strip()
    labels = dict.fromkeys(FINDING_NAMES, 0) | label_report(text) | label_sides(text) if label and text else {}
    positive = [mention for mention in find_mentions(text) if mention.status != "absent"]
    positive = [mention for mention in positive if mention.finding != SUPPORT_DEVICES]
    regions = {region for mention in positive for region in mention.regions}
    return labels, _difficulty({mention.finding for mention in positive}, regions)


def read_labels(labels: Mapping[str, int]) -> Difficulty:
    """The difficulty of a study without a report, from its labels."""
    positive = [name for name, label in labels.items() if label and name not in (NO_FINDING, SUPPORT_DEVICES)]
    names = {SIDED_FINDINGS[name][0] if name in SIDED_FINDINGS else name for name in positive}
    return _difficulty(names, {region for name in positive for region in FINDING_REGIONS.get(name, ())})


def _difficulty(findings: set[str], regions: set[str]) -> Difficulty:
    repeated = {"lung lesion"} if findings & {"nodule", "mass"} else set()
    return Difficulty(len(findings - repeated), len(regions))


@dataclass(frozen=True)
class Stage:
    """A stage of the curriculum with the examples that it shows.

    Attributes:
        indices: of the training examples.
        studies: how many studies these are of.
        first_epoch, last_epoch: counted from 0, both inclusive.
    """

    config: StageConfig
    indices: tuple[int, ...]
    studies: int
    first_epoch: int
    last_epoch: int

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def epochs(self) -> int:
        return self.last_epoch - self.first_epoch + 1


class Curriculum:
    """The stages of a run over its training examples.

    Args:
        stages: in their order; none: one stage, "all", over every epoch.
        difficulties: [E, 2], the `Difficulty` of each example's study.
        studies: [E] the number of each example's study.
        total_epochs: where the stages have more, the last ones end early or are not reached.

    Raises:
        ConfigError: a stage would show nothing, or not all that the stage before it shows.
    """

    def __init__(
        self,
        stages: Sequence[StageConfig],
        difficulties: Sequence[Difficulty] | np.ndarray,
        studies: Sequence[int] | np.ndarray,
        total_epochs: int,
    ):
        self.examples = len(difficulties)
        self.stages: list[Stage] = []
        difficulties, studies = np.asarray(difficulties).reshape(-1, 2), np.asarray(studies)
        first, before = 0, np.zeros(self.examples, bool)
        for config in stages or [StageConfig(name="all", epochs=total_epochs)]:
            if first >= total_epochs:
                break
            limits = [np.inf if limit is None else limit for limit in (config.max_findings, config.max_regions)]
            shown = (difficulties <= limits).all(1)  # [E] bool
            where = f"training.curriculum: stage {config.name!r} ({criteria(config)})"
            if not shown.any():
                raise ConfigError(f"{where} shows none of the {self.examples} radiographs")
            if lost := (before & ~shown).sum():
                last = self.stages[-1].config
                raise ConfigError(
                    f"{where} leaves out {lost} radiographs that {last.name!r} ({criteria(last)}) shows; each stage "
                    "must show all of the one before it"
                )
            end = min(first + config.epochs, total_epochs)
            indices = np.flatnonzero(shown)
            self.stages.append(Stage(config, tuple(indices.tolist()), len(set(studies[indices])), first, end - 1))
            first, before = end, shown

    def stage_at(self, epoch: int) -> Stage:
        """The stage of an epoch, counted from 0."""
        return next(stage for stage in self.stages if epoch <= stage.last_epoch)

    def table(self) -> str:
        """The stages as people count them, in Markdown."""
        lines = [
            "| stage | epochs | what it sees | studies there | radiographs | learning rates |",
            "|---|---|---|---:|---:|---:|",
        ]
        for stage in self.stages:
            share = len(stage.indices) / self.examples
            lines.append(
                f"| {stage.name} | {stage.first_epoch + 1}-{stage.last_epoch + 1} | {criteria(stage.config)} "
                f"| {stage.studies:,} | {len(stage.indices):,} ({share:.0%}) | x {stage.config.lr_factor:g} |"
            )
        return "\n".join(lines)


def criteria(stage: StageConfig) -> str:
    """A stage's criteria in words."""
    words = []
    if stage.max_findings is not None:
        words.append(f"at most {stage.max_findings} findings" if stage.max_findings else "normal studies only")
    if stage.max_regions is not None:
        words.append(f"at most {stage.max_regions} regions")
    return ", ".join(words) or "all studies"
