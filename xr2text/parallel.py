"""Work shared by several processes, which end with the process that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

CHUNK = 16  # items that a process takes at a time


def usable_cores() -> int:
    """The number of cores that this process may use; `taskset` restricts it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_map(processes: int) -> Iterator[Callable[..., Iterator]]:
    """`map` shared by `processes` processes; results keep the items' order."""
    if processes <= 1:
        yield map
        return
    # Spawned, since a fork of a process with threads (OpenCV's, PyTorch's) may hang.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _leave_with_parent) as pool:
        try:
            yield partial(pool.map, chunksize=CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    """Ends a worker when its parent is killed; otherwise it would wait for ever for its next items."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
