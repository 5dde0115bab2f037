"""Public data layouts on disk, a file here for each. `data.source` names the layout, `data.root` its place.

Where a layout has no split, 80 % of the patients are for training, 10 % for validation and 10 % for testing, decided by
each patient's name alone. A patient or a study in two splits is an error, and so is an image that a study lists twice.

With `data.cache`, the studies are kept in a file there, from which they are mapped, not loaded:

    CACHE/index-0a1b....arrow    its name says of which settings and tables it was made
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xr2text import anatomy, text
from xr2text.config import DataConfig, load_config
from xr2text.data import curriculum
from xr2text.data.segmentation import segmented_studies, trained_on
from xr2text.data.sources.hub import hub_studies
from xr2text.data.sources.indiana import indiana_studies
from xr2text.data.sources.labelled_images import labelled_studies
from xr2text.data.sources.layout import REPLAYED
from xr2text.data.sources.manifest import manifest_studies
from xr2text.data.sources.mimic_cxr import mimic_studies
from xr2text.data.sources.openi import openi_studies
from xr2text.data.sources.phantom import phantom_studies
from xr2text.data.sources.r2gen import r2gen_studies
from xr2text.data.study import DataError, Faults, Study
from xr2text.data.study_table import StudyTable, save_studies
from xr2text.text.findings.table import FINDING_NAMES, SIDED_FINDINGS

READERS = {
    "indiana": indiana_studies,
    "openi": openi_studies,
    "r2gen": r2gen_studies,
    "mimic_cxr": mimic_studies,
    "hub": hub_studies,
    "manifest": manifest_studies,
}
INDEXED = ("indiana", "openi", "r2gen")  # sources with labels made by people
ONE_FILE = ("hub", "manifest")  # sources whose root may also be a single file
_USED_LATER = {"workers", "cache", "max_skip_fraction", "augmentation", "tuning_fraction", "tuning_fold"}
_RULES = [*sorted(Path(text.__file__).parent.rglob("*.py")), Path(anatomy.__file__), Path(curriculum.__file__)]
VERSION = 5  # increased when the index's columns or the readers' output change
_TABLES = ("*.csv", "*.csv.gz", "*.json", "*.jsonl", "*.zip", "*.parquet", "*.arrow", "*/*.parquet", "*/*.arrow",
           "*.xml", "ecgen-radiology/*.xml", "../mimic-cxr-reports.zip")  # fmt: skip
# Folders whose time of change is updated when images or reports come or go; in MIMIC-CXR, when patients do.
_FOLDERS = ("*/", "images/*/", "files/*/", "mimic-cxr-reports/files/*/", "../mimic-cxr-reports/files/*/")


def load_studies(
    config: DataConfig, findings: Sequence[str] = (), faults: Faults | None = None, anew: bool = False
) -> dict[str, StudyTable]:
    """Studies by split, "train", "val" and "test" (a split may be empty).

    They come from the index where there is a `data.cache`; it is made where there is none of these settings, tables and
    folders. That a file is written anew, or comes into a patient's folder of MIMIC-CXR, is not noticed.

    Args:
        findings: that a model is to predict. Where `text.findings` reads every one of them in reports, labels are what
            it reads; else they are the source's, if it has any. Phantoms are labelled by what is drawn.
        faults: collects what is wrong with single entries, and nothing is kept in the cache; None: the first is raised.
        anew: the source is read and the index made in any case.

    Raises:
        DataError: a folder, file, column or image is not where the layout has it, or a patient or a study stands in two
            splits.
    """
    readable = set(findings) <= {*FINDING_NAMES, *SIDED_FINDINGS}
    from_reports = config.source != "phantom" and (readable or config.source not in INDEXED)
    in_memory, faults = config.cache is None or faults is not None, faults or Faults()
    studies = _each_in_one_split(config, _read(config, from_reports, faults), faults)
    if in_memory:
        return StudyTable.of(studies, from_reports).by_split()
    path = Path(config.cache) / f"index-{_key(config, from_reports)}.arrow"
    if anew or not path.is_file():
        save_studies(path, studies, from_reports)
    return StudyTable.open(path).by_split()


def _read(config: DataConfig, from_reports: bool, faults: Faults) -> Iterator[Study]:
    """The source's studies and those for training beside it, one after the other."""
    if config.source == "phantom":
        studies = phantom_studies(config)
    else:
        studies = READERS[config.source](_root(config), config, faults)
    new = 0  # studies with findings, for training
    for study in studies:
        new += study.split == "train" and bool(study.findings)
        yield replace(study, labels={}) if from_reports else study
    if config.replay is not None:
        for study in _replayed(config, new, faults):
            yield replace(study, labels={}) if from_reports else study
    if config.labelled_images is not None:
        yield from labelled_studies(config.labelled_images)
    if config.segmentation is not None:
        yield from trained_on(segmented_studies(config.segmentation))


def _earlier(config: DataConfig) -> DataConfig:
    """The data settings of the earlier training whose studies are replayed."""
    earlier = load_config(config.replay).data
    return earlier.model_copy(
        update={"labelled_images": None, "segmentation": None, "replay": None, "cache": config.cache}
    )


def _replayed(config: DataConfig, count: int, faults: Faults) -> Iterator[Study]:
    """Up to `count` training studies of the earlier training that have findings; always the same ones."""
    try:
        studies = load_studies(_earlier(config), faults=None if faults.strict else faults)["train"]
    except DataError as error:
        raise DataError(f"data.replay {config.replay}: {error}") from error
    studies = studies.select(studies.text_lengths("findings") > 0)
    names = [hashlib.sha256(name.encode()).digest() for name in studies.ids()]
    for place in sorted(range(len(names)), key=names.__getitem__)[:count]:
        study = studies[place]
        yield replace(study, id=REPLAYED + study.id, patient=REPLAYED + study.patient)


def _root(config: DataConfig) -> Path:
    if config.root is None:
        raise DataError(f"data.source {config.source!r} needs data.root, the folder of the data set")
    root = Path(config.root)
    if config.source != "hub" and not root.is_dir() and not (config.source in ONE_FILE and root.is_file()):
        raise DataError(f"data.root: there is no folder {root}")
    return root


def _each_in_one_split(config: DataConfig, studies: Iterable[Study], faults: Faults) -> Iterator[Study]:
    """Passes the studies on and reports faults: a study that appears twice, a study or a patient in two splits, an
    image listed twice."""
    source = f"data.source {config.source!r}"
    seen: dict[str, str] = {}
    patients: dict[str, tuple[str, str]] = {}
    for study in studies:
        split = study.split
        if study.id in seen and seen[study.id] == split:
            faults.add("duplicate study", f"{source}: study {study.id!r} appears more than once")
        elif seen.setdefault(study.id, split) != split:
            words = f"stands in two splits: {seen[study.id]} and {split}"
            faults.add("two splits", f"{source}: study {study.id!r} {words}")
        first, before = patients.setdefault(study.patient, (study.id, split))
        if before != split and first != study.id:
            words = f"stands in two splits: study {first!r} in {before}, study {study.id!r} in {split}"
            faults.add("two splits", f"{source}: patient {study.patient!r} {words}")
        if again := next((image for image in study.images if study.images.count(image) > 1), None):
            faults.add("duplicate image", f"{source}: study {study.id!r} lists {again} more than once")
        yield study


def _key(config: DataConfig, from_reports: bool) -> str:
    """A digest of what the index depends on: settings of the source, versions of its tables, when its folders were
    changed, and the rules by which reports are read."""
    settings = config.model_dump(exclude=_USED_LATER)
    files = [Path(file) for file in (config.root, config.split_file) if file and Path(file).is_file()]
    if config.labelled_images is not None:
        files.append(Path(config.labelled_images) / "labels.csv")
    if config.segmentation is not None:
        files += sorted(Path(config.segmentation).glob("images/*"))
    if config.root is not None:
        files += [file for pattern in _TABLES for file in sorted(Path(config.root).glob(pattern))]
        kept = config.cache and Path(config.cache).resolve()
        folders = [folder for pattern in _FOLDERS for folder in sorted(Path(config.root).glob(pattern))]
        files += [folder for folder in folders if folder.is_dir() and folder.resolve() != kept]
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    rules = [file.read_text("utf-8") for file in _RULES]
    replayed = None if config.replay is None else _key(_earlier(config), from_reports)
    parts = [VERSION, settings, from_reports, stamps, rules, replayed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
