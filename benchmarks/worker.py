"""How many films an hour the worker answers beside a real Orthanc, how soon, and in how much memory.

    python -m benchmarks.worker --root data/iu_xray --out benchmarks/worker.md

Films of the Indiana collection, as DICOM, each a study of its own, go to Orthanc by storescu. First they wait there
when one worker or two start: throughput and memory. Then each comes when the one before is answered: latency. Needs
Debian's orthanc and dcmtk.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, frontal_files, machine, publish

HTTP, DICOM = 18142, 14342
URL = f"http://127.0.0.1:{HTTP}"
PATIENT = "benchmark"
PARTS = 5  # the memory is read after each of so many parts of the films
DAY = 24 * 3600
PLACES = {"a hospital of 500 chest films a day": 500, "a national archive of a million a day": 1_000_000}
PEAK = 3  # times the day's mean that the busiest hours bring


def film(image: Path, folder: Path) -> tuple[Path, str]:
    """A DICOM file of an image, and Orthanc's id of its study."""
    pixels = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    made = Dataset()
    made.PatientID, made.PatientName, made.SOPClassUID = PATIENT, "", ComputedRadiographyImageStorage
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = (generate_uid() for _ in range(3))
    made.Modality, made.BodyPartExamined, made.ViewPosition = "CR", "CHEST", "PA"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = (pixels.astype(np.uint16) * 16).tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{made.SOPInstanceUID}.dcm"
    dcmwrite(path, made, enforce_file_format=True)
    digest = hashlib.sha1(f"{PATIENT}|{made.StudyInstanceUID}".encode()).hexdigest()
    return path, "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def send(paths: list[Path]) -> None:
    subprocess.run(["storescu", "127.0.0.1", str(DICOM), *map(str, paths)], check=True)


@contextmanager
def archive(folder: Path) -> Iterator[None]:
    """An empty Orthanc, in which a study is stable one second after its last image."""
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": HTTP,
        "DicomPort": DICOM, "CheckRevisions": True, "StableAge": 1, "AuthenticationEnabled": False, "Plugins": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise SystemExit("Orthanc is not installed (apt install orthanc dcmtk)")
    with (
        (folder / "orthanc.log").open("w") as log,
        subprocess.Popen([program, str(folder / "orthanc.json")], stderr=log) as it,
    ):
        while True:
            try:
                httpx.get(URL)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        try:
            yield
        finally:
            it.terminate()


@contextmanager
def workers(count: int, checkpoint: str, folder: Path) -> Iterator[list[psutil.Process]]:
    command = [sys.executable, "-m", "xr2text", "worker", "--orthanc", URL, "--checkpoint", checkpoint]
    with (folder / "workers.log").open("a") as log:
        processes = [psutil.Popen(command, stdout=log, stderr=log) for _ in range(count)]
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)


def answered(study: str) -> bool:
    answer = httpx.get(f"{URL}/studies/{study}/metadata/4242")
    return answer.is_success and answer.json()["state"] in ("done", "refused", "failed")


def throughput(images: list[Path], count: int, checkpoint: str) -> tuple[float, list[float], list[str]]:
    """Films per hour of `count` workers from two answers each on, memory of the first worker after each part in MiB,
    and states."""
    with tempfile.TemporaryDirectory() as name, archive(Path(name)):
        sent = [film(image, Path(name)) for image in images]
        for start in range(0, len(sent), 100):
            send([path for path, _ in sent[start : start + 100]])
        waiting, memory, started, first = {study for _, study in sent}, [], 0.0, 0
        bar = tqdm(total=len(sent), desc=f"{count} worker(s)")
        with bar, workers(count, checkpoint, Path(name)) as processes:
            while waiting:
                if all(process.poll() is not None for process in processes):
                    raise SystemExit((Path(name) / "workers.log").read_text()[-2000:])
                waiting = {study for study in waiting if not answered(study)}
                done = len(sent) - len(waiting)
                bar.update(done - bar.n)
                if done >= 2 * count and not started:  # all of them are at work
                    started, first = time.monotonic(), done
                if len(memory) < done * PARTS // len(sent):
                    memory.append(processes[0].memory_info().rss / 2**20)
                time.sleep(0.5)
            rate = 3600 * (len(sent) - first) / (time.monotonic() - started)
            states = [httpx.get(f"{URL}/studies/{study}/metadata/4242").json()["state"] for _, study in sent]
    return rate, memory, states


def latencies(images: list[Path], checkpoint: str) -> list[float]:
    """Seconds from the end of each C-STORE until the Structured Report is in Orthanc, one film at a time."""
    seconds = []
    with tempfile.TemporaryDirectory() as name, archive(Path(name)), workers(1, checkpoint, Path(name)):
        for image in tqdm(images, desc="one at a time"):
            path, study = film(image, Path(name))
            send([path])
            started = time.monotonic()
            while not any(one["MainDicomTags"]["Modality"] == "SR" for one in series(study)) and not answered(study):
                time.sleep(0.05)
            seconds.append(time.monotonic() - started)
    return seconds[1:]  # the first waited for the model


def series(study: str) -> list[dict]:
    return httpx.get(f"{URL}/studies/{study}/series").json()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the Indiana collection's folder")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=1000, help="films for throughput and memory")
    parser.add_argument("--single", type=int, default=60, help="films for latency")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    images = frontal_files(args.root, args.count)
    one, memory, states = throughput(images, 1, args.checkpoint)
    two, _, _ = throughput(images[: max(8, args.count // 4)], 2, args.checkpoint)
    waits = sorted(latencies(images[: args.single + 1], args.checkpoint))
    middle, late = statistics.median(waits), waits[int(0.95 * (len(waits) - 1))]
    places = [
        f"| {place} | {count / DAY * 3600:,.0f} | {max(1, np.ceil(PEAK * count / 24 / one)):,.0f} |"
        for place, count in PLACES.items()
    ]
    text = "\n".join([
        f"{args.count} films of the Indiana collection, each a study; {states.count('done')} reports, "
        f"{states.count('refused')} refused, {states.count('failed')} failed; {machine()}, which Orthanc shares.",
        "",
        "| | |",
        "|---|---:|",
        f"| films an hour, one worker | {one:,.0f} |",
        f"| films an hour, two workers | {two:,.0f} |",
        f"| from C-STORE to the Structured Report in Orthanc, median | {middle:.1f} s |",
        f"| the same, 95 % | {late:.1f} s |",
        f"| memory of a worker after each of {PARTS} parts, MiB | {', '.join(f'{size:.0f}' for size in memory)} |",
        "",
        "The latency includes the second after which Orthanc calls a study stable (`StableAge`).",
        "",
        f"Computed from the first row; the busiest hour brings {PEAK} times the day's mean.",
        "",
        "| | films an hour, mean | workers like that one |",
        "|---|---:|---:|",
        *places,
    ])  # fmt: skip
    publish("The worker beside Orthanc", text, args.out)


if __name__ == "__main__":
    main()
