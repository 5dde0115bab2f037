"""Parquet and Arrow files whose rows hold images, as Hugging Face datasets are distributed: read where they lie."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq


class Shard(Protocol):
    """Attributes:
    names: of the columns.
    rows: their number.
    """

    names: list[str]
    rows: int

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns, batch by batch."""

    def image(self, row: int) -> dict | bytes:
        """The column `image` of a row."""


class _Parquet:
    """The row group that was last read is kept: reading in order is fast, at random slow."""

    def __init__(self, path: Path):
        self.file = pq.ParquetFile(path, memory_map=True)
        self.names, meta = self.file.schema_arrow.names, self.file.metadata
        self.rows = meta.num_rows
        self.starts = [0, *accumulate(meta.row_group(group).num_rows for group in range(meta.num_row_groups))]
        self.group, self.images = -1, None

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        return self.file.iter_batches(columns=names)

    def image(self, row: int) -> dict | bytes:
        group = bisect_right(self.starts, row) - 1
        if group != self.group:
            self.group, self.images = group, self.file.read_row_group(group, ["image"]).column(0)
        return self.images[row - self.starts[group]].as_py()


class _Arrow:
    """A stream, as `datasets` saves it, or Arrow's file format; mapped, not read."""

    def __init__(self, path: Path):
        source = pa.memory_map(str(path))
        try:
            self.table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            self.table = pa.ipc.open_file(source).read_all()
        self.names, self.rows = self.table.schema.names, self.table.num_rows

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        return iter(self.table.select(names).to_batches(1024))

    def image(self, row: int) -> dict | bytes:
        return self.table.column("image")[row].as_py()


def open_shard(path: Path) -> Shard:
    """Raises FileNotFoundError or another OSError, and pyarrow.ArrowException for a file that is neither."""
    return _open_version(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> Shard:
    return _Parquet(path) if path.suffix == ".parquet" else _Arrow(path)
