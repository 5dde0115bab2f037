"""What a data set of MIMIC-CXR's size costs: start-up, memory of each worker, and radiographs a second.

python -m benchmarks.data_loading --out benchmarks/data_loading.md

The index is of made-up studies with phantoms' reports, as many as MIMIC-CXR has; the radiographs are phantoms in JPEG
files of its films' size.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader
from xr2text.data.index import read_index, write_index

from xr2text.config import layout_config
from xr2text.data.cache import ImageCache
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.study import ImageFile, Study
from xr2text.imaging.transform import ImageTransform
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.findings.labeler import label_reports
from xr2text.text.findings.table import FINDING_NAMES
from xr2text.text.tokenizer import train_tokenizer
from xr2text.training.data import build_curriculum

STUDIES, IMAGES = 227_835, 377_110  # of MIMIC-CXR
HEIGHT, WIDTH = 3056, 2544  # of most of its films
BATCH = 16
STAGES = "training.curriculum=[{name: normal, epochs: 1, normal_only: true}, {name: all, epochs: 1}]"


class MadeUpStudies(Sequence):
    """Studies with 500 phantoms' reports in turn; no image is there."""

    def __init__(self, count: int, images: int, folder: Path):
        self.count, self.images, self.folder = count, images, folder
        self.phantoms = [draw_phantom(seed, 32) for seed in range(500)]
        texts = [f"{one.findings_text}\n\n{one.impression_text}" for one in self.phantoms]
        self.labels = label_reports(texts).fillna(0).astype(int).to_dict("records")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Study:
        if number >= self.count:
            raise IndexError(number)
        phantom, patient, name = self.phantoms[number % 500], f"1{number // 4:07d}", str(50_000_000 + number)
        findings = phantom.findings_text
        place = self.folder / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{name}"
        first, last = number * self.images // self.count, (number + 1) * self.images // self.count
        films = tuple(
            ImageFile(place / f"{film:040x}.jpg", "frontal" if film == first else "lateral")
            for film in range(first, last)
        )
        return Study(name, patient, films, findings, phantom.impression_text, "", "", "train", findings,
                     self.labels[number % 500])  # fmt: skip


class WithoutFiles(ReportDataset):
    """Every radiograph is the same grey canvas, so that what is measured is the index alone."""

    def _read(self, index: int) -> tuple[np.ndarray, tuple[float, ...]]:
        assert self.examples[index][1].path is not None
        return np.full((self.transform.size,) * 2, 128, np.uint8), (0.0, 0.0, 1.0, 1.0)


def dataset(studies: Sequence[Study], kind: type = ReportDataset, cache: ImageCache | None = None, size: int = 256):
    tokenizer = train_tokenizer([draw_phantom(seed, 32).findings_text for seed in range(60)], 400)
    transform = ImageTransform(size, (0.5,) * 3, (0.25,) * 3)
    return kind(
        studies, transform, tokenizer, 160, findings=FINDING_NAMES, training=True, augment=False, cache=cache
    )  # fmt: skip


def start_up(index: str, mapped: bool, workers: int, batches: int) -> None:
    """In a process of its own: prints seconds to the first stage, MiB of this process and of each worker."""
    process = psutil.Process()
    before = process.memory_full_info().uss
    studies = read_index(Path(index))["train"]
    if not mapped:
        studies = list(studies)
    started = time.perf_counter()
    if mapped:
        studies = read_index(Path(index))["train"]
    data = dataset(studies, WithoutFiles)
    build_curriculum(layout_config(["data.source=mimic_cxr", STAGES]), studies)
    taken = time.perf_counter() - started
    own = process.memory_full_info().uss - before
    loader = iter(
        DataLoader(data, BATCH, shuffle=True, num_workers=workers, collate_fn=collate, multiprocessing_context="fork")
    )
    for _ in range(batches):
        next(loader)
    infos = [child.memory_full_info() for child in process.children() if child.is_running()]
    private = np.mean([info.uss for info in infos])
    resident = np.mean([info.rss for info in infos])
    print(taken, own / 2**20, resident / 2**20, private / 2**20)


def measured_start(index: Path, mapped: bool, workers: int, batches: int) -> list[float]:
    code = f"from benchmarks.data_loading import start_up; start_up({str(index)!r}, {mapped}, {workers}, {batches})"
    command = [sys.executable, "-c", code]
    return [float(one) for one in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def films(folder: Path, count: int) -> list[Study]:
    """Phantoms in JPEG files of a film's size, grainy as films are."""
    random, studies = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        phantom = draw_phantom(number, 256)
        grey = cv2.resize(phantom.radiograph.pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        grey = np.clip(grey * 255 + random.normal(0, 2, grey.shape), 0, 255).astype(np.uint8)
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
        studies.append(Study(str(number), str(number), (ImageFile(path, "frontal"),), phantom.findings_text,
                             phantom.impression_text, "", "", "train", phantom.findings_text))  # fmt: skip
    return studies


def per_second(data: ReportDataset, repeats: int) -> float:
    """Examples that one process gives, reading, normalising and batching included."""
    started = time.perf_counter()
    for _ in range(repeats):
        for first in range(0, len(data), BATCH):
            collate([data[index] for index in range(first, min(first + BATCH, len(data)))])
    return repeats * len(data) / (time.perf_counter() - started)


def throughput(folder: Path, count: int, size: int) -> tuple[float, float, float]:
    """Radiographs a second by one process from the originals and from the cache, and KiB of an entry."""
    studies = films(folder / f"films-{size}", count)
    cache = ImageCache(folder / f"cache-{size}", size)
    plain, cached = dataset(studies, size=size), dataset(studies, cache=cache, size=size)
    for study in studies:
        cache.prepare(study.images[0])
    sizes = [path.stat().st_size for path in cache.folder.rglob("*.png")]
    return per_second(plain, 1), per_second(cached, 20), sum(sizes) / len(sizes) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--films", type=int, default=64)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--objects", action="store_true", help="compare with a list of objects, which takes minutes")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index.arrow"
        studies = MadeUpStudies(args.studies, args.images, Path("/data/mimic-cxr-jpg"))
        write_index(index, {"train": studies, "val": [], "test": []}, FINDING_NAMES)
        megabytes = index.stat().st_size / 2**20
        mapped = measured_start(index, True, args.workers, args.batches)
        held = {"the mapped index": mapped}
        if args.objects:
            held["objects"] = measured_start(index, False, args.workers, args.batches)
        speeds = {size: throughput(Path(folder), args.films, size) for size in (256, 512)}
    lines = [
        "# What a data set of MIMIC-CXR's size costs",
        "",
        f"{args.studies:,} made-up studies with {args.images:,} images; {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}, {date.today()}.",
        "",
        f"The index has {megabytes:.0f} MiB.",
        "",
        "| studies held as | seconds from start to the stages | memory of the process, MiB | resident in a worker, MiB "
        f"| of it its own after {args.batches * BATCH:,} examples, MiB |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {seconds:.1f} | {own:.0f} | {resident:.0f} | {private:.0f} |"
            for name, (seconds, own, resident, private) in held.items()
        ),
        "",
        "Seconds and memory are without the imports of libraries, which a worker shares; the resident pages are mostly "
        "these. A",
        f"worker is one of {args.workers}; what it does not share is mostly batches under way.",
        "",
        f"Radiographs a second of one process on one core, from JPEG files of {WIDTH} x {HEIGHT} and from the cache, "
        "in the same run:",
        "",
        "| canvas | originals | cache | times | KiB of an entry |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {size} px | {slow:.1f} | {fast:.0f} | {fast / slow:.0f} | {kib:.0f} |"
            for size, (slow, fast, kib) in speeds.items()
        ),
    ]
    print("\n".join(lines))
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
