"""The same work on many items by several processes, which end with the one that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm.auto import tqdm

Item, Result = TypeVar("Item"), TypeVar("Result")
CHUNK = 16  # items that a process takes at a time
MANY_REPORTS = 20_000  # from so many on, all cores read them


def report_readers(count: int) -> int:
    """Processes for work on so many reports, of which each takes about a millisecond."""
    return (os.cpu_count() or 1) if count >= MANY_REPORTS else 1


def on_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    label: str,
    progress: bool,
    unit: str = "image",
) -> Iterator[Result]:
    """The results in the items' order, with a progress bar.

    Args:
        work: a function of a module, or a `functools.partial` of one.
        processes: 1: in this process itself.
    """
    bar = tqdm(total=len(items), desc=label, unit=unit, disable=not progress, dynamic_ncols=True, mininterval=2)
    with bar:
        if processes <= 1 or len(items) <= CHUNK:
            for item in items:
                yield work(item)
                bar.update()
            return
        # Spawned, since a fork of a process with threads (OpenCV's, PyTorch's) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _leave_with_parent) as pool:
            try:
                for result in pool.map(work, items, chunksize=CHUNK):
                    yield result
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    """A worker whose parent was killed would else wait for ever for its next items."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
