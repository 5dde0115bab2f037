"""All measurements that need a GPU, in one command and under eight minutes.

    python -m benchmarks.gpu --out benchmarks/gpu.md
    python -m benchmarks.gpu --out benchmarks/gpu.md --only training stock      # these again; other rows stay
    python -m benchmarks.gpu --size tiny                                        # a trial on a CPU, two minutes

Each row runs in a process of its own under a time limit, and the table is written after each of them. A row that fails,
is too slow or lacks a library says so. Weights are random; nothing is downloaded.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import machine, median_seconds

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WHOLE_SECONDS = 450
UNKNOWN = "not measured"
# Rows import the package only when they run, so that a missing library is lost on its own rows alone.


def training(size: str) -> str:
    from benchmarks.models import sized_config
    from benchmarks.training_speed import measure, our_training

    speed = measure(our_training(sized_config(size), DEVICE))
    return (
        f"{speed.gib}; {speed.studies:.1f} studies per second; {speed.tflops:.3g} TFLOPs per second, {speed.share} of "
        f"the peak; {speed.parameters / 1e6:.1f} M parameters"
    )


def largest_batch(size: str) -> str:
    from benchmarks.models import random_batch, sized_config
    from benchmarks.training_speed import measure, our_training, peak_memory

    config = sized_config(size)
    trained, first = our_training(config, DEVICE), config.training.batch_size
    peaks = []

    def take(batch_size: int) -> None:
        config.training.batch_size, trained.batch = batch_size, {}
        trained.batch = random_batch(config, DEVICE)

    for batch_size in (first, 2 * first):
        take(batch_size)
        trained.update()
        peaks.append(peak_memory(trained))
    whole = 0.95 * torch.cuda.mem_get_info()[1] if DEVICE == "cuda" else 3 * peaks[0]
    largest = int(2 * first + (whole - peaks[1]) / max(1, (peaks[1] - peaks[0]) / first)) // 4 * 4
    while largest > first:
        try:
            take(largest)
            speed = measure(trained, 3)
            return f"batch {largest}: {speed.gib}; {speed.studies:.1f} studies per second"
        except torch.cuda.OutOfMemoryError:
            largest = int(0.9 * largest) // 4 * 4
            torch.cuda.empty_cache()
    return f"none above {first} fits"


def eight_gigabytes(size: str) -> str:
    from benchmarks.models import sized_config
    from benchmarks.training_speed import measure, our_training

    if DEVICE == "cuda":
        torch.cuda.set_per_process_memory_fraction(8 * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    config = sized_config("full on 8 GB" if size == "full" else size)
    speed = measure(our_training(config, DEVICE), 3)
    settings = config.training
    update = f"{settings.batch_size} x {settings.gradient_accumulation_steps} studies per update"
    return f"{speed.gib} under a limit of 8 GiB, {update}; {speed.studies:.1f} studies per second"


def rdrop(size: str) -> str:
    from benchmarks.models import sized_config
    from benchmarks.training_speed import measure, our_training

    said = {}
    for weight in (0.0, 0.5):
        said[weight] = measure(our_training(sized_config(size, f"training.losses.rdrop={weight}"), DEVICE), 5)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    without, with_it = said.values()
    return (
        f"{with_it.peak / without.peak:.2f} times the memory ({without.gib} to {with_it.gib}), "
        f"{with_it.studies / without.studies:.2f} times the speed"
    )


def stock_training(size: str) -> str:
    from benchmarks import training_speed
    from benchmarks.models import sized_config

    config = sized_config(size)
    ours, stock = (
        training_speed.measure(make(config, DEVICE), 5)
        for make in (training_speed.our_training, training_speed.stock_training)
    )
    return (
        f"{ours.studies / stock.studies:.2f} times the studies per second (stock: {stock.studies:.1f}) at "
        f"{ours.peak / stock.peak:.2f} of the memory (stock: {stock.gib}); {ours.parameters / 1e6:.1f} M parameters "
        f"against {stock.parameters / 1e6:.1f} M"
    )


@torch.inference_mode()
def reports(size: str, batch_size: int) -> str:
    """Writes reports of the longest length with 4 beams, without gate and overlays."""
    from benchmarks.models import our_generator, search_stock, sized_config, stock_model

    config = sized_config(size, "generation.num_beams=4")
    batch_size = batch_size if size == "full" else min(2, batch_size)
    precision = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    generator = our_generator(config, DEVICE)
    generator.model.eval().to(precision)
    stock = stock_model(config.model, DEVICE).eval().to(precision)
    side = config.model.image_size
    images = torch.rand(batch_size, 3, side, side, device=DEVICE, dtype=precision)
    ours = median_seconds(partial(generator.generate, images), 1)
    tokens = generator.generate(images[:1]).token_ids.shape[1]
    theirs = median_seconds(partial(search_stock, stock, images, 4, tokens), 1)
    if batch_size == 1:
        return f"{ours:.2f} s per report of {tokens} tokens; {theirs / ours:.2f} times as fast as the stock model"
    return (
        f"{batch_size / ours:.1f} reports per second, {tokens} tokens each, batch {batch_size}; "
        f"{theirs / ours:.2f} times as fast as the stock model"
    )


@torch.inference_mode()
def compact(size: str) -> str:
    """The shipped checkpoint on phantoms, alone and in a batch, and the training of the compact config."""
    from benchmarks.common import CHECKPOINT
    from benchmarks.models import sized_config
    from benchmarks.training_speed import measure, our_training
    from xr2text.model.checkpoint import Checkpoint
    from xr2text.phantom.drawing import draw_phantom

    generator = Checkpoint.from_pretrained(CHECKPOINT).generator
    model = generator.model.eval().to(DEVICE)
    count = 64 if size == "full" else 4
    images = torch.stack([model.transform(draw_phantom(seed, 256).radiograph)[0] for seed in range(count)]).to(DEVICE)
    alone = median_seconds(lambda: generator.generate(images[:1]), 5 if size == "full" else 1)
    batch = median_seconds(lambda: generator.generate(images), 1)
    with torch.inference_mode(False):
        config = sized_config("compact" if size == "full" else "tiny")
        speed = measure(our_training(config, DEVICE), 5)
    return (
        f"{alone:.2f} s per report alone, {count / batch:.1f} reports per second in a batch of {count}; training "
        f"{speed.studies:.0f} studies per second in {speed.gib}"
    )


@dataclass(frozen=True)
class Row:
    """Attributes:
    title, target: as the table shows them.
    limit: seconds after which its process is stopped.
    measure: size -> what was measured, in words.
    """

    title: str
    target: str
    limit: int
    measure: Callable[[str], str]


ROWS = {
    "training": Row("full model, a training step on 32 studies", "28 GiB; 150 studies per second", 75, training),
    "stock": Row("training against the stock loop", "1.5 times as fast, 0.6 of the memory", 75, stock_training),
    "batches": Row("full model, reports in batches, beam 4", "20 per second", 90, partial(reports, batch_size=64)),
    "rdrop": Row("R-Drop, on against off", "1.3 times the memory", 75, rdrop),
    "8gb": Row("full model on an 8 GB card, R-Drop", "7.5 GiB", 150, eight_gigabytes),
    "largest": Row("training, the largest batch that fits", "96 studies in 80 GB", 75, largest_batch),
    "single": Row("full model, one report, beam 4", "none", 60, partial(reports, batch_size=1)),
    "compact": Row("compact model, as it ships", "none", 60, compact),
}  # fmt: skip


def run_row(name: str, size: str) -> None:
    """Runs in the row's process: prints the result as the last line."""
    try:
        text = ROWS[name].measure(size)
    except ModuleNotFoundError as error:
        text = f"{UNKNOWN}: needs {error.name}, which is not installed"
    except torch.cuda.OutOfMemoryError:
        text = "does not fit"
    print(json.dumps(text))


def measured(name: str, size: str, limit: float) -> str:
    """Starts a row's process and waits for it, at most `limit` seconds. Returns its result, or why there is none."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--row", name, "--size", size]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        printed, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that compile kernels
        process.communicate()
        return f"{UNKNOWN}: stopped after {limit:.0f} s"
    if process.returncode:
        print(errors, file=sys.stderr)
        return f"{UNKNOWN}: {(errors.splitlines() or ['its process was killed'])[-1]}"
    return json.loads(printed.splitlines()[-1])


def table(results: dict[str, str], size: str) -> str:
    rows = [f"| {row.title} | {row.target} | {results[name].replace('|', '/')} |" for name, row in ROWS.items()]
    return "\n".join([
        "# On a GPU", "",
        f"`python -m benchmarks.gpu --size {size}`, weights random; {machine(DEVICE)}.", "",
        "| what | target | measured |", "|---|---|---|", *rows, "",
    ])  # fmt: skip


def former_results(file: Path | None) -> dict[str, str]:
    """The results in the table of an earlier call, by row."""
    text = file.read_text() if file is not None and file.is_file() else ""
    known = dict(re.findall(r"^\| (.+?) \| .+? \| (.+) \|$", text, re.MULTILINE))
    return {name: known.get(row.title, UNKNOWN) for name, row in ROWS.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows; others stay as they were")
    parser.add_argument("--out", type=Path, help="also write the table here, after each row")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.row is not None:
        run_row(args.row, args.size)
        return
    started, results = time.monotonic(), former_results(args.out)
    for name in args.only:
        left = WHOLE_SECONDS - (time.monotonic() - started)
        results[name] = measured(name, args.size, min(ROWS[name].limit, left)) if left > 5 else UNKNOWN
        print(f"{name} ({time.monotonic() - started:.0f} s): {results[name]}", flush=True)
        if args.out is not None:
            args.out.write_text(table(results, args.size), encoding="utf-8")


if __name__ == "__main__":
    main()
