"""The original download of Indiana University's collection from Open-i, which is public.

ROOT/ecgen-radiology/*.xml      NLMCXR_reports.tgz, unpacked
ROOT/**/*.png or *.dcm          NLMCXR_png.tgz or NLMCXR_dcm.tgz, unpacked anywhere below ROOT
ROOT/indiana_projections.csv    Kaggle's, if it is there: the reports do not say which radiograph is frontal. Without it
                                the first by name is taken, which is frontal in nine studies of ten.
"""

import gzip
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pooch

from xr2text.config import DataConfig
from xr2text.data.sources.indiana import mesh_labels, read_projections
from xr2text.data.sources.layout import listed_split
from xr2text.data.study import DataError, Faults, ImageFile, Study
from xr2text.text.sections import clean_section

OPENI = "https://openi.nlm.nih.gov/imgs/collections"
ARCHIVES = {"NLMCXR_reports.tgz": "ecgen-radiology", "NLMCXR_png.tgz": "png"}  # and the folders they are unpacked into
RETRIES = 4


def download_openi(root: Path, address: str = OPENI, progress: bool = True) -> None:
    """Fetches and unpacks what is not yet there; an archive that is whole is not fetched again.

    Raises:
        DataError: the server cannot be reached or breaks off again and again, or an archive is damaged.
    """
    # The collection's publisher gives no checksums; gzip has its own.
    archives = pooch.create(root, f"{address}/", registry=dict.fromkeys(ARCHIVES), retry_if_failed=RETRIES)
    for name, folder in ARCHIVES.items():
        if not (root / folder).is_dir():
            try:
                archives.fetch(name, progressbar=progress)
            except OSError as error:
                raise DataError(f"{address}/{name} could not be fetched: {error}") from error
            unpack(root / name, root / folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a gzipped tar archive into a folder, whole or not at all. Where the archive has a top folder of that
    name, this folder's content is taken. Raises DataError for a damaged archive or one with paths that lead
    elsewhere."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was stopped
    try:
        with tarfile.open(archive, "r:gz") as opened:
            opened.extractall(draft, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} is damaged: {error}; remove it, and it is fetched anew") from error
    inner = draft / folder.name
    os.replace(inner if inner.is_dir() else draft, folder)
    shutil.rmtree(draft, ignore_errors=True)


def openi_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """The studies that have images: an XML file for each report, PNG or DICOM files with the names that they give."""
    folder = root / "ecgen-radiology"
    reports = sorted((folder if folder.is_dir() else root).glob("*.xml"), key=lambda file: (len(file.stem), file.stem))
    if not reports:
        raise DataError(f"expected Open-i's reports {folder}/*.xml, unpacked from NLMCXR_reports.tgz")
    files, views, split_of = _images(root), _known_views(root), listed_split(config.split_file)
    parsed = [report for file in reports if (report := _read_report(file, faults)) is not None]
    mesh = mesh_labels(pd.Series({report["uid"]: report["terms"] for report in parsed}, dtype=str))
    for report in parsed:
        uid, images = report["uid"], []
        for name in report["images"]:
            spellings = _spellings(name)
            path = next((files[spelling] for spelling in spellings if spelling in files), root / f"{name}.png")
            images.append(ImageFile(path, next((views[spelling] for spelling in spellings if spelling in views), None)))
        images.sort(key=lambda image: (image.view or "", image.path.name))
        if images:
            yield Study(
                uid, uid, tuple(images), clean_section(report["findings"]), clean_section(report["impression"]),
                split_of(uid), report["findings"], mesh.get(uid, {}),
            )  # fmt: skip


def _images(root: Path) -> dict[str, Path]:
    """Every PNG and DICOM file under `root` by its stem; the PNG where there are both."""
    found = {path.stem: path for suffix in ("dcm", "png") for path in sorted(root.rglob(f"*.{suffix}"))}
    if not found:
        raise DataError(f"expected Open-i's images under {root}, unpacked from NLMCXR_png.tgz or NLMCXR_dcm.tgz")
    return found


def _spellings(name: str) -> tuple[str, ...]:
    """The names of one image in the different archives: CXR1000_IM-0003-1001 is 1000_IM-0003-1001 among the DICOM files
    and in Kaggle's tables, CXR1_1_IM-0001-3001 is 1_IM-0001-3001."""
    return name, re.sub(r"^CXR\d+_(?=\d+_)", "", name), name.removeprefix("CXR")


def _known_views(root: Path) -> dict[str, str]:
    """Views by an image's stem, from Kaggle's table where it lies beside the reports."""
    path = root / "indiana_projections.csv"
    pairs = [pair for images in read_projections(path).values() for pair in images] if path.is_file() else []
    return {name.split(".")[0]: view for name, view in pairs}


def _read_report(file: Path, faults: Faults) -> dict | None:
    """uid, terms (parted by semicolons), images, findings and impression; None where the file is damaged."""
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
        "findings": sections.get("findings", ""),
        "impression": sections.get("impression", ""),
    }
