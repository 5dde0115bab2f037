"""Studies as the rows of a Hugging Face dataset, in memory or mapped from an Arrow file whose pages processes share.

Shapes: N studies, F findings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from xr2text.data.curriculum import Difficulty, read_labels, read_report
from xr2text.data.study import SPLITS, DataError, Image, ImageFile, PhantomImage, Study, TableImage
from xr2text.files import atomic_write
from xr2text.parallel import usable_cores, worker_map
from xr2text.text.findings.table import FINDING_NAMES, SIDED_FINDINGS

BATCH = 4096  # studies that are read and written at a time
MANY = 20_000  # from this many studies on, reports are read on all cores; each takes about a millisecond
_TEXT = ("id", "patient", "findings", "impression", "split", "source_findings")
_IMAGE = pa.struct(
    [("path", pa.string()), ("row", pa.int64()), ("seed", pa.int64()), ("size", pa.int64()), ("view", pa.string())]
)


class StudyTable(Sequence[Study]):
    """Some rows of a dataset of studies; a study is built when it is asked for.

    Attributes:
        dataset: as `write_studies` makes it.
        rows: [N] int64, of the dataset.
    """

    def __init__(self, dataset: Dataset, rows: np.ndarray | None = None):
        self.dataset, self.rows = dataset, np.arange(len(dataset)) if rows is None else np.asarray(rows, np.int64)

    @classmethod
    def of(cls, studies: Iterable[Study], label_reports: bool = False) -> "StudyTable":
        """A table in memory, see `write_studies`."""
        sink = pa.BufferOutputStream()
        write_studies(studies, sink, label_reports)
        return cls(Dataset.from_buffer(sink.getvalue()))

    @classmethod
    def open(cls, path: Path) -> "StudyTable":
        """Maps a file that `write_studies` made. Raises DataError for a damaged one."""
        try:
            return cls(Dataset.from_file(str(path)))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged: {error}; remove it, and it is made anew") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Study:
        return _study(self.dataset[int(self.rows[index])])

    def __iter__(self) -> Iterator[Study]:
        for start in range(0, len(self), BATCH):
            batch = self.dataset[self.rows[start : start + BATCH]]
            for values in zip(*batch.values(), strict=True):
                yield _study(dict(zip(batch, values, strict=True)))

    def select(self, indices: Sequence[int] | np.ndarray) -> "StudyTable":
        """Some of the studies, by their places or by a mask [N]."""
        return StudyTable(self.dataset, self.rows[indices])

    def by_split(self) -> dict[str, "StudyTable"]:
        names = self.column("split").to_numpy()
        return {split: self.select(np.flatnonzero(names == split)) for split in SPLITS}

    def column(self, name: str, measure: Callable[[pa.ChunkedArray], Any] = lambda values: values) -> pa.ChunkedArray:
        """[N] values of a column, or what `measure`, which works value by value, makes of them."""
        return measure(self.dataset.data.column(name)).take(pa.array(self.rows))

    def ids(self) -> list[str]:
        return self.column("id").to_pylist()

    def text_lengths(self, name: str) -> np.ndarray:
        """[N] characters of a section."""
        return self.column(name, pc.utf8_length).to_numpy()

    def masked(self) -> np.ndarray:
        """[N] bool, the studies whose organs are outlined."""
        return self.column("masks", pc.is_valid).to_numpy()

    def difficulty(self) -> np.ndarray:
        """[N, 2] int, the `Difficulty` of each report."""
        return np.stack([self.column(f"abnormal_{name}").to_numpy() for name in Difficulty._fields], 1)

    def labels(self, findings: Iterable[str]) -> np.ndarray:
        """[N, F] float32: 1 present, 0 absent, -1 uncertain, NaN where nothing is known."""
        labels = np.full((len(self), len(findings := list(findings))), np.nan, np.float32)
        known = self.dataset.features["labels"]
        for place, name in enumerate(findings):
            if name in known:
                labels[:, place] = self.column("labels", partial(pc.struct_field, indices=name)).to_numpy()
        return labels

    @property
    def label_names(self) -> list[str]:
        """Every finding whose label is known in at least one study."""
        names = list(self.dataset.features["labels"])
        return [name for name, unknown in zip(names, np.isnan(self.labels(names)).all(0), strict=True) if not unknown]


def write_studies(studies: Iterable[Study], sink: Any, label_reports: bool = False) -> None:
    """Writes a table batch by batch, so that a data set of any size is read in little memory.

    Args:
        sink: what pyarrow writes an Arrow stream to.
        label_reports: a study with a report is labelled as `text.findings` reads it; what it does not mention is
            absent. False: labels are the studies' own, whose names are collected before anything is written.
    """
    names = (*FINDING_NAMES, *SIDED_FINDINGS)
    if not label_reports:
        studies = list(studies)
        names = sorted(set().union(*(study.labels for study in studies)))
    schema = pa.schema([
        *((name, pa.string()) for name in _TEXT),
        ("images", pa.list_(_IMAGE)),
        ("frontal", pa.list_(pa.int64())),  # their places among the images
        ("labels", pa.struct([(name, pa.int8()) for name in names])),
        ("masks", pa.list_(pa.string())),
        ("abnormal_findings", pa.int16()),
        ("abnormal_regions", pa.int16()),
    ])  # fmt: skip
    studies = iter(studies)
    first = list(islice(studies, MANY))
    studies = chain(first, studies)
    with (
        worker_map(usable_cores() if len(first) == MANY else 1) as each,
        pa.ipc.new_stream(sink, schema) as writer,
    ):
        while batch := list(islice(studies, BATCH)):
            readings = each(partial(read_report, label=label_reports), [study.report for study in batch])
            rows = [_row(study, *reading) for study, reading in zip(batch, readings, strict=True)]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def save_studies(path: Path, studies: Iterable[Study], label_reports: bool = False) -> None:
    """As `write_studies`, to a file that is whole or not there."""
    with atomic_write(path) as draft, pa.OSFile(str(draft), "wb") as sink:
        write_studies(studies, sink, label_reports)


def _row(study: Study, labels: dict[str, int], difficulty: Difficulty) -> dict[str, Any]:
    images = [asdict(image) for image in study.images]
    if not (study.findings or study.impression):
        difficulty = read_labels(study.labels)
    return {
        **{name: getattr(study, name) for name in _TEXT},
        "images": [image | ({"path": str(image["path"])} if "path" in image else {}) for image in images],
        "frontal": study.frontal_places,
        "labels": labels or dict(study.labels),
        "masks": study.masks and [str(mask) for mask in study.masks],
        "abnormal_findings": difficulty.findings,
        "abnormal_regions": difficulty.regions,
    }


def _study(row: dict[str, Any]) -> Study:
    return Study(
        **{name: row[name] for name in _TEXT},
        images=tuple(_image(**image) for image in row["images"]),
        labels={name: value for name, value in row["labels"].items() if value is not None},
        masks=row["masks"] and tuple(map(Path, row["masks"])),
    )


def _image(path: str | None, row: int | None, seed: int | None, size: int | None, view: str | None) -> Image:
    if path is None:
        return PhantomImage(seed, size, view)
    return ImageFile(Path(path), view) if row is None else TableImage(Path(path), view, row)
