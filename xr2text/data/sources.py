"""Public data layouts on disk, each as the same `Study` records.

indiana (the Kaggle layout of the Open-i chest X-ray collection):
    ROOT/indiana_reports.csv        uid, findings, impression, indication, comparison, Problems (a study's labels: MeSH
                                    terms that people chose, in lower case here, or "normal")
    ROOT/indiana_projections.csv    uid, filename, projection (Frontal or Lateral)
    ROOT/images/*                   or ROOT/images/images_normalized/*, ROOT/images_normalized/*

r2gen (the layout of R2Gen and the systems that follow it):
    ROOT/annotation.json            {"train": [{id, report, image_path: [...], ...}], "val": [...], "test": [...]}
    ROOT/images/*                   image_path is relative to it
    With the two Indiana CSVs beside it, the views and the impressions are read from them.

phantom: drawn by the program, no files.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.imaging.phantom import draw_phantom
from xr2text.imaging.read import ImageError, Radiograph, read_radiograph
from xr2text.text.sections import ReportText, clean_section

SPLITS = ("train", "val", "test")
FRONTAL = "frontal"
INDIANA_COLUMNS = ("uid", "findings", "impression", "indication", "comparison", "Problems")


class DataError(ValueError):
    """A data set that is not laid out as expected; the message names what was expected and where."""


@dataclass(frozen=True)
class ImageFile:
    """A radiograph on disk. `view` is "frontal", "lateral" or None where the layout does not say."""

    path: Path
    view: str | None

    def read(self) -> Radiograph:
        """Raises DataError, which names the file, where `read_radiograph` refuses it."""
        try:
            return read_radiograph(self.path)
        except ImageError as error:
            raise DataError(f"{self.path}: {error}") from error


@dataclass(frozen=True)
class PhantomImage:
    """A radiograph drawn when it is read."""

    seed: int
    size: int
    view: str = FRONTAL

    def read(self) -> Radiograph:
        return draw_phantom(self.seed, self.size).radiograph


@dataclass(frozen=True)
class Study:
    """One examination: its radiographs and its report, sections cleaned by `clean_section`.

    `source_findings` is the findings section as the source has it, character by character, for scores that have their
    own cleaning.
    """

    id: str
    patient: str
    images: tuple[ImageFile | PhantomImage, ...]
    findings: str
    impression: str
    indication: str
    comparison: str
    split: str
    source_findings: str
    labels: frozenset[str] | None = None  # findings that the source says are present; None: it does not say

    @property
    def report(self) -> ReportText:
        return ReportText(self.findings, self.impression)

    @property
    def frontal_images(self) -> tuple[ImageFile | PhantomImage, ...]:
        """The frontal radiographs; where no view is known, the first image, which is the frontal one by custom."""
        frontal = tuple(image for image in self.images if image.view == FRONTAL)
        return frontal or tuple(image for image in self.images if image.view is None)[:1]


def load_studies(config: DataConfig, image_size: int) -> dict[str, list[Study]]:
    """Reads the configured source.

    Args:
        image_size: at which phantoms are drawn, pixels.

    Returns:
        studies by split, "train", "val" and "test" (a split may be empty).

    Raises:
        DataError: a folder, file, column or image is not where the layout has it.
    """
    if config.source == "phantom":
        studies = _phantom_studies(config, image_size)
    else:
        if config.root is None:
            raise DataError(f"data.source {config.source!r} needs data.root, the folder of the data set")
        root = Path(config.root)
        if not root.is_dir():
            raise DataError(f"data.root: there is no folder {root}")
        studies = {"indiana": _indiana_studies, "r2gen": _r2gen_studies}[config.source](root, config)
    repeated = [name for name, count in Counter(study.id for study in studies).items() if count > 1]
    if repeated:
        raise DataError(f"data.source {config.source!r}: study {repeated[0]!r} appears more than once")
    return {split: [study for study in studies if study.split == split] for split in SPLITS}


def _phantom_studies(config: DataConfig, image_size: int) -> list[Study]:
    studies = []
    for split, start, count in (("train", 0, config.phantom_train), ("val", 10_000_000, config.phantom_val)):
        for seed in range(config.seed * 100_000_000 + start, config.seed * 100_000_000 + start + count):
            phantom = draw_phantom(seed, 32)  # the report does not depend on the size
            image = PhantomImage(seed, image_size)
            name = f"phantom-{seed}"
            text = (phantom.findings_text, phantom.impression_text, "", "")
            studies.append(Study(name, name, (image,), *text, split, phantom.findings_text, phantom.findings))
    return studies


def _indiana_studies(root: Path, config: DataConfig) -> list[Study]:
    reports, images = _read_indiana_tables(root)
    find = _image_finder(root)
    split_of = _hashed_split(config.seed)
    if config.split_file is not None:
        listed = {
            _uid_of(item): split for split, items in _read_annotation(Path(config.split_file)).items() for item in items
        }
        # A study that the file does not list is free for training.
        split_of = lambda uid: listed.get(uid, "train")  # noqa: E731
    studies = []
    for uid, row in reports.iterrows():
        files = tuple(ImageFile(find(name), view) for name, view in images.get(uid, ()))
        findings, impression = clean_section(row["findings"]), clean_section(row["impression"])
        if files:
            studies.append(
                Study(
                    uid, uid, files, findings, impression, row["indication"], row["comparison"], split_of(uid),
                    row["findings"], _mesh_labels(row["Problems"]),
                )
            )  # fmt: skip
    return studies


def _r2gen_studies(root: Path, config: DataConfig) -> list[Study]:
    annotation = _read_annotation(root / "annotation.json")
    find = _image_finder(root)
    reports, views = pd.DataFrame(), {}
    if (root / "indiana_reports.csv").is_file():
        reports, images = _read_indiana_tables(root)
        views = {name: view for pairs in images.values() for name, view in pairs}
    studies = []
    for split, items in annotation.items():
        for item in items:
            uid = _uid_of(item)
            row = reports.loc[uid] if uid in reports.index else dict.fromkeys(INDIANA_COLUMNS, "")
            files = tuple(ImageFile(find(name), views.get(name)) for name in item["image_path"])
            findings, impression = clean_section(item["report"]), clean_section(row["impression"])
            studies.append(
                Study(
                    str(item["id"]), uid, files, findings, impression, row["indication"], row["comparison"], split,
                    item["report"], _mesh_labels(row["Problems"]),
                )
            )  # fmt: skip
    return studies


def _read_indiana_tables(root: Path) -> tuple[pd.DataFrame, dict[str, list[tuple[str, str]]]]:
    """Reports by uid, and by uid the list of (file name, view), frontal first."""
    reports = read_table(root / "indiana_reports.csv", INDIANA_COLUMNS)
    projections = read_table(root / "indiana_projections.csv", ("uid", "filename", "projection"))
    images: dict[str, list[tuple[str, str]]] = {}
    for row in projections.sort_values(["projection", "filename"]).itertuples():
        images.setdefault(row.uid, []).append((row.filename, row.projection.lower()))
    return reports.set_index("uid"), images


def _mesh_labels(problems: str) -> frozenset[str] | None:
    """Terms parted by semicolons, in lower case without "normal"; None for a study that nobody indexed."""
    terms = {term.strip().lower() for term in problems.split(";")} - {"", "no indexing"}
    return frozenset(terms - {"normal"}) if terms else None


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A CSV file as text, an empty cell as "". Raises DataError where the file or one of the columns is missing."""
    if not path.is_file():
        raise DataError(f"expected the table {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(table.columns)}")
    return table


def _read_annotation(path: Path) -> dict[str, list[dict]]:
    if not path.is_file():
        raise DataError(f"expected R2Gen's annotation file {path}")
    try:
        annotation = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(annotation, dict) or not annotation.keys() <= set(SPLITS):
        raise DataError(f"{path} must map train, val and test to lists of studies")
    for split, items in annotation.items():
        for item in items:
            missing = {"id", "report", "image_path"} - item.keys()
            if missing:
                raise DataError(f"{path}: study {item.get('id')!r} in {split} has no {sorted(missing)[0]!r}")
    return annotation


def _uid_of(item: dict) -> str:
    """Indiana's study number out of an R2Gen entry, whose id is "CXR2384_IM-0942"; another source's patient or id."""
    number = re.match(r"CXR(\d+)_", str(item["id"]))
    return str(item.get("uid") or (number and number[1]) or item.get("subject_id") or item["id"])


def _image_finder(root: Path) -> Callable[[str], Path]:
    """A function from an image's name to its path, in the first of the usual folders that is there."""
    folders = [root / "images" / "images_normalized", root / "images_normalized", root / "images"]
    folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        raise DataError(f"expected the images in one of {', '.join(map(str, folders))}")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def find(name: str) -> Path:
        if name not in present:
            raise DataError(f"{name} is listed but not in {folder}")
        return folder / name

    return find


def _hashed_split(seed: int) -> Callable[[str], str]:
    """80 % train, 10 % val, 10 % test, decided by the study alone, so that it holds on every machine."""

    def split(uid: str) -> str:
        tenth = int(hashlib.sha256(f"{seed}:{uid}".encode()).hexdigest(), 16) % 10
        return {0: "val", 1: "test"}.get(tenth, "train")

    return split
