"""Parquet and Arrow files whose rows hold images, as Hugging Face datasets are distributed; read without unpacking."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class Shard:
    """A file in groups of rows. Only the group whose images were last read is in memory: reading in order is fast, at
    random slow.

    Attributes:
        names: of the columns.
        types: of the columns, by name.
        rows: their number.
    """

    def __init__(self, path: Path):
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path, memory_map=True)
            schema, self._read = file.schema_arrow, file.read_row_group
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        else:  # an Arrow stream, as `datasets` saves it, or an Arrow file; memory-mapped
            source = pa.memory_map(str(path))
            try:
                table = pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                table = pa.ipc.open_file(source).read_all()
            groups = table.to_batches()
            schema, self._read = table.schema, lambda group, names: groups[group].select(names)
            sizes = list(map(len, groups))
        self.names, self.types = schema.names, dict(zip(schema.names, schema.types, strict=True))
        self._starts = [0, *accumulate(sizes)]
        self.rows, self._group = self._starts[-1], -1

    def records(self, names: list[str]) -> Iterator[dict]:
        """Some columns of each row."""
        for group in range(len(self._starts) - 1):
            yield from self._read(group, names).to_pylist()

    def image(self, row: int) -> dict | bytes:
        """The column `image` of a row."""
        group = bisect_right(self._starts, row) - 1
        if group != self._group:
            self._group, self._images = group, self._read(group, ["image"]).column(0)
        return self._images[row - self._starts[group]].as_py()


def open_shard(path: Path) -> Shard:
    """Raises OSError, and pyarrow.ArrowException for a file that is neither."""
    return _open_version(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_version(path: Path, _: int) -> Shard:
    return Shard(path)
