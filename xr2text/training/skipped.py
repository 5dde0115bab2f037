"""The radiographs that a run skips: unreadable ones, and those without a report."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import Subset
from tqdm.auto import tqdm

from xr2text.data.dataset import ReportDataset
from xr2text.data.study import DataError, UnreadableImageError
from xr2text.files import atomic_write

FILE = "skipped.csv"
NAMED = 20  # studies named in the log at a time


class Skipped:
    """The radiographs that a run skips. They are listed in `FILE`, and up to `NAMED` of each time in the log; too many
    are an error. Saved with the run's state.

    Args:
        fraction: of the training radiographs, that may be skipped.
    """

    def __init__(self, data: ReportDataset, fraction: float):
        self.data, self.fraction = data, fraction
        self.total = len(data) + len(data.examples.empty)
        self.most = int(fraction * self.total)
        self.reasons: dict[tuple[str, str], None] = {}  # study and reason, in the order of their discovery

    def add_empty(self) -> None:
        """Adds the studies without a report. Raises DataError as `add` does."""
        self._add([(study, "it has no report") for study in self.data.examples.empty])

    def add(self, skipped: dict[int, str]) -> None:
        """Adds skipped examples (index: reason).

        Raises:
            DataError: more than the configured fraction is skipped.
        """
        self._add([(self.data.examples[index][0].id, reason) for index, reason in skipped.items()])

    def gather(self, output: Path) -> None:
        """Shares the list among all processes, which call this together, and writes it. Raises DataError as `add`
        does."""
        self._add(pair for reasons in gather_object([list(self.reasons)]) for pair in reasons)
        if PartialState().is_main_process and self.reasons:
            with atomic_write(output / FILE) as draft, draft.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("study", "reason"), *self.reasons])

    def summary(self, output: Path) -> str:
        """A sentence for the end of the run."""
        return f"{len(self.reasons):,} of {self.total:,} training radiographs were skipped: {output / FILE}"

    def _add(self, found: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in found if pair not in self.reasons]
        for study, reason in new[:NAMED]:
            tqdm.write(f"skipped: study {study}: {reason}")
        if len(new) > NAMED:
            tqdm.write(f"skipped: {len(new) - NAMED:,} more, see {FILE}")
        self.reasons |= dict.fromkeys(new)
        if len(self.reasons) > self.most:
            raise DataError(
                f"{len(self.reasons):,} of {self.total:,} training radiographs cannot be read or have no report, more "
                f"than data.max_skip_fraction {self.fraction:g}; the last: {': '.join(list(self.reasons)[-1])}; "
                "`xr2text data check` names all"
            )

    def state_dict(self) -> dict:
        return {"reasons": list(self.reasons)}

    def load_state_dict(self, state: dict) -> None:
        self.reasons = dict.fromkeys(state["reasons"])


class SkippingSubset(Subset):
    """The training examples of a stage. The next readable radiograph takes the place of one that cannot be read, so
    that batches keep their size; "skipped" has the reason (index: reason)."""

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
