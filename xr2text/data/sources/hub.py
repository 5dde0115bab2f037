"""Studies in a table with the images inside: a Hugging Face dataset, or its parquet or Arrow files on disk.

Letters: N rows.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xr2text.config import DataConfig
from xr2text.data.study import DataError, Faults, Study, UnreadableImageError
from xr2text.data.tables import hashed_split, require_columns
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.text.sections import clean_section

COLUMNS = ("image", "findings", "impression")
_SPLIT_NAMES = {"train": "train", "validation": "val", "validate": "val", "valid": "val", "val": "val", "test": "test"}


@dataclass(frozen=True)
class TableImage:
    """A radiograph in a row of a parquet or Arrow file, its column `image` holding the bytes of a picture's file."""

    path: Path
    row: int
    view: str | None = None

    def read(self) -> Radiograph:
        """Raises UnreadableImageError, which names the file and the row."""
        try:
            return read_radiograph(self.content())
        except ImageError as error:
            raise UnreadableImageError(f"{self.path}, row {self.row}: {error}") from error

    def content(self) -> bytes:
        """The picture's file."""
        try:
            value = _open(self.path).image(self.row)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableImageError(f"{self.path}, row {self.row}: {error}") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise UnreadableImageError(f"{self.path}, row {self.row}: column 'image' holds no picture's bytes")
        return content


def hub_studies(root: Path | str, config: DataConfig, faults: Faults) -> list[Study]:
    """A study for each row, in the rows' order.

    The split is, by what the table has: its column `split` · the patients', hashed, where it has `subject_id` ·
    a fixed shuffle of the rows by `data.seed`, the first 80 % for training, the next 10 % for validation.
    """
    files = _files(root)
    tables = []
    for file in files:
        opened = _open(file)
        require_columns(file, opened.names, COLUMNS)
        wanted = [name for name in (*COLUMNS[1:], "indication", "comparison", "id", "study_id", "subject_id", "split")
                  if name in opened.names]  # fmt: skip
        tables.append(opened.columns(wanted).to_pylist())
    rows = [row for table in tables for row in table]
    places = [(file, number) for file, table in zip(files, tables, strict=True) for number in range(len(table))]
    splits = _splits(rows, config.seed, faults)
    width, studies = len(str(len(rows))), []
    for number, (row, (file, place), split) in enumerate(zip(rows, places, splits, strict=True)):
        text = {name: row.get(name) or "" for name in ("findings", "impression", "indication", "comparison")}
        named = [row[key] for key in ("id", "study_id") if row.get(key) is not None]
        name = str(named[0]) if named else f"row-{number:0{width}d}"
        patient = name if row.get("subject_id") is None else str(row["subject_id"])
        studies.append(
            Study(
                name, patient, (TableImage(file, place),), clean_section(text["findings"]),
                clean_section(text["impression"]), text["indication"], text["comparison"], split, text["findings"],
            )
        )  # fmt: skip
    return studies


def shuffled_splits(count: int, seed: int) -> list[str]:
    """80 / 10 / 10 % of so many rows, exact, in an order that the seed alone decides: of 30,633 rows 24,506, 3,063 and
    3,064."""
    order = np.random.default_rng(seed).permutation(count)
    train, val = int(0.8 * count), int(0.1 * count)
    splits = np.full(count, "test", dtype=object)
    splits[order[:train]], splits[order[train : train + val]] = "train", "val"
    return splits.tolist()


def _splits(rows: Sequence[dict], seed: int, faults: Faults) -> list[str]:
    if rows and "split" in rows[0]:
        named = [_SPLIT_NAMES.get(str(row["split"]).lower()) for row in rows]
        for row, split in zip(rows, named, strict=True):
            if split is None:
                faults.add("bad entry", f"split is {row['split']!r}; accepted: {', '.join(_SPLIT_NAMES)}")
        return [split or "train" for split in named]
    if rows and "subject_id" in rows[0]:
        split_of = hashed_split(seed)
        return [split_of(str(row["subject_id"])) for row in rows]
    return shuffled_splits(len(rows), seed)


def _files(root: Path | str) -> list[Path]:
    """The table's files: one file, those of a folder, or of a dataset on the Hub, fetched once into its cache."""
    root = Path(root)
    if root.is_file():
        return [root]
    if not root.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            root = Path(snapshot_download(str(root), repo_type="dataset", allow_patterns=["*.parquet", "*.arrow"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise DataError(
                f"data.root: there is no folder or file {root}, and no dataset of this name could be fetched from the "
                f"Hugging Face Hub: {str(error).splitlines()[0]}"
            ) from error
    files = sorted(root.rglob("*.parquet")) or sorted(root.rglob("*.arrow"))
    if not files:
        raise DataError(f"expected *.parquet or *.arrow files in {root}")
    return files


class _Table(Protocol):
    names: list[str]

    def columns(self, names: list[str]) -> pa.Table: ...

    def image(self, row: int) -> dict | bytes: ...


class _Parquet:
    """A parquet file, of which the row group that was last read is kept: reading in order is fast, at random slow."""

    def __init__(self, path: Path):
        self.file = pq.ParquetFile(path, memory_map=True)
        self.names = self.file.schema_arrow.names
        meta = self.file.metadata
        self.starts = [0, *accumulate(meta.row_group(group).num_rows for group in range(meta.num_row_groups))]
        self.group, self.images = -1, None

    def columns(self, names: list[str]) -> pa.Table:
        return self.file.read(names)

    def image(self, row: int) -> dict | bytes:
        group = bisect_right(self.starts, row) - 1
        if group != self.group:
            self.group, self.images = group, self.file.read_row_group(group, ["image"]).column(0)
        return self.images[row - self.starts[group]].as_py()


class _Arrow:
    """An Arrow file as `datasets` saves it, a stream, or in the file format; mapped, not read."""

    def __init__(self, path: Path):
        source = pa.memory_map(str(path))
        try:
            self.table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            self.table = pa.ipc.open_file(source).read_all()
        self.names = self.table.schema.names

    def columns(self, names: list[str]) -> pa.Table:
        return self.table.select(names)

    def image(self, row: int) -> dict | bytes:
        return self.table.column("image")[row].as_py()


def _open(path: Path) -> _Table:
    """Raises DataError for a file that is neither, FileNotFoundError for none."""
    return _open_version(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> _Table:
    try:
        return _Parquet(path) if path.suffix == ".parquet" else _Arrow(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a {path.suffix[1:]} file: {error}") from error
