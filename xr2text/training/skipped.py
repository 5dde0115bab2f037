"""Training radiographs that a run skips: those that cannot be read, and those without a report."""

import csv
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import Subset
from tqdm.auto import tqdm

from xr2text.data.dataset import ReportDataset
from xr2text.data.study import DataError, UnreadableImageError
from xr2text.files import atomic_write

FILE = "skipped.csv"
NAMED = 20  # at a time


class Skipped:
    """What a run skips: each named once in the log, all listed in `FILE`, too many an error.

    It is saved with the run's state, so that a resumed run knows of it.

    Args:
        fraction: of the training radiographs, that may be skipped.
    """

    def __init__(self, data: ReportDataset, fraction: float):
        self.data, self.fraction = data, fraction
        self.total = len(data) + len(data.examples.empty)
        self.studies: dict[str, str] = {}  # reason, which names the file: study

    @property
    def most(self) -> int:
        """So many may be skipped."""
        return int(self.fraction * self.total)

    def add_empty(self) -> None:
        """The studies without a report. Raises DataError as `add` does."""
        self._add({f"study {name} has no report": name for name in self.data.examples.empty})

    def add(self, skipped: dict[int, str]) -> None:
        """Those that a batch's examples stand in for (index: reason).

        Raises:
            DataError: more than the configured fraction is skipped.
        """
        self._add({reason: self.data.examples[index][0].id for index, reason in skipped.items()})

    def _add(self, studies: dict[str, str]) -> None:
        new = {reason: name for reason, name in studies.items() if reason not in self.studies}
        for reason, name in list(new.items())[:NAMED]:
            tqdm.write(f"skipped: study {name}: {reason}")
        if len(new) > NAMED:
            tqdm.write(f"skipped: {len(new) - NAMED:,} more, see {FILE}")
        self.studies |= new
        if len(self.studies) > self.most:
            raise DataError(
                f"{len(self.studies):,} of {self.total:,} training radiographs cannot be read or have no report, more "
                f"than data.max_skip_fraction {self.fraction:g}; the last: {list(self.studies)[-1]}; "
                "`xr2text data check` names all"
            )

    def gather(self, output: Path) -> None:
        """Makes it known to all processes and writes the list; to be called by all together. Raises as `add` does."""
        for studies in gather_object([self.studies]):
            self._add(studies)
        if PartialState().is_main_process and self.studies:
            with atomic_write(output / FILE) as draft, draft.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["study", "reason"])
                table.writerows((name, reason) for reason, name in self.studies.items())

    def summary(self, output: Path) -> str:
        """A sentence for the end of a run, "" where nothing was skipped."""
        count = len(self.studies)
        return f"{count:,} of {self.total:,} training radiographs were skipped: {output / FILE}" if count else ""

    def state_dict(self) -> dict:
        return dict(self.studies)

    def load_state_dict(self, state: dict) -> None:
        self.studies |= state


class SkippingSubset(Subset):
    """A stage's share of the training examples. For one that cannot be read the next one that can stands in, so that
    batches keep their size, and "skipped" says why (index: reason)."""

    def __init__(self, data: ReportDataset, indices: Sequence[int], skipped: Skipped):
        super().__init__(data, indices)
        self.skipped = skipped

    def __getitem__(self, place: int) -> dict:
        skipped: dict[int, str] = {}
        for step in range(min(self.skipped.most + 1, len(self.indices))):
            index = self.indices[(place + step) % len(self.indices)]
            try:
                return self.dataset[index] | {"skipped": skipped}
            except UnreadableImageError as error:
                skipped[index] = str(error)
        raise DataError(f"{len(skipped):,} training radiographs in a row cannot be read, the last: {skipped[index]}")

    def __getitems__(self, places: list[int]) -> list[dict]:
        return [self[place] for place in places]
