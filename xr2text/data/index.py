"""The studies of a source as an Arrow file that is mapped, not loaded: processes and their workers share its pages.

    FOLDER/index-0a1b....arrow    a row for each study, the splits one after the other; its name says of which settings
                                  and tables it was made

Letters: N studies, F names of labels.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xr2text.config import DataConfig
from xr2text.data.curriculum import SEVERITIES, Difficulty, measure_difficulty
from xr2text.data.parallel import on_each, report_readers
from xr2text.data.sources import FRONTAL, SPLITS, DataError, ImageFile, Study, load_studies
from xr2text.data.sources.hub import TableImage
from xr2text.files import atomic_write

VERSION = 1  # of the file's columns and of what the readers make of a source
UNKNOWN = -2  # a label of which nothing is known
ROWS = 4096  # studies that are written at a time
_TEXT = ("id", "patient", "findings", "impression", "indication", "comparison", "split", "source_findings")
_TABLES = ("*.csv", "*.csv.gz", "*.json", "*.jsonl", "*.zip", "*.parquet", "*.arrow", "*/*.parquet", "*/*.arrow",
           "*.xml", "ecgen-radiology/*.xml")  # fmt: skip


class StudyTable(Sequence):
    """Rows `start` to `stop` of an index; a study is built when it is asked for.

    It is handed to another process by its place, not its contents.
    """

    def __init__(self, path: Path, start: int, stop: int):
        self._place = (path, start, stop)
        try:
            self._whole = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except pa.ArrowInvalid as error:
            raise DataError(f"{path} is damaged: {error}; remove it, and it is made anew") from error
        self._table = self._whole.slice(start, stop - start)
        about = json.loads(self._whole.schema.metadata[b"xr2text"])
        self.label_names: list[str] = about["labels"]

    def __reduce__(self):
        return StudyTable, self._place

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Study:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._study(self._table.slice(int(index) % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Study]:
        for batch in self._table.to_batches(ROWS):
            yield from map(self._study, batch.to_pylist())

    def _study(self, row: dict) -> Study:
        images = tuple(
            ImageFile(Path(one["path"]), one["view"]) if one["row"] is None
            else TableImage(Path(one["path"]), one["row"], one["view"])
            for one in row["images"]
        )  # fmt: skip
        labels = {name: value for name, value in zip(self.label_names, row["labels"], strict=True) if value != UNKNOWN}
        masks = tuple(map(Path, row["masks"])) if row["masks"] else None
        return Study(**{name: row[name] for name in _TEXT}, images=images, labels=labels, masks=masks)

    def labels(self) -> np.ndarray:
        """[N, F] int8, UNKNOWN where nothing is known."""
        flat = pc.list_flatten(self._table.column("labels")).to_numpy()
        return flat.reshape(len(self), len(self.label_names))

    def text_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """[N] characters of the findings, and of the impression."""
        return tuple(
            pc.utf8_length(self._table.column(name)).to_numpy().astype(np.int64) for name in ("findings", "impression")
        )

    def masked(self) -> np.ndarray:
        """[N] bool, the studies with outlined regions."""
        return pc.greater(pc.list_value_length(self._table.column("masks")), 0).to_numpy(zero_copy_only=False)

    def views(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each image in turn: its study, its place in it, and 1 for frontal, -1 for lateral, 0 where unknown."""
        studies, places, views, first = [], [], [], 0
        for images in self._table.column("images").chunks:
            counts = pc.list_value_length(images).to_numpy()
            view = pc.struct_field(pc.list_flatten(images), "view")
            known = pc.fill_null(pc.if_else(pc.equal(view, FRONTAL), 1, -1), 0)
            studies.append(first + np.repeat(np.arange(len(images)), counts))
            places.append(np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))
            views.append(known.to_numpy(zero_copy_only=False))
            first += len(images)
        empty = [np.zeros(0, np.int64)]  # of a split without studies
        return tuple(np.concatenate(one or empty) for one in (studies, places, views))

    def difficulties(self) -> list[Difficulty]:
        """Of each study, as measured when the index was made."""
        columns = [self._table.column(f"difficulty_{name}").to_pylist() for name in ("findings", "regions", "severity")]
        return [
            Difficulty(one, two, SEVERITIES[three] if three >= 0 else None)
            for one, two, three in zip(*columns, strict=True)
        ]

    def ids(self) -> list[str]:
        return self._table.column("id").to_pylist()


def open_studies(config: DataConfig, image_size: int, anew: bool = False) -> dict[str, Sequence[Study]]:
    """Studies by split, as `load_studies` gives them; from the index where there is a `data.cache`.

    The index is made where there is none of these settings and tables. A change of a single report's file within a
    folder of many is not noticed.

    Args:
        anew: the source is read and the index made in any case.
    """
    if config.cache is None:
        return load_studies(config, image_size)
    path = Path(config.cache) / f"index-{_key(config)}.arrow"
    if anew or not path.is_file():
        write_index(path, load_studies(config, image_size))
    return read_index(path)


def read_index(path: Path) -> dict[str, StudyTable]:
    """Maps an index. Raises DataError for a damaged one."""
    try:
        with pa.memory_map(str(path)) as source:
            about = json.loads(pa.ipc.open_file(source).schema.metadata[b"xr2text"])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}; remove it, and it is made anew") from error
    return {split: StudyTable(path, start, stop) for split, (start, stop) in about["splits"].items()}


def write_index(path: Path, splits: dict[str, Sequence[Study]], names: Iterable[str] | None = None) -> None:
    """Writes an index whole, or not at all.

    Args:
        splits: studies of files; phantoms have none.
        names: of all labels; None: they are looked for in every study.
    """
    if names is None:
        names = sorted(set().union(*(study.labels for studies in splits.values() for study in studies)))
    names, start, bounds = list(names), 0, {}
    for split in SPLITS:
        bounds[split] = (start, start + len(splits[split]))
        start = bounds[split][1]
    about = json.dumps({"version": VERSION, "labels": names, "splits": bounds})
    image = pa.struct([("path", pa.string()), ("row", pa.int64()), ("view", pa.string())])
    schema = pa.schema(
        [
            *((name, pa.string()) for name in _TEXT),
            ("images", pa.list_(image)),
            ("labels", pa.list_(pa.int8())),
            ("masks", pa.list_(pa.string())),
            *((f"difficulty_{name}", pa.int16()) for name in ("findings", "regions", "severity")),
        ],
        metadata={"xr2text": about},
    )
    with atomic_write(path) as draft, pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for split in SPLITS:
            reports, processes = [study.report for study in splits[split]], report_readers(len(splits[split]))
            difficulties = on_each(measure_difficulty, reports, processes, "measuring", processes > 1, "report")
            pairs = zip(splits[split], difficulties, strict=True)
            while rows := [_row(study, names, difficulty) for study, difficulty in islice(pairs, ROWS)]:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def _row(study: Study, names: Sequence[str], difficulty: Difficulty) -> dict:
    images = [{"path": str(one.path), "row": getattr(one, "row", None), "view": one.view} for one in study.images]
    return {
        **{name: getattr(study, name) for name in _TEXT},
        "images": images,
        "labels": [study.labels.get(name, UNKNOWN) for name in names],
        "masks": [str(mask) for mask in study.masks or ()],
        "difficulty_findings": difficulty.findings,
        "difficulty_regions": difficulty.regions,
        "difficulty_severity": -1 if difficulty.severity is None else SEVERITIES.index(difficulty.severity),
    }


def _key(config: DataConfig) -> str:
    """A digest of what the index depends on: settings of the source, and versions of its tables."""
    unused = ("workers", "keep_in_memory", "cache", "max_bad_share", "mask_repeats", "phantom_train", "phantom_val")
    settings = {name: value for name, value in asdict(config).items() if name not in unused}
    files = [Path(one) for one in (config.split_file, config.films and f"{config.films}/labels.csv") if one]
    if config.region_masks is not None:
        files += sorted(Path(config.region_masks).glob("images/*"))
    root = Path(config.root or "")
    files += [root] if root.is_file() else [file for pattern in _TABLES for file in sorted(root.glob(pattern))]
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(json.dumps([VERSION, settings, stamps]).encode()).hexdigest()[:16]
