"""How long a person waits for a report: the model's loading, then reports with their overlays, one film after another.

python -m benchmarks.report_speed data/iu_xray/images --out benchmarks/report_speed.md
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from itertools import islice
from pathlib import Path

import torch
from tqdm.auto import tqdm

from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.inference.gate import PASSES
from xr2text.inference.overlay import make_canvas, paint
from xr2text.inference.reporter import Reporter

STEP = 20  # every so-manyth file, so that the films are of many studies
LOADING = """
import sys, time
from xr2text.inference.reporter import Reporter
started = time.perf_counter()
Reporter.from_pretrained(sys.argv[1], "cpu")
print(time.perf_counter() - started)
"""


def loading_seconds(checkpoint: str, repeats: int) -> list[float]:
    """Of the checkpoint, each time in a process of its own, without the imports of libraries."""
    command = [sys.executable, "-c", LOADING, checkpoint]
    return [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats)]


def report_seconds(reporter: Reporter, films: list[Radiograph]) -> list[float]:
    """From the pixels to a report and the picture of its overlays, 1024 pixels on its longer side."""
    taken = []
    for radiograph in tqdm(films, desc="reports"):
        started = time.perf_counter()
        paint(make_canvas(reporter.report(radiograph)))
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, help="a folder of radiographs")
    parser.add_argument("--checkpoint", default="checkpoints/xr2text-iu")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    reporter = Reporter.from_pretrained(args.checkpoint, "cpu")
    files = sorted(file for file in args.films.iterdir() if file.is_file())
    frontal = (one for one in map(read_radiograph, files[::STEP]) if reporter.gate(one).verdict == PASSES)
    first, *rest = report_seconds(reporter, list(islice(frontal, args.count + 1)))
    loading = statistics.median(loading_seconds(args.checkpoint, 3))
    ordered, settings = sorted(rest), reporter.model.generation
    search = f"the best of {settings.draws} draws" if settings.draws else f"beam {settings.num_beams}"
    text = (
        f"{reporter.model_name}, {search}, {args.threads} threads on "
        f"{os.cpu_count()} cores ({platform.machine()}), PyTorch {torch.__version__}, {date.today()}.\n\n"
        "| | seconds |\n|---|---:|\n"
        f"| loading the checkpoint | {loading:.2f} |\n"
        f"| the first report with its overlays | {first:.2f} |\n"
        f"| the {len(rest)} after it, median | {statistics.median(rest):.2f} |\n"
        f"| of these, the slowest of twenty | {ordered[int(0.95 * (len(rest) - 1))]:.2f} |\n"
    )
    print(text)
    if args.out is not None:
        args.out.write_text(f"# How long a report takes\n\n{text}")


if __name__ == "__main__":
    main()
