"""What the readers of all layouts share: tables, image folders, and splits by patient."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from xr2text.data.study import DataError, Faults


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file, also a gzipped one, as text, an empty cell as "".

    Raises:
        DataError: the file or one of the columns is missing.
    """
    if not path.is_file():
        raise DataError(f"expected the table {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from error
    require_columns(path, table.columns, columns)
    return table


def require_columns(path: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises DataError, which names the first missing column."""
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(present)}")


def image_finder(root: Path, faults: Faults) -> Callable[[str], Path]:
    """A function from an image's name to its path, in the first of the usual folders that is there."""
    folders = [root / "images" / "images_normalized", root / "images_normalized", root / "images"]
    folder = next((one for one in folders if one.is_dir()), None)
    if folder is None:
        raise DataError(f"expected the images in one of {', '.join(map(str, folders))}")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def find(name: str) -> Path:
        if name not in present:
            faults.add("missing image", f"{name} is listed but not in {folder}")
        return folder / name

    return find


def hashed_split(seed: int) -> Callable[[str], str]:
    """80 % train, 10 % val, 10 % test, decided by the patient alone, so that it holds on every machine."""

    def split(patient: str) -> str:
        tenth = int(hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest(), 16) % 10
        return {0: "val", 1: "test"}.get(tenth, "train")

    return split
