"""How long a report takes, against transformers' VisionEncoderDecoderModel of the same sizes, on a CPU.

    python -m benchmarks.report_speed --root data/iu_xray --out benchmarks/report_speed.md

Both search with the same number of beams and as many steps as our report took. They take turns, radiograph by
radiograph, so that other work on the machine meets both. Each row is a way to use the threads, on free cores and beside
two busy processes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from benchmarks.common import CHECKPOINT, busy_processes, frontal_files, machine, median_seconds, publish, seconds
from benchmarks.models import parameters, search_stock, stock_model
from xr2text.imaging.radiograph import Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.inference.gate import Gate
from xr2text.inference.overlay import make_canvas, paint
from xr2text.inference.reporter import Reporter
from xr2text.model import generate
from xr2text.model.checkpoint import Checkpoint

LOADING = """
import sys, time
from xr2text.inference.reporter import Reporter
started = time.perf_counter()
Reporter.from_pretrained(sys.argv[1], "cpu")
print(time.perf_counter() - started)
"""
BATCH = 8
THREADS = {  # name: (threads, whether the decoder's steps use one all the same)
    "one thread": (1, True),
    "two threads, the decoder's steps on one (as it ships)": (2, True),
    "two threads throughout": (2, False),
}


def loading_seconds(checkpoint: str) -> float:
    """Median loading time of three processes, without imports."""
    command = [sys.executable, "-c", LOADING, checkpoint]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    return statistics.median(float(run.splitlines()[-1]) for run in runs)


class Contest:
    """Our checkpoint and the stock model, and the images that both see."""

    def __init__(self, checkpoint: str, radiographs: list[Radiograph]):
        self.checkpoint, self.gate, self.radiographs = Checkpoint.from_pretrained(checkpoint), Gate.load(), radiographs
        model = self.checkpoint.model
        self.stock = stock_model(model.config, "cpu", len(self.checkpoint.tokenizer)).eval()
        self.images = torch.stack([model.transform(radiograph)[0] for radiograph in radiographs])  # [N, 3, S, S]
        self.beams = self.checkpoint.generation.num_beams

    def write(self, images: torch.Tensor) -> int:
        """Writes reports with our model. Returns the number of tokens of the longest."""
        return self.checkpoint.generator.generate(images).token_ids.shape[1]

    def write_stock(self, images: torch.Tensor, tokens: int) -> None:
        search_stock(self.stock, images, self.beams, tokens)

    def drawer(self, threads: int) -> Callable[[Radiograph], object]:
        """A function of a radiograph: gate, report, attribution and the picture of the overlays. Sets the number of
        threads."""
        torch.set_num_threads(threads)
        reporter = Reporter(self.checkpoint, "cpu", self.gate)
        return lambda radiograph: paint(make_canvas(reporter.report(radiograph, force=True)))

    def row(self, name: str, count: int) -> tuple[str, float]:
        """Medians over `count` radiographs, and that of a report with its overlays."""
        threads, single = THREADS[name]
        taken: dict[str, list[float]] = {"ours": [], "stock": [], "overlays": []}
        draw = self.drawer(threads)
        with nullcontext() if single else mock.patch.object(generate, "one_thread", lambda device: nullcontext()):
            for radiograph, image in zip(self.radiographs[:count], self.images.split(1), strict=False):
                started = time.perf_counter()
                tokens = self.write(image)
                taken["ours"].append(time.perf_counter() - started)
                taken["stock"].append(seconds(partial(self.write_stock, image, tokens)))
                taken["overlays"].append(seconds(partial(draw, radiograph)))
        ours, stock, overlays = (statistics.median(values) for values in taken.values())
        cells = (ours, stock, stock / ours, overlays, max(taken["overlays"]))
        return " | ".join(f"{value:.2f}" for value in cells), overlays

    def batches(self) -> str:
        """Reports per second in batches, ours and the stock model's."""
        torch.set_num_threads(2)
        images = self.images[:BATCH]
        tokens = self.write(images)
        ours = len(images) / median_seconds(lambda: self.write(images), 3)
        stock = len(images) / median_seconds(lambda: self.write_stock(images, tokens), 3)
        return (
            f"In batches of {len(images)}, without overlays: {ours:.1f} reports per second, the stock model "
            f"{stock:.1f} ({ours / stock:.2f} times)."
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the Indiana collection's folder")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=20, help="radiographs on free cores")
    parser.add_argument("--loaded-count", type=int, default=2, help="radiographs beside busy processes")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    contest = Contest(args.checkpoint, [read_radiograph(file) for file in frontal_files(args.root, args.count)])
    draw = contest.drawer(2)
    first = seconds(lambda: draw(contest.radiographs[0]))
    lines, overlays = [], {}
    for load, count in ((0, args.count), (2, args.loaded_count)):
        for name in THREADS:
            with busy_processes(load):
                cells, overlays[load, name] = contest.row(name, count)
            lines.append(f"| {name} | {'two busy processes' if load else 'free'} | {cells} |")
    shipped = next(name for name in THREADS if "ships" in name)
    text = "\n".join([
        f"**A report with its overlays: {overlays[0, shipped]:.2f} s on free cores, "
        f"{overlays[2, shipped] / overlays[0, shipped]:.1f} times as long beside two busy processes.** Loading takes "
        f"{loading_seconds(args.checkpoint):.2f} s, the first report {first:.2f} s.",
        "",
        f"{contest.checkpoint.name}, beam {contest.beams}; {parameters(contest.checkpoint.model) / 1e6:.1f} M "
        f"parameters against {parameters(contest.stock) / 1e6:.1f} M; {args.count} radiographs on free cores, "
        f"{args.loaded_count} beside busy processes; {machine()}.",
        "",
        "| threads | cores | report, s | stock, s | times as fast | report with overlays, s | the slowest |",
        "|---|---|---:|---:|---:|---:|---:|",
        *lines, "", contest.batches(),
    ])  # fmt: skip
    publish("How long a report takes", text, args.out)


if __name__ == "__main__":
    main()
