"""Many radiographs through the command `report`: how many per second, and whether its memory stays flat.

    python -m benchmarks.report_load --root data/iu_xray --out benchmarks/report_load.md

Also measures a single radiograph, from a cold process to written files.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, frontal_files, machine, publish

WAYS = {"off": ("--no-overlay",), "on": ()}  # of the overlays
BATCH = 8  # radiographs that the command gives the model together
PARTS = 5  # the memory is read after each of so many parts of the radiographs


def report(files: list[Path], out: Path, checkpoint: str, overlays: str) -> tuple[list[float], list[float], float]:
    """Runs the command `report`.

    Returns:
        seconds from its start to the first, the second, ... written report; memory after each part, MiB; seconds whole.
    """
    command = [sys.executable, "-m", "xr2text", "report", *map(str, files), "--out", str(out), "--checkpoint",
               checkpoint, "--force", *WAYS[overlays]]  # fmt: skip
    started = time.monotonic()
    with (out.parent / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    watched, times, memory, used = psutil.Process(process.pid), [], [], 0.0
    with tqdm(total=len(files), desc=f"overlays {overlays}") as bar:
        ended = False
        while not ended:
            used = watched.memory_info().rss / 2**20 or used  # 0 of a process that has just ended
            ended = process.poll() is not None  # asked before counting, so that the last reports are counted
            written = sum(not folder.name.startswith(".") for folder in out.iterdir()) if out.is_dir() else 0
            times += [time.monotonic() - started] * (written - len(times))
            if written > bar.n:
                bar.update(written - bar.n)
            if len(memory) < written * PARTS // len(files):
                memory.append(used)
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit((out.parent / "log.txt").read_text()[-2000:])
    return times, memory, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the Indiana collection's folder")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=500, help="radiographs")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args()
    files = frontal_files(args.root, args.count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold = statistics.median(report(files[:1], folder / f"{k}", args.checkpoint, "on")[2] for k in range(3))
        lines = []
        for overlays in WAYS:
            times, memory, whole = report(files, folder / overlays, args.checkpoint, overlays)
            first = min(BATCH, len(times) - 1)  # from the first batch on: loading is no part of the rate
            rate = (len(times) - first) / max(times[-1] - times[first - 1], 1e-9)
            used = ", ".join(f"{size:.0f}" for size in memory)
            lines.append(f"| {overlays} | {rate:.1f} | {len(files) / whole:.1f} | {used} |")
    text = "\n".join([
        f"**{cold:.1f} s from a cold process to the written files of one radiograph, with overlays.**",
        "",
        f"{args.count} radiographs of the Indiana collection; {machine()}.",
        "",
        f"| overlays | radiographs per second | with loading | memory after each of {PARTS} parts, MiB |",
        "|---|---:|---:|---|",
        *lines,
    ])  # fmt: skip
    publish("Many radiographs through the command `report`", text, args.out)


if __name__ == "__main__":
    main()
