"""Public data layouts on disk, each as the same `Study` records.

indiana (the Kaggle layout of the Open-i chest X-ray collection):
    ROOT/indiana_reports.csv        uid, findings, impression, indication, comparison, Problems (MeSH terms that people
                                    chose, in lower case here, or "normal")
    ROOT/indiana_projections.csv    uid, filename, projection (Frontal or Lateral)
    ROOT/images/*                   or ROOT/images/images_normalized/*, ROOT/images_normalized/*

r2gen (the layout of R2Gen and the systems that follow it):
    ROOT/annotation.json            {"train": [{id, report, image_path: [...], ...}], "val": [...], "test": [...]}
    ROOT/images/*                   image_path is relative to it
    With the two Indiana CSVs beside it, the views and the impressions are read from them.

phantom: drawn by the program, no files.

Beside any of them, for training alone (data.films and data.region_masks):
    FILMS/labels.csv                image, findings (NIH ChestX-ray14's words, parted by |), view, patient
    FILMS/images/*                  frontal radiographs without reports
    MASKS/images/*                  frontal radiographs; MASKS/masks/right_lung/, left_lung/ and heart/ hold a PNG of
                                    the same name and size for each, white where the organ is
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from xr2text.config import DataConfig
from xr2text.imaging.phantom import FINDINGS, draw_phantom
from xr2text.imaging.read import ImageError, Radiograph, read_radiograph
from xr2text.text.findings import label_reports
from xr2text.text.sections import ReportText, clean_section

SPLITS = ("train", "val", "test")
FRONTAL = "frontal"
MASK_FOLDERS = ("right_lung", "left_lung", "heart")
# NIH ChestX-ray14's words for what text.findings knows.
FILM_FINDINGS = {
    "Atelectasis": ("atelectasis",), "Cardiomegaly": ("cardiomegaly",), "Consolidation": ("consolidation",),
    "Edema": ("edema",), "Effusion": ("pleural effusion",), "Emphysema": ("emphysema or hyperinflation",),
    "Fibrosis": ("scarring or fibrosis",), "Hernia": ("hiatal hernia",), "Mass": ("mass", "lung lesion"),
    "Nodule": ("nodule", "lung lesion"), "Pleural_Thickening": ("pleural other",), "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
}  # fmt: skip
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
    # Findings: 1 present, 0 absent, -1 uncertain; of a finding that is not there nothing is known.
    labels: Mapping[str, int] = field(default_factory=dict)
    masks: tuple[Path, Path, Path] | None = None  # files that outline the right lung, the left lung and the heart

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
        if config.labels == "reports":
            studies = _labelled_by_reports(studies)
    studies += _labelled_films(config) + masked_films(config)
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
            studies.append(Study(name, name, (image,), *text, split, phantom.findings_text,
                                 {one: int(one in phantom.findings) for one in FINDINGS}))  # fmt: skip
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
    mesh = _mesh_labels(reports["Problems"])
    studies = []
    for uid, row in reports.iterrows():
        files = tuple(ImageFile(find(name), view) for name, view in images.get(uid, ()))
        findings, impression = clean_section(row["findings"]), clean_section(row["impression"])
        if files:
            studies.append(
                Study(
                    uid, uid, files, findings, impression, row["indication"], row["comparison"], split_of(uid),
                    row["findings"], mesh[uid],
                )
            )  # fmt: skip
    return studies


def _r2gen_studies(root: Path, config: DataConfig) -> list[Study]:
    annotation = _read_annotation(root / "annotation.json")
    find = _image_finder(root)
    reports, views, mesh = pd.DataFrame(), {}, {}
    if (root / "indiana_reports.csv").is_file():
        reports, images = _read_indiana_tables(root)
        views = {name: view for pairs in images.values() for name, view in pairs}
        mesh = _mesh_labels(reports["Problems"])
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
                    item["report"], mesh.get(uid, {}),
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


def _mesh_labels(problems: pd.Series) -> dict[str, dict[str, int]]:
    """By uid, each term that anybody's "Problems" (parted by semicolons) name: 1 where this study's do, else 0.

    Nothing is known of a study that nobody indexed.
    """
    named = {uid: {one.strip().lower() for one in cell.split(";")} - {""} for uid, cell in problems.items()}
    every = sorted(set().union(*named.values()) - {"normal", "no indexing"})
    return {
        uid: {} if not terms or "no indexing" in terms else {term: int(term in terms) for term in every}
        for uid, terms in named.items()
    }


def _labelled_by_reports(studies: list[Study]) -> list[Study]:
    """Labels as `text.findings` reads them; what a report does not mention is absent."""
    texts = [f"{study.findings}\n\n{study.impression}".strip() for study in studies]
    table = label_reports(texts).fillna(0)
    return [
        replace(study, labels=row if text else {})
        for study, text, row in zip(studies, texts, table.to_dict("records"), strict=True)
    ]


def _labelled_films(config: DataConfig) -> list[Study]:
    """Training films without a report, from `films`/labels.csv."""
    if config.films is None:
        return []
    root = Path(config.films)
    table = read_table(root / "labels.csv", ("image", "findings", "view", "patient"))
    named = {name for names in FILM_FINDINGS.values() for name in names}
    studies = []
    for row in table.itertuples():
        path = root / "images" / row.image
        if not path.is_file():
            raise DataError(f"{root / 'labels.csv'} lists {row.image}, which is not in {root / 'images'}")
        present = {name for one in row.findings.split("|") for name in FILM_FINDINGS.get(one, ())}
        if "infiltration" in row.findings.lower():
            known = dict.fromkeys(present, 1)  # a word for any density: nothing else is known to be absent
        else:
            known = {name: int(name in present) for name in named}
        image = ImageFile(path, FRONTAL)
        studies.append(
            Study(f"film-{Path(row.image).stem}", f"film-{row.patient}", (image,), *[""] * 4, "train", "", known)
        )
    return studies


def masked_films(config: DataConfig, held_out: bool = False) -> list[Study]:
    """Films with outlined regions, from `region_masks`/images and /masks.

    Args:
        held_out: every `mask_holdout`-th one in the order of names, which training does not see; else the others.
    """
    if config.region_masks is None:
        return []
    root = Path(config.region_masks)
    files = sorted(path for path in (root / "images").glob("*") if path.is_file())
    if not files:
        raise DataError(f"data.region_masks: expected radiographs in {root / 'images'}")
    studies = []
    for number, path in enumerate(files, start=1):
        if (config.mask_holdout > 0 and number % config.mask_holdout == 0) != held_out:
            continue
        masks = tuple(root / "masks" / name / f"{path.stem}.png" for name in MASK_FOLDERS)
        missing = [mask for mask in masks if not mask.is_file()]
        if missing:
            raise DataError(f"data.region_masks: expected the mask {missing[0]}")
        name = f"masked-{path.stem}"
        studies.append(Study(name, name, (ImageFile(path, FRONTAL),), *[""] * 4, "train", "", {}, masks))
    return studies


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
