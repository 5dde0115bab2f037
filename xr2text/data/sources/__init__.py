"""Public data layouts on disk, each as the same `Study` records. `data.source` names the layout, `data.root` its place.

indiana (the Kaggle layout of the Open-i chest X-ray collection):
    ROOT/indiana_reports.csv        uid, findings, impression, indication, comparison, Problems (MeSH terms that people
                                    chose, in lower case here, or "normal")
    ROOT/indiana_projections.csv    uid, filename, projection (Frontal or Lateral)
    ROOT/images/*                   or ROOT/images/images_normalized/*, ROOT/images_normalized/*

openi (the original download of that collection, which `data prepare` can fetch):
    ROOT/ecgen-radiology/*.xml      NLMCXR_reports.tgz, unpacked
    ROOT/**/*.png or *.dcm          NLMCXR_png.tgz or NLMCXR_dcm.tgz, unpacked anywhere below ROOT
    ROOT/indiana_projections.csv    Kaggle's, if there: the reports do not say which film is frontal. Without it the
                                    first by name is taken, which is frontal in nine studies of ten.

r2gen (the layout of R2Gen and the systems that follow it, for IU X-Ray and MIMIC-CXR):
    ROOT/annotation.json            {"train": [{id, report, image_path: [...], ...}], "val": [...], "test": [...]}
    ROOT/images/*                   image_path is relative to it
    With the two Indiana CSVs beside it, the views and the impressions are read from them.

mimic_cxr (PhysioNet's MIMIC-CXR-JPG, with the reports of MIMIC-CXR):
    ROOT/mimic-cxr-2.0.0-split.csv.gz       dicom_id, study_id, subject_id, split (train, validate, test)
    ROOT/mimic-cxr-2.0.0-metadata.csv.gz    dicom_id, ..., ViewPosition
    ROOT/files/p10/p10000032/s50414267/*.jpg
    ROOT/files/p10/p10000032/s50414267.txt  or below ROOT/mimic-cxr-reports/ or ROOT/../mimic-cxr-reports/, or still
                                            packed in mimic-cxr-reports.zip there
    A part of the download will do, with the rows of the two tables that belong to it.

hub (a Hugging Face dataset such as itsanmolgupta/mimic-cxr-dataset):
    ROOT                            its id on the Hub, a folder with its *.parquet or *.arrow files, or one such file
    Columns image (bytes of a picture's file), findings, impression; if there: indication, comparison, id or study_id,
    subject_id, split.

manifest (a table of one's own):
    ROOT                            manifest.csv or manifest.jsonl, or a folder that holds one
    A row for each image, paths relative to it: id, image, findings; if there: impression, indication, comparison,
    patient, view (frontal, PA, AP, lateral or LL), split (train, val, test). In JSON lines, image and view may be
    lists.

phantom: drawn by the program, no files.

Where a layout has no split of its own, 80 % of the patients are for training, 10 % for validation and 10 % for testing,
decided by each patient's name and data.seed alone. A patient or a study in two splits is an error.

Beside any of them, for training alone (data.films and data.region_masks):
    FILMS/labels.csv                image, findings (NIH ChestX-ray14's words, parted by |), view, patient
    FILMS/images/*                  frontal radiographs without reports
    MASKS/images/*                  frontal radiographs; MASKS/masks/right_lung/, left_lung/ and heart/ hold a PNG of
                                    the same name and size for each, white where the organ is
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from xr2text.config import DataConfig
from xr2text.data.parallel import report_readers
from xr2text.data.sources.hub import hub_studies
from xr2text.data.sources.indiana import indiana_studies, openi_studies
from xr2text.data.sources.labelled import MASK_FOLDERS, labelled_films, masked_films
from xr2text.data.sources.manifest import manifest_studies
from xr2text.data.sources.mimic_cxr import mimic_studies
from xr2text.data.sources.r2gen import r2gen_studies
from xr2text.data.study import (
    FRONTAL,
    SPLITS,
    DataError,
    Faults,
    ImageFile,
    PhantomImage,
    Study,
    UnreadableImageError,
)
from xr2text.data.tables import read_table
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS
from xr2text.text.findings.labeler import label_reports

__all__ = [
    "FRONTAL", "MASK_FOLDERS", "SPLITS", "DataError", "Faults", "ImageFile", "PhantomImage", "Study",
    "UnreadableImageError", "load_studies", "masked_films", "read_table",
]  # fmt: skip

READERS = {
    "indiana": indiana_studies,
    "openi": openi_studies,
    "r2gen": r2gen_studies,
    "mimic_cxr": mimic_studies,
    "hub": hub_studies,
    "manifest": manifest_studies,
}
ONE_FILE = ("hub", "manifest")  # whose root may be a file, too


def load_studies(config: DataConfig, image_size: int, faults: Faults | None = None) -> dict[str, list[Study]]:
    """Reads the configured source.

    Args:
        image_size: at which phantoms are drawn, pixels.
        faults: collects what is wrong with single entries; None: the first one is raised.

    Returns:
        studies by split, "train", "val" and "test" (a split may be empty).

    Raises:
        DataError: a folder, file, column or image is not where the layout has it, or a patient or a study stands in two
            splits.
    """
    faults = faults or Faults()
    if config.source == "phantom":
        studies = _phantom_studies(config, image_size)
    else:
        studies = READERS[config.source](_root(config), config, faults)
        if config.labels == "reports":
            studies = _labelled_by_reports(studies)
    studies += labelled_films(config, faults) + masked_films(config)
    _check_splits(config, studies, faults)
    return {split: [study for study in studies if study.split == split] for split in SPLITS}


def _root(config: DataConfig) -> Path:
    if config.root is None:
        raise DataError(f"data.source {config.source!r} needs data.root, the folder of the data set")
    root = Path(config.root)
    if config.source != "hub" and not root.is_dir() and not (config.source in ONE_FILE and root.is_file()):
        raise DataError(f"data.root: there is no folder {root}")
    return root


def _check_splits(config: DataConfig, studies: list[Study], faults: Faults) -> None:
    """Each study once, and each patient in one split."""
    counts = Counter(study.id for study in studies)
    splits: dict[str, set[str]] = {}
    first: dict[str, Study] = {}
    for study in studies:
        if counts[study.id] > 1:
            splits.setdefault(study.id, set()).add(study.split)
        before = first.setdefault(study.patient, study)
        if before.split != study.split and before.id != study.id:
            faults.add(
                "two splits",
                f"data.source {config.source!r}: patient {study.patient!r} stands in two splits: study {before.id!r} "
                f"in {before.split}, study {study.id!r} in {study.split}",
            )
    for name, own in splits.items():
        if len(own) > 1:
            words = f"stands in two splits: {' and '.join(sorted(own))}"
            faults.add("two splits", f"data.source {config.source!r}: study {name!r} {words}")
        else:
            faults.add("duplicate study", f"data.source {config.source!r}: study {name!r} appears more than once")


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


def _labelled_by_reports(studies: list[Study]) -> list[Study]:
    """Labels as `text.findings` reads them; what a report does not mention is absent."""
    texts = [f"{study.findings}\n\n{study.impression}".strip() for study in studies]
    processes = report_readers(len(texts))
    table = label_reports(texts, processes, progress=processes > 1).fillna(0)
    return [
        replace(study, labels=row if text else {})
        for study, text, row in zip(studies, texts, table.to_dict("records"), strict=True)
    ]
