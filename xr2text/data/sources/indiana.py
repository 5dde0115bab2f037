"""The Indiana University (Open-i) collection: the Kaggle layout, and the original download."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from xr2text.config import DataConfig
from xr2text.data.sources.annotation import read_annotation, uid_of
from xr2text.data.study import DataError, Faults, ImageFile, Study
from xr2text.data.tables import hashed_split, image_finder, read_table
from xr2text.text.sections import clean_section

COLUMNS = ("uid", "findings", "impression", "indication", "comparison", "Problems")


def indiana_studies(root: Path, config: DataConfig, faults: Faults) -> list[Study]:
    """The Kaggle layout: two CSV files and a folder of images."""
    reports, images = read_indiana_tables(root)
    find, split_of = image_finder(root, faults), _split(config)
    mesh = mesh_labels(reports["Problems"])
    doubled = reports.index[reports.index.duplicated()]
    for uid in doubled.unique():
        faults.add("duplicate study", f"{root / 'indiana_reports.csv'} lists study {uid!r} more than once")
    studies = []
    for uid, row in reports[~reports.index.duplicated()].iterrows():
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


def openi_studies(root: Path, config: DataConfig, faults: Faults) -> list[Study]:
    """The original download: an XML file for each report, PNG or DICOM files with the names that they give."""
    folder = root / "ecgen-radiology"
    reports = sorted((folder if folder.is_dir() else root).glob("*.xml"), key=lambda file: (len(file.stem), file.stem))
    if not reports:
        raise DataError(f"expected Open-i's reports {folder}/*.xml, unpacked from NLMCXR_reports.tgz")
    files = _openi_images(root)
    views, split_of = _known_views(root), _split(config)
    parsed = [one for file in reports if (one := _read_openi_report(file, faults)) is not None]
    mesh = mesh_labels(pd.Series({one["uid"]: one["terms"] for one in parsed}, dtype=str))
    studies = []
    for one in parsed:
        images = []
        for name in one["images"]:
            names = _spellings(name)
            path = next((files[other] for other in names if other in files), None)
            if path is None:
                faults.add("missing image", f"{folder / one['uid']}.xml lists {name}, which is not under {root}")
                path = root / f"{name}.png"
            images.append(ImageFile(path, next((views[other] for other in names if other in views), None)))
        images.sort(key=lambda image: (image.view or "", image.path.name))
        if images:
            sections = {name: clean_section(one[name]) for name in ("findings", "impression")}
            studies.append(
                Study(
                    one["uid"], one["uid"], tuple(images), sections["findings"], sections["impression"],
                    one["indication"], one["comparison"], split_of(one["uid"]), one["findings"],
                    mesh.get(one["uid"], {}),
                )
            )  # fmt: skip
    return studies


def _split(config: DataConfig) -> Callable[[str], str]:
    """A study's split: the split file's, which leaves what it does not list for training, or by the number alone."""
    if config.split_file is None:
        return hashed_split(config.seed)
    path = Path(config.split_file)
    listed: dict[str, str] = {}
    for split, items in read_annotation(path).items():
        for item in items:
            if listed.setdefault(uid_of(item), split) != split:
                raise DataError(f"{path}: patient {uid_of(item)!r} stands in {listed[uid_of(item)]} and in {split}")
    return lambda uid: listed.get(uid, "train")


def read_indiana_tables(root: Path) -> tuple[pd.DataFrame, dict[str, list[tuple[str, str]]]]:
    """Reports by uid, and by uid the list of (file name, view), frontal first."""
    reports = read_table(root / "indiana_reports.csv", COLUMNS)
    return reports.set_index("uid"), _read_projections(root / "indiana_projections.csv")


def _read_projections(path: Path) -> dict[str, list[tuple[str, str]]]:
    projections = read_table(path, ("uid", "filename", "projection"))
    images: dict[str, list[tuple[str, str]]] = {}
    for row in projections.sort_values(["projection", "filename"]).itertuples():
        images.setdefault(row.uid, []).append((row.filename, row.projection.lower()))
    return images


def mesh_labels(problems: pd.Series) -> dict[str, dict[str, int]]:
    """By uid, each term that anybody's "Problems" (parted by semicolons) name: 1 where this study's do, else 0.

    Nothing is known of a study that nobody indexed.
    """
    named = {uid: {one.strip().lower() for one in cell.split(";")} - {""} for uid, cell in problems.items()}
    every = sorted(set().union(*named.values()) - {"normal", "no indexing"})
    return {
        uid: {} if not terms or "no indexing" in terms else {term: int(term in terms) for term in every}
        for uid, terms in named.items()
    }


def _openi_images(root: Path) -> dict[str, Path]:
    """Every PNG and DICOM file under `root` by its stem; the PNG where there are both."""
    found: dict[str, Path] = {}
    for suffix in ("dcm", "png"):
        found |= {path.stem: path for path in sorted(root.rglob(f"*.{suffix}"))}
    if not found:
        raise DataError(f"expected Open-i's images under {root}, unpacked from NLMCXR_png.tgz or NLMCXR_dcm.tgz")
    return found


def _spellings(name: str) -> tuple[str, ...]:
    """An image's name as the archives have it: CXR1000_IM-0003-1001 is 1000_IM-0003-1001 among the DICOM files and in
    Kaggle's tables, CXR1_1_IM-0001-3001 is 1_IM-0001-3001."""
    return name, re.sub(r"^CXR\d+_(?=\d+_)", "", name), name.removeprefix("CXR")


def _known_views(root: Path) -> dict[str, str]:
    """Views by an image's stem, from Kaggle's table where it lies beside the reports; the reports do not say them."""
    path = root / "indiana_projections.csv"
    pairs = [pair for images in _read_projections(path).values() for pair in images] if path.is_file() else []
    return {name.split(".")[0]: view for name, view in pairs}


def _read_openi_report(file: Path, faults: Faults) -> dict | None:
    """uid, terms (parted by semicolons), images and the four sections; None where the file is damaged."""
    try:
        tree = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        faults.add("bad entry", f"{file} is not valid XML: {error}")
        return None
    sections: dict[str, str] = {}
    for part in tree.iter("AbstractText"):
        sections.setdefault(part.get("Label", "").lower(), (part.text or "").strip())
    uid = tree.find("uId")
    terms = {(term.text or "").split("/")[0].strip() for term in tree.iterfind("MeSH/major")}
    return {
        "uid": file.stem if uid is None else uid.get("id", file.stem).removeprefix("CXR"),
        "terms": ";".join(sorted(terms)),
        "images": [image.get("id", "") for image in tree.iter("parentImage")],
        **{name: sections.get(name, "") for name in ("findings", "impression", "indication", "comparison")},
    }
