"""The check of a data set before training: what it holds, and what is wrong with it.

Shapes: N studies.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from xr2text.config import Config, ConfigError, StageConfig
from xr2text.data.curriculum import Curriculum
from xr2text.data.examples import examples_of, reported, supervised
from xr2text.data.sources import load_studies
from xr2text.data.sources.layout import set_apart
from xr2text.data.study import FRONTAL, LATERAL, Faults, ImageFile, UnreadableImageError
from xr2text.data.study_table import StudyTable
from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_chest_radiograph
from xr2text.parallel import worker_map

# The stages to count for a config without a curriculum.
STAGES = [
    StageConfig(name="normal", epochs=1, max_findings=0),
    StageConfig(name="one finding", epochs=1, max_findings=1),
    StageConfig(name="two findings", epochs=1, max_findings=2),
    StageConfig(name="all", epochs=1),
]
BIN = 20  # words of a report, for each line of the histogram
MISSING = "is missing"
NAMED = 20  # faults of each sort that are named; further ones are counted


@dataclass
class Check:
    """What was found.

    Attributes:
        splits: the studies.
        failures: why a training would stop, in sentences.
        warnings: what a training would skip or not notice.
        sections: (title, Markdown) of the counts.
    """

    splits: dict[str, StudyTable]
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


class Inspected(NamedTuple):
    """The digest of an image file's content, and why it cannot be read ("" where it can)."""

    digest: str = ""
    error: str = ""


def inspect_image(image: ImageFile, whole: bool = True) -> Inspected:
    """Checks that an image's file exists and, with `whole`, that all of it can be read as a training would read it."""
    if not image.path.is_file():
        return Inspected(error=f"{image.path} {MISSING}")
    if not whole:
        return Inspected()
    try:
        content = image.content()
    except UnreadableImageError as error:
        return Inspected(error=str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        read_chest_radiograph(content)
    except ImageError as error:
        return Inspected(digest, f"{image}: {error}")
    return Inspected(digest)


def check_source(config: Config, processes: int = 1, read_images: bool = True) -> Check:
    """Reads the whole source, every image included.

    Args:
        read_images: false: images are looked for and not opened, which takes seconds; damage is then not found.

    Raises:
        DataError: a folder, a table or a column is missing, so that there is nothing to count.
    """
    faults = Faults(strict=False)
    splits = load_studies(config.data, config.model.findings, faults)
    if config.data.tuning_fraction:  # the same split as in training
        splits["the source's own val"] = splits["val"]
        splits |= set_apart(splits["train"], config.data.tuning_fraction, config.data.tuning_fold)
    check = Check(splits)
    for fault in dict.fromkeys(fault for fault, _ in faults.found):
        check.failures += _named([text for found, text in faults.found if found == fault], fault)
    images = _images(check.splits, config.generation.impression)
    files = [image for image in images["image"].unique() if isinstance(image, ImageFile)]
    inspect = partial(inspect_image, whole=read_images)
    with worker_map(processes if read_images else 1) as each:
        bar = tqdm(each(inspect, files), "images", len(files), unit="image")
        found = dict(zip(files, bar, strict=True))
    inspected = [found.get(image, Inspected()) for image in images["image"]]
    images["digest"] = [content.digest for content in inspected]
    images["error"] = [content.error for content in inspected]
    counts = [_counts(split, studies, images[images["split"] == split]) for split, studies in check.splits.items()]
    note = "" if read_images else "\n\nImages were not opened."
    check.sections.append(("Studies and images", _table(counts) + note))
    check.failures += obstacles(config, check.splits)
    for split, studies in check.splits.items():
        empty = studies.select(~reported(studies, True) & ~supervised(studies)).ids()
        check.warnings += _named([f"study {name!r} of {split}" for name in empty], "empty report")
    _check_images(check, config, images[images["error"] != ""])
    check.warnings += _named(_duplicates(images), "duplicate image")
    check.sections.append(("Words of a report", _histogram(check.splits)))
    check.sections.append(("Findings", _findings(check.splits)))
    _check_stages(check, config)
    return check


def obstacles(config: Config, splits: dict[str, StudyTable]) -> list[str]:
    """Reasons why a training on these studies would fail, as sentences."""
    train, val = splits["train"], splits["val"]
    found = [f"there is no study for {split}" for split in ("train", "val") if not splits[split]]
    if val and not any(text.strip() for text in val.column("source_findings").to_pylist()):
        found.append("no validation study has findings, so no report can be scored")
    if train and config.training.init_from is None:  # a checkpoint may know what these studies lack
        if config.generation.impression and not train.text_lengths("impression").any():
            found.append("no training study has an impression, which generation.impression=true needs")
        unknown = [name for name in config.model.findings if name not in train.label_names]
        found += [f"model.findings: no training study is labelled {name!r}" for name in unknown]
    return found


def _named(texts: Sequence[str], fault: str) -> list[str]:
    rest = len(texts) - NAMED
    return [f"{fault}: {text}" for text in texts[:NAMED]] + ([f"{fault}: {rest:,} more"] if rest > 0 else [])


def _table(rows: Sequence[dict[str, str | int]]) -> str:
    """Rows by column, in Markdown."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row.values()] for row in rows]
    lines = ["| " + " | ".join(rows[0]) + " |", "|---|" + "---:|" * (len(rows[0]) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def _images(splits: dict[str, StudyTable], impression: bool) -> pd.DataFrame:
    """A row for each image: split, study, view, image and whether it is shown; digest and error are still empty."""
    rows = []
    for split, studies in splits.items():
        examples = examples_of(studies, split == "train", impression)
        shown = set(zip(examples.rows.tolist(), examples.places.tolist(), strict=True))
        for row, study in enumerate(studies):
            rows += [
                (split, study.id, image.view or "", image, (row, place) in shown, "", "")
                for place, image in enumerate(study.images)
            ]
    return pd.DataFrame(rows, columns=["split", "study", "view", "image", "shown", "digest", "error"], dtype=object)


def _counts(split: str, studies: StudyTable, images: pd.DataFrame) -> dict[str, str | int]:
    views, missing = Counter(images["view"]), int(images["error"].str.endswith(MISSING).sum())
    return {
        "split": split,
        "studies": len(studies),
        "patients": len(set(studies.column("patient").to_pylist())),
        "images": len(images),
        "frontal": views[FRONTAL],
        "lateral": views[LATERAL],
        "view unknown": views[""],
        "missing": missing,
        "unreadable": int((images["error"] != "").sum()) - missing,
        "empty reports": int((~reported(studies, True)).sum()),
        "no findings": int((studies.text_lengths("findings") == 0).sum()),
        "no impression": int((studies.text_lengths("impression") == 0).sum()),
    }


def _check_images(check: Check, config: Config, unreadable: pd.DataFrame) -> None:
    """Reports images that cannot be read: a training may skip a fraction of its own, a validation none."""
    for split in check.splits:
        images = unreadable[unreadable["split"] == split]
        shown = images["shown"].astype(bool)
        hidden, errors = sorted(images["error"][~shown].unique()), images["error"][shown].unique().tolist()
        check.warnings += _named(hidden, f"unreadable image of {split}, not shown")
        (check.failures if split == "val" else check.warnings).extend(_named(errors, f"unreadable image of {split}"))
        if split != "train" or not check.splits[split]:
            continue
        examples = examples_of(check.splits[split], True, config.generation.impression)
        count, total = len(errors) + len(examples.empty), len(examples) + len(examples.empty)
        if count > config.data.max_skip_fraction * total:
            check.failures.append(
                f"{count:,} of {total:,} training radiographs would be skipped, more than data.max_skip_fraction "
                f"{config.data.max_skip_fraction:g}"
            )
        if not examples:
            check.failures.append("no training study has both a frontal radiograph and a report")


def _duplicates(images: pd.DataFrame) -> list[str]:
    """Sentences about images that several studies share. Across splits, they make scores too good."""
    content = images["digest"].where(images["digest"] != "", images["image"].map(lambda image: image.key))
    shared = images[content.duplicated(keep=False)].groupby(content, sort=False)
    users = [dict(zip(group["study"], group["split"], strict=True)) for _, group in shared]
    return [
        f"studies {', '.join(f'{study!r} ({split})' for study, split in list(some.items())[:4])} share an image"
        for some in users
        if len(some) > 1
    ]


def _histogram(splits: dict[str, StudyTable]) -> str:
    reports = (study.report for studies in splits.values() for study in studies)
    words = [len(f"{report.findings} {report.impression}".split()) for report in reports]
    words = [count for count in words if count]
    if not words:
        return "There is no report."
    counts = np.bincount(np.array(words) // BIN).tolist()
    lines = [
        f"{place * BIN:>5}-{place * BIN + BIN - 1:<5} {count:>8,}  {'#' * math.ceil(50 * count / max(counts))}".rstrip()
        for place, count in enumerate(counts)
    ]
    return "```\n" + "\n".join(lines) + "\n```"


def _findings(splits: dict[str, StudyTable]) -> str:
    """Studies of each split in which a finding is present or uncertain."""
    names = sorted({name for studies in splits.values() for name in studies.label_names})
    present = {split: (np.nan_to_num(studies.labels(names)) != 0).sum(0) for split, studies in splits.items()}
    counts = pd.DataFrame(present, index=names).sort_values("train", ascending=False, kind="stable")
    rows = [{"finding": name} | row for name, row in counts[counts.any(axis=1)].to_dict("index").items()]
    return _table(rows) if rows else "Nothing is labelled."


def _check_stages(check: Check, config: Config) -> None:
    """Sizes of the curriculum's stages."""
    train, stages = check.splits["train"], config.training.curriculum
    examples = examples_of(train, True, config.generation.impression)
    if not examples:
        return
    epochs = config.training.total_epochs if stages else len(STAGES)
    try:
        curriculum = Curriculum(stages or STAGES, train.difficulty()[examples.rows], examples.rows, epochs)
    except ConfigError as error:
        if stages:
            check.failures.append(str(error))
        return
    check.sections.append(("Stages of the curriculum", curriculum.table()))
