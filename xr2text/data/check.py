"""What a data set holds and what is wrong with it, told before a training meets it."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from xr2text.config import Config, ConfigError, StageConfig
from xr2text.data.curriculum import Curriculum, measure_difficulty
from xr2text.data.examples import examples_of, has_report
from xr2text.data.parallel import on_each
from xr2text.data.sources import SPLITS, Faults, Study, UnreadableImageError, load_studies
from xr2text.data.sources.hub import TableImage
from xr2text.data.study import Image, ImageFile
from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_radiograph

# The stages that are counted where no config gives others.
STAGES = (
    StageConfig("normal", 1, normal_only=True),
    StageConfig("one finding", 1, max_findings=1),
    StageConfig("two findings", 1, max_findings=2),
    StageConfig("all", 1),
)
BIN = 20  # words of a report to a line of the histogram
NAMED = 20  # faults of one kind that are named; the others are counted


@dataclass
class Check:
    """What was found.

    Attributes:
        splits: the studies.
        failures: why a training would stop, in sentences.
        warnings: what a training would leave out or not notice.
        sections: (title, Markdown) of the counts.
    """

    splits: dict[str, list[Study]]
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sections: list[tuple[str, str]] = field(default_factory=list)

    def text(self, name: str) -> str:
        """The whole as Markdown."""
        verdict = "training would fail" if self.failures else "training can start"
        parts = [f"# {name}: {verdict}"]
        for title, lines in (("Failures", self.failures), ("Warnings", self.warnings)):
            if lines:
                parts.append(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines))
        parts += [f"## {title}\n\n{body}" for title, body in self.sections]
        return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Inspected:
    """An image's content as a digest, and why it cannot be read, "" where it can."""

    digest: str
    error: str
    missing: bool = False


def inspect_image(image: Image) -> Inspected:
    """Reads a whole image, as a training would."""
    try:
        content = image.path.read_bytes() if isinstance(image, ImageFile) else image.content()
    except FileNotFoundError:
        return Inspected("", f"{image.path} is missing", missing=True)
    except (OSError, UnreadableImageError) as error:
        return Inspected("", str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        read_radiograph(content)
    except ImageError as error:
        place = f", row {image.row}" if isinstance(image, TableImage) else ""
        return Inspected(digest, f"{image.path}{place}: {error}")
    return Inspected(digest, "")


def check_source(config: Config, processes: int = 1, read_images: bool = True, progress: bool = True) -> Check:
    """Reads the whole source, every image included.

    Args:
        read_images: false: images are not opened, which takes seconds; damage is then not found.

    Raises:
        DataError: a folder, a table or a column is missing, so that there is nothing to count.
    """
    faults = Faults(strict=False)
    splits = load_studies(config.data, config.model.image.size, faults)
    check = Check(splits)
    for kind in dict.fromkeys(kind for kind, _ in faults.found):
        check.failures += _named([text for one, text in faults.found if one == kind], kind)
    studies = [study for split in SPLITS for study in splits[split]]
    inspected: dict[Image, Inspected] = {}
    if read_images:
        images = list(dict.fromkeys(image for study in studies for image in study.images if hasattr(image, "path")))
        inspected = dict(zip(images, on_each(inspect_image, images, processes, "images", progress), strict=True))
    bad = {image: one.error for image, one in inspected.items() if one.error}
    check.sections.append(("Studies and images", _counts(splits, inspected)))
    _check_reports(check, config)
    _check_bad(check, config, bad)
    _check_duplicates(check, studies, inspected)
    check.sections.append(("Words of a report", _histogram(studies)))
    check.sections.append(("Findings", _findings(splits)))
    _check_stages(check, config)
    return check


def _named(texts: Sequence[str], kind: str) -> list[str]:
    rest = len(texts) - NAMED
    return [f"{kind}: {one}" for one in texts[:NAMED]] + ([f"{kind}: {rest:,} more"] if rest > 0 else [])


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    cells = [[f"{one:,}" if isinstance(one, int) else str(one) for one in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def _counts(splits: dict[str, list[Study]], inspected: dict[Image, Inspected]) -> str:
    """Per split: studies, patients, images by view, missing, unreadable, and reports without sections."""
    rows = []
    for split, studies in splits.items():
        images = [image for study in studies for image in study.images]
        views = Counter(image.view for image in images)
        states = [inspected[image] for image in images if image in inspected]
        missing = sum(one.missing for one in states)
        rows.append([
            split, len(studies), len({study.patient for study in studies}), len(images), views["frontal"],
            views["lateral"], views[None], missing, sum(bool(one.error) for one in states) - missing,
            sum(not has_report(study, True) for study in studies), sum(not study.findings for study in studies),
            sum(not study.impression for study in studies),
        ])  # fmt: skip
    head = ["split", "studies", "patients", "images", "frontal", "lateral", "view unknown", "missing", "unreadable",
            "empty reports", "no findings", "no impression"]  # fmt: skip
    text = _table(head, rows)
    return text if inspected else text + "\n\nImages were not opened."


def _check_reports(check: Check, config: Config) -> None:
    train, val = check.splits["train"], check.splits["val"]
    for split in ("train", "val"):
        if not check.splits[split]:
            check.failures.append(f"there is no study for {split}")
    if val and not any(study.source_findings.strip() for study in val):
        check.failures.append("no validation study has findings, so no report can be scored")
    if config.generation.impression and train and not any(study.impression for study in train):
        check.failures.append("no training study has an impression, which generation.impression=true needs")
    labelled = frozenset().union(*(study.labels for study in train))
    check.failures += [
        f"model.findings: no training study is labelled {name!r}"
        for name in config.model.findings
        if train and name not in labelled
    ]
    for split in SPLITS:
        empty = [study.id for study in check.splits[split] if not has_report(study, True) and not _is_film(study)]
        check.warnings += _named([f"study {name!r} of {split}" for name in empty], "empty report")


def _is_film(study: Study) -> bool:
    """Whether a study is there without a report on purpose, see `data.films`."""
    return bool(study.labels or study.masks)


def _check_bad(check: Check, config: Config, bad: dict[Image, str]) -> None:
    """Images that cannot be read: a training leaves out its share of them, a validation none."""
    impression = config.generation.impression
    for split in SPLITS:
        shown = [image for _, image in examples_of(check.splits[split], split == "train", impression)]
        errors = list(dict.fromkeys(bad[image] for image in shown if image in bad))
        others = {image for study in check.splits[split] for image in study.images if image in bad} - set(shown)
        check.warnings += _named(sorted(bad[image] for image in others), f"unreadable image of {split}, not shown")
        (check.failures if split == "val" else check.warnings).extend(_named(errors, f"unreadable image of {split}"))
        if split == "train":
            empty = sum(not has_report(one, impression) and not _is_film(one) for one in check.splits[split])
            count, total = len(errors) + empty, len(shown) + empty
            if count > config.data.max_bad_share * total:
                check.failures.append(
                    f"{count:,} of {total:,} training radiographs are bad, more than data.max_bad_share "
                    f"{config.data.max_bad_share:g}"
                )
    if check.splits["train"] and not examples_of(check.splits["train"], True, impression):
        check.failures.append("no training study has both a frontal radiograph and a report")


def _check_duplicates(check: Check, studies: list[Study], inspected: dict[Image, Inspected]) -> None:
    """The same picture in two studies; across splits, a score is then better than it should be."""
    users: dict[str, list[Study]] = {}
    for study in studies:
        for image in study.images:
            one = inspected.get(image)
            key = (one.digest if one else "") or str(image)
            if not users.get(key) or users[key][-1] is not study:
                users.setdefault(key, []).append(study)
    texts = []
    for shared in users.values():
        if len({study.id for study in shared}) > 1:
            places = ", ".join(f"{study.id!r} ({study.split})" for study in shared[:4])
            texts.append(f"studies {places} share a picture")
    check.warnings += _named(texts, "duplicate image")


def _histogram(studies: list[Study]) -> str:
    words = [len(f"{study.findings} {study.impression}".split()) for study in studies if has_report(study, True)]
    if not words:
        return "There is no report."
    counts = Counter(count // BIN for count in words)
    width = max(counts.values())
    lines = []
    for place in range(max(counts) + 1):
        bar = "#" * math.ceil(50 * counts[place] / width)
        lines.append(f"{place * BIN:>5}-{place * BIN + BIN - 1:<5} {counts[place]:>8,}  {bar}".rstrip())
    return "```\n" + "\n".join(lines) + "\n```"


def _findings(splits: dict[str, list[Study]]) -> str:
    """Studies of each split in which a finding is present or uncertain."""
    counts = {split: Counter(name for study in studies for name, value in study.labels.items() if value)
              for split, studies in splits.items()}  # fmt: skip
    names = sorted(set().union(*counts.values()), key=lambda name: (-counts["train"][name], name))
    return _table(["finding", *SPLITS], [[name, *(counts[split][name] for split in SPLITS)] for name in names])


def _check_stages(check: Check, config: Config) -> None:
    """Sizes of the curriculum's stages."""
    stages = config.training.curriculum or list(STAGES)
    train = check.splits["train"]
    shown = [study for study, _ in examples_of(train, True, config.generation.impression, config.data.mask_repeats)]
    if not shown:
        return
    difficulty = {study.id: measure_difficulty(study.report) for study in train}
    epochs = config.training.total_epochs if config.training.curriculum else len(STAGES)
    try:
        curriculum = Curriculum(
            stages, [difficulty[study.id] for study in shown], [study.id for study in shown], epochs
        )
    except ConfigError as error:
        if config.training.curriculum:
            check.failures.append(str(error))
        return
    check.sections.append(("Stages of the curriculum", curriculum.table()))
