"""A Hugging Face dataset with the images inside, such as itsanmolgupta/mimic-cxr-dataset.

ROOT    its id on the Hub, a folder with its *.parquet or *.arrow files, or one such file
Columns image (bytes of an image file), findings, impression; if there: id or study_id, subject_id, split.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from xr2text.config import DataConfig
from xr2text.data.shards import Shard, open_shard
from xr2text.data.sources.layout import hashed_split
from xr2text.data.study import DataError, Faults, Study, TableImage
from xr2text.data.tables import require_columns, text_value
from xr2text.text.sections import clean_section

REQUIRED = ("image", "findings", "impression")
_READ = ("findings", "impression", "id", "study_id", "subject_id", "split")
_SPLITS = {"train": "train", "validation": "val", "validate": "val", "valid": "val", "val": "val", "test": "test"}


def hub_studies(root: Path, config: DataConfig, faults: Faults) -> Iterator[Study]:
    """A study for each row, in the rows' order.

    The split is, by what the table has: its column `split` · the patients', hashed, where it has `subject_id` ·
    a fixed shuffle of the rows, the first 80 % for training, the next 10 % for validation.
    """
    shards = {file: _open(file) for file in _files(root)}
    total, number = sum(shard.rows for shard in shards.values()), 0
    split_of = _split(next(iter(shards.values())).names, total, faults)
    for file, shard in shards.items():
        for place, record in enumerate(shard.records([name for name in _READ if name in shard.names])):
            row = {name: text_value(record.get(name), f"{file}, row {place}", name) for name in _READ}
            name = row["id"] or row["study_id"] or f"row-{number:0{len(str(total))}d}"
            yield Study(
                name, row["subject_id"] or name, (TableImage(file, row=place),),
                clean_section(row["findings"]), clean_section(row["impression"]), split_of(row, number),
                row["findings"],
            )  # fmt: skip
            number += 1


def shuffled_splits(count: int) -> list[str]:
    """The splits of `count` rows by a fixed shuffle, 80 / 10 / 10 %, exact: of 30,633 rows 24,506, 3,063 and 3,064."""
    order = np.random.default_rng(0).permutation(count)
    train, val = int(0.8 * count), int(0.1 * count)
    splits = np.full(count, "test", dtype=object)
    splits[order[:train]], splits[order[train : train + val]] = "train", "val"
    return splits.tolist()


def _split(names: list[str], total: int, faults: Faults) -> Callable[[dict, int], str]:
    """A function from a row and its number to its split."""
    if "split" in names:

        def named(row: dict, _: int) -> str:
            split = _SPLITS.get(row["split"].lower())
            if split is None:
                faults.add("bad entry", f"split is {row['split']!r}; accepted: {', '.join(_SPLITS)}")
            return split or "train"

        return named
    if "subject_id" in names:
        return lambda row, _: hashed_split(row["subject_id"])
    shuffled = shuffled_splits(total)
    return lambda _, number: shuffled[number]


def _open(file: Path) -> Shard:
    try:
        shard = open_shard(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} is not a {file.suffix[1:]} file: {error}") from error
    require_columns(file, shard.names, REQUIRED)
    kind = shard.types["image"]
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise DataError(f"{file}, row 0: column 'image' is of type {kind}; accepted: the bytes of an image file")
    return shard


def _files(root: Path) -> list[Path]:
    """The table's files: a single file, those of a folder, or those of a dataset on the Hub, fetched once into its
    cache."""
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
