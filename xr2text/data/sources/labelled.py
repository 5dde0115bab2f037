"""Films for training alone, beside any source: with labels but no report, or with outlined regions."""

from pathlib import Path

from xr2text.config import DataConfig
from xr2text.data.study import FRONTAL, DataError, Faults, ImageFile, Study
from xr2text.data.tables import read_table

MASK_FOLDERS = ("right_lung", "left_lung", "heart")
# NIH ChestX-ray14's words for what text.findings knows.
FILM_FINDINGS = {
    "Atelectasis": ("atelectasis",), "Cardiomegaly": ("cardiomegaly",), "Consolidation": ("consolidation",),
    "Edema": ("edema",), "Effusion": ("pleural effusion",), "Emphysema": ("emphysema or hyperinflation",),
    "Fibrosis": ("scarring or fibrosis",), "Hernia": ("hiatal hernia",), "Mass": ("mass", "lung lesion"),
    "Nodule": ("nodule", "lung lesion"), "Pleural_Thickening": ("pleural other",), "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
}  # fmt: skip


def labelled_films(config: DataConfig, faults: Faults) -> list[Study]:
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
            faults.add("missing image", f"{root / 'labels.csv'} lists {row.image}, which is not in {root / 'images'}")
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
