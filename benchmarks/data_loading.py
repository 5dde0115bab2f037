"""What a data set of MIMIC-CXR's size costs: start-up, memory of each worker, and radiographs per second.

    python -m benchmarks.data_loading --out benchmarks/data_loading.md

The studies are made up, as many as MIMIC-CXR has, with the reports and images of a few phantoms, in a manifest.csv.
Radiographs per second are of JPEG files of a real one's size.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from benchmarks.common import machine, publish
from xr2text.config import Config, layout_config
from xr2text.data.cache import ImageCache
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.sources import load_studies
from xr2text.data.study_table import StudyTable
from xr2text.imaging.transform import ImageTransform
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.findings.table import FINDING_NAMES
from xr2text.text.tokenizer import train_tokenizer
from xr2text.training.data import build_curriculum

STUDIES, IMAGES = 227_835, 377_110  # of MIMIC-CXR
HEIGHT, WIDTH = 3056, 2544  # of most of its radiographs
PHANTOMS, BATCH = 64, 16
STAGES = "training.curriculum=[{name: normal, epochs: 1, max_findings: 0}, {name: all, epochs: 1}]"


def settings(root: Path, indexed: bool = True) -> Config:
    return layout_config(
        ["data.source=manifest", f"data.root={root}", STAGES, *([f"data.cache={root / 'cache'}"] if indexed else [])]
    )


def write_manifest(root: Path, studies: int, images: int, height: int, width: int) -> None:
    """manifest.csv, and the images of PHANTOMS phantoms, grainy as radiographs are."""
    root.mkdir()
    random, phantoms = np.random.default_rng(0), [draw_phantom(seed, 256) for seed in range(min(PHANTOMS, studies))]
    for seed, phantom in enumerate(phantoms):
        grey = cv2.resize(phantom.pixels, (width, height), interpolation=cv2.INTER_CUBIC)
        grey = np.clip(grey * 255 + random.normal(0, 2, grey.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f"{seed}.jpg"), grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "findings", "impression", "patient", "view", "split"])
        for number in range(images):
            study = number * studies // images
            phantom, split = phantoms[study % len(phantoms)], "val" if study % 1000 < 4 else "train"
            table.writerow([study, f"{study % len(phantoms)}.jpg", phantom.findings_text, phantom.impression_text,
                            f"p{study // 4}", "frontal", split])  # fmt: skip


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(draw_phantom(seed, 32).findings_text for seed in range(60))


def examples(config: Config, studies: StudyTable, cached: bool = False) -> ReportDataset:
    size = config.model.image_size
    images = ImageCache(Path(config.data.root) / "images", size) if cached else None
    transform = ImageTransform(size, (0.5,) * 3, (0.25,) * 3)
    return ReportDataset(studies, transform, tokenizer(), 160, findings=FINDING_NAMES, training=True, cache=images)


def start_up(root: str, workers: int, batches: int) -> None:
    """Run in a process of its own: prints the seconds up to each stage, and MiB of this process and of a worker."""
    process, config = psutil.Process(), settings(Path(root))
    tokenizer()
    before, started = process.memory_full_info().uss, time.perf_counter()
    studies = load_studies(config.data, FINDING_NAMES)["train"]
    data = examples(config, studies)
    build_curriculum(config, studies)
    taken, used = time.perf_counter() - started, process.memory_full_info().uss - before
    loader = iter(DataLoader(data, BATCH, shuffle=True, num_workers=workers, collate_fn=collate))
    for _ in range(batches):
        next(loader)
    infos = [child.memory_full_info() for child in process.children()]
    worker = [float(np.mean([getattr(info, name) for info in infos])) / 2**20 for name in ("rss", "uss")]
    print(json.dumps([taken, used / 2**20, *worker]))


def images_per_second(data: ReportDataset, repeats: int) -> float:
    """Examples per second of one process: reading, normalising and batching."""
    started = time.perf_counter()
    for _ in range(repeats):
        for first in range(0, len(data), BATCH):
            collate([data[index] for index in range(first, min(first + BATCH, len(data)))])
    return repeats * len(data) / (time.perf_counter() - started)


def throughput(root: Path, size: int) -> str:
    """Cells of a row: examples per second from the originals and from the cache, and their ratio."""
    config = settings(root, indexed=False)
    config.model.image_size = size
    studies = load_studies(config.data, FINDING_NAMES)["train"]
    plain, cached = images_per_second(examples(config, studies), 1), examples(config, studies, cached=True)
    images_per_second(cached, 1)  # fills the cache
    fast = images_per_second(cached, 20)
    return f"{plain:.1f} | {fast:.0f} | {fast / plain:.0f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        many, large = Path(name) / "many", Path(name) / "large"
        write_manifest(many, args.studies, args.images, 256, 256)
        started = time.perf_counter()
        load_studies(settings(many).data, FINDING_NAMES)
        making = time.perf_counter() - started
        code = f"from benchmarks.data_loading import *; start_up({str(many)!r}, {args.workers}, {args.batches})"
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
        seconds, used, resident, private = json.loads(done.stdout.splitlines()[-1])
        write_manifest(large, PHANTOMS, PHANTOMS, HEIGHT, WIDTH)
        rows = [f"| {size} px | {throughput(large, size)} |" for size in (256, 512)]
    text = "\n".join([
        f"{args.studies:,} made-up studies with {args.images:,} images; {machine()}.",
        "",
        f"The index is made once, in {making:.0f} s. After that a training is at its stages in **{seconds:.1f} s** and "
        f"takes {used:.0f} MiB. Each of {args.workers} workers has {resident:.0f} MiB resident, mostly libraries that "
        f"they share; {private:.0f} MiB are its alone after {args.batches * BATCH:,} examples.",
        "",
        f"Radiographs per second of one process on one core, from JPEG files of {WIDTH} x {HEIGHT} and from the cache:",
        "",
        "| canvas | originals | cache | times |",
        "|---|---:|---:|---:|",
        *rows,
    ])  # fmt: skip
    publish("What a data set of MIMIC-CXR's size costs", text, args.out)


if __name__ == "__main__":
    main()
