"""Training radiographs that a run leaves out: those that cannot be read, and those without a report."""

import csv
from collections.abc import Iterator
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import Subset
from tqdm.auto import tqdm

from xr2text.data.dataset import ReportDataset
from xr2text.data.study import DataError, UnreadableImageError
from xr2text.files import atomic_write
from xr2text.training.state import Progress

FILE = "left_out.csv"
NAMED = 20  # of those without a report, which are all known at the start


class StageExamples(Subset):
    """A stage's share of the training examples. One that cannot be read is told of as "bad" (index: reason), and the
    next one of the stage that can be takes its place: batches keep their size, the same in a resumed run.

    Args:
        most: so many in a row are passed over.
    """

    def __init__(self, data: ReportDataset, indices, most: int):
        super().__init__(data, indices)
        self.most = most

    def __getitem__(self, place: int) -> dict:
        bad: dict[int, str] = {}
        for index in self._from(place):
            try:
                return self.dataset[index] | {"bad": bad}
            except UnreadableImageError as error:
                bad[index] = str(error)
        raise DataError(f"{len(bad):,} training radiographs after another cannot be read, the last: {bad.popitem()[1]}")

    def __getitems__(self, places: list[int]) -> list[dict]:
        return [self[place] for place in places]

    def _from(self, place: int) -> Iterator[int]:
        for step in range(min(self.most + 1, len(self.indices))):
            yield self.indices[(place + step) % len(self.indices)]


class LeftOut:
    """What a run leaves out: each named once in the log, all listed in `FILE`, too many an error.

    It is kept in `progress`, so that a resumed run knows of it.
    """

    def __init__(self, data: ReportDataset, share: float, progress: Progress, accelerator: Accelerator):
        self.data, self.share, self.progress, self.accelerator = data, share, progress, accelerator
        self.total = len(data) + len(data.examples.empty)

    @property
    def most(self) -> int:
        """So many may be left out."""
        return int(self.share * self.total)

    def add_empty(self) -> None:
        """The studies without a report. Raises DataError as `add` does."""
        before = len(self.progress.left_out)
        self.progress.left_out |= {f"study {name} has no report": name for name in self.data.examples.empty}
        if self.accelerator.is_main_process and len(self.progress.left_out) > before:
            for name in self.data.examples.empty[:NAMED]:
                tqdm.write(f"left out: study {name} has no report")
            if len(self.data.examples.empty) > NAMED:
                tqdm.write(f"left out: {len(self.data.examples.empty) - NAMED:,} more studies without a report")
        self._check()

    def add(self, bad: dict[int, str]) -> None:
        """What a batch's examples tell of.

        Raises:
            DataError: more than the configured share is bad.
        """
        for index, reason in bad.items():
            if reason not in self.progress.left_out:
                name = self.data.examples[index][0].id
                self.progress.left_out[reason] = name
                tqdm.write(f"left out: study {name}: {reason}")
        if bad:
            self._check()

    def gather(self, output: Path) -> None:
        """Makes it known to all processes and writes the list; to be called by all together. Raises as `add` does."""
        for one in gather_object([self.progress.left_out]):
            self.progress.left_out |= one
        if self.accelerator.is_main_process and self.progress.left_out:
            with atomic_write(output / FILE) as draft, draft.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["study", "reason"])
                table.writerows((name, reason) for reason, name in self.progress.left_out.items())
        self._check()

    def summary(self, output: Path) -> str:
        """A sentence for the end of a run, "" where nothing was left out."""
        count = len(self.progress.left_out)
        return f"{count:,} of {self.total:,} training radiographs were left out: {output / FILE}" if count else ""

    def _check(self) -> None:
        count = len(self.progress.left_out)
        if count > self.most:
            last = list(self.progress.left_out)[-1]
            raise DataError(
                f"{count:,} of {self.total:,} training radiographs cannot be read or have no report, more than "
                f"data.max_bad_share {self.share:g}; the last: {last}; `python -m xr2text data check` names all"
            )
