"""From easy studies to hard ones: how difficult a report is, and the stages that show more and more of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xr2text.config import ConfigError, StageConfig
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.sections import ReportText

SEVERITIES = ("mild", "moderate", "severe")
_GRADE = {
    **dict.fromkeys(("minimal", "trace", "tiny", "small", "mild"), 0),
    "moderate": 1,
    **dict.fromkeys(("large", "severe", "marked", "massive", "extensive"), 2),
}


@dataclass(frozen=True)
class Difficulty:
    """What a report asks of its writer.

    Attributes:
        findings: distinct findings that are present or uncertain, support devices left out.
        regions: distinct anatomical regions that these involve.
        severity: the gravest word that grades one of them, out of SEVERITIES; None where none is graded.
    """

    findings: int
    regions: int
    severity: str | None

    @property
    def normal(self) -> bool:
        """Whether the report asserts no abnormal finding; one in which nothing is recognised counts as normal too."""
        return self.findings == 0


def measure_difficulty(report: ReportText) -> Difficulty:
    """Reads a report's findings and impression."""
    mentions = find_mentions(f"{report.findings}\n\n{report.impression}")
    positive = [one for one in mentions if one.status != "absent" and one.finding != "support devices"]
    names = {one.finding for one in positive}
    if names & {"nodule", "mass"}:
        names.discard("lung lesion")  # which only repeats them
    grades = [_GRADE[one.severity] for one in positive if one.severity is not None]
    return Difficulty(
        findings=len(names),
        regions=len({region for one in positive for region in one.regions}),
        severity=SEVERITIES[max(grades)] if grades else None,
    )


@dataclass(frozen=True)
class Stage:
    """A stage with what it shows.

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
        difficulties: of each example.
        studies: each example's study.
        total_epochs: where the stages have more, the last ones end early or are not reached.

    Raises:
        ConfigError: a stage would show nothing, or not all that the stage before it shows.
    """

    def __init__(
        self,
        stages: Sequence[StageConfig],
        difficulties: Sequence[Difficulty],
        studies: Sequence[str],
        total_epochs: int,
    ):
        self.examples = len(difficulties)
        built: list[Stage] = []
        first = 0
        for config in stages or [StageConfig("all", total_epochs)]:
            if first >= total_epochs:
                break
            indices = tuple(index for index, one in enumerate(difficulties) if admits(config, one))
            if not indices:
                raise ConfigError(
                    f"training.curriculum: stage {config.name!r} ({criteria(config)}) shows none of the "
                    f"{len(difficulties)} radiographs"
                )
            if built and (lost := set(built[-1].indices) - set(indices)):
                before = built[-1].config
                raise ConfigError(
                    f"training.curriculum: stage {config.name!r} ({criteria(config)}) leaves out {len(lost)} "
                    f"radiographs that {before.name!r} ({criteria(before)}) shows; each stage must show all of the "
                    "one before it"
                )
            last = min(first + config.epochs, total_epochs) - 1
            built.append(Stage(config, indices, len({studies[index] for index in indices}), first, last))
            first = last + 1
        self.stages = tuple(built)

    def stage_at(self, epoch: int) -> Stage:
        """The stage of an epoch, counted from 0. Raises ValueError for one that no stage has."""
        for stage in self.stages:
            if stage.first_epoch <= epoch <= stage.last_epoch:
                return stage
        raise ValueError(f"epoch {epoch} is in no stage; there are {self.stages[-1].last_epoch + 1} epochs")

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


def admits(stage: StageConfig, difficulty: Difficulty) -> bool:
    """Whether a stage shows a study of this difficulty."""
    if stage.normal_only and not difficulty.normal:
        return False
    for limit, value in ((stage.max_findings, difficulty.findings), (stage.max_regions, difficulty.regions)):
        if limit is not None and value > limit:
            return False
    if stage.max_severity is None or difficulty.severity is None:
        return True
    return SEVERITIES.index(difficulty.severity) <= SEVERITIES.index(stage.max_severity)


def criteria(stage: StageConfig) -> str:
    """A stage's criteria in words."""
    words = []
    if stage.normal_only:
        words.append("normal studies only")
    if stage.max_findings is not None:
        words.append(f"at most {stage.max_findings} findings")
    if stage.max_regions is not None:
        words.append(f"at most {stage.max_regions} regions")
    if stage.max_severity is not None:
        words.append(f"nothing graver than {stage.max_severity}")
    return ", ".join(words) or "all studies"
