"""What all benchmarks share: the line that says where something was measured, timing, and writing the result."""

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import torch

from xr2text.data.tables import read_table
from xr2text.parallel import usable_cores

CHECKPOINT = "checkpoints/xr2text-iu"
BUSY = "while True: pass"


def machine(device: str = "cpu") -> str:
    """A line with the device, the version of PyTorch and the date."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{usable_cores()} CPU cores ({platform.machine()})"
    return f"{where}, PyTorch {torch.__version__}, {date.today()}"


def seconds(call: Callable[[], object]) -> float:
    """The duration of a call in seconds, with the work that it gives to a GPU."""
    _wait()
    started = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - started


def median_seconds(call: Callable[[], object], count: int) -> float:
    """The median duration in seconds of `count` calls, after one that is not counted."""
    call()
    return statistics.median(seconds(call) for _ in range(count))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keeps `count` processes busy on a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def publish(title: str, text: str, out: Path | None) -> None:
    """Prints the result and, where `out` names a file, writes it there."""
    print(text)
    if out is not None:
        out.write_text(f"# {title}\n\n{text}\n", encoding="utf-8")


def frontal_files(root: Path, count: int) -> list[Path]:
    """`count` frontal radiographs of the Indiana collection, taken at equal steps; repeated where it has fewer."""
    table = read_table(root / "indiana_projections.csv", ("projection", "filename"))
    files = [root / "images" / name for name in table.loc[table["projection"] == "Frontal", "filename"]]
    files = [file for file in files[:: max(1, len(files) // count)] if file.is_file()]
    return [files[number % len(files)] for number in range(count)]
