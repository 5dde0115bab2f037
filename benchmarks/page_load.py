"""The page under hostile files, through its API and in a browser, and under many readers at once.

    python -m benchmarks.page_load --root data/iu_xray --out benchmarks/page_load.md

Starts app.py, drops radiographs of the Indiana collection into its page one after the other, and times each until its
report is shown. Then twenty readers at once ask for the reports of their radiographs; each must get the report that the
same radiograph gets alone. Then come broken, wrong and hostile files. Each must be answered by a sentence, or, where it
is an image after all, by a report. Needs requirements-dev.txt and Chromium.
"""

import argparse
import io
import re
import statistics
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, frontal_files, machine, publish, seconds
from benchmarks.page import PageReader, start_app
from xr2text.phantom.drawing import draw_phantom

NAMES = ("film.png", "film.dcm", "../../etc/passwd", "a b\"c'<b>.png", "ünï.jpg", "x" * 120 + ".png", "film")
Answer = tuple[str, str]  # ("report", its text) or ("refused", the sentence)


def image_file(pixels: np.ndarray, format: str = "PNG") -> bytes:
    """uint8 [H, W] or [H, W, 3] as a file."""
    content = io.BytesIO()
    if format != "DICOM":
        Image.fromarray(pixels).save(content, format)
        return content.getvalue()
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = ComputedRadiographyImageStorage, generate_uid(), "CR"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.SamplesPerPixel, data.PixelRepresentation = 7, 1, 0
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", pixels.tobytes()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def phantom_file(seed: int, format: str = "PNG") -> bytes:
    return image_file(np.round(draw_phantom(seed, 256).pixels * 255).astype(np.uint8), format)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000)) + chunk(b"IEND", b"")


def hostile_files(count: int) -> list[tuple[str, str, bytes]]:
    """(what it is, file name, content) of `count` files, each sort in turn."""
    random = np.random.default_rng(0)
    whole = {format: phantom_file(1, format) for format in ("PNG", "JPEG", "TIFF", "DICOM")}

    def damaged(content: bytes) -> bytes:
        changed = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 200)):
            changed[place] = random.integers(256)
        return bytes(changed)

    def noise(*channels: int) -> bytes:
        return image_file(random.integers(256, size=(*random.integers(64, 400, 2), *channels), dtype=np.uint8))

    def level() -> np.ndarray:
        return np.full(random.integers(64, 400, 2), random.integers(256), np.uint8)

    sorts: dict[str, Callable[[], bytes]] = {
        **{f"cut {name}": lambda file=file: file[: random.integers(len(file))] for name, file in whole.items()},
        **{f"damaged {name}": partial(damaged, file) for name, file in whole.items()},
        "random bytes": lambda: random.bytes(random.integers(1, 20_000)),
        "PNG signature before random bytes": lambda: b"\x89PNG\r\n\x1a\n" + random.bytes(5000),
        "JPEG signature before random bytes": lambda: b"\xff\xd8\xff\xe0" + random.bytes(5000),
        "DICOM signature before random bytes": lambda: bytes(128) + b"DICM" + random.bytes(5000),
        "empty": lambda: b"",
        "text": lambda: b"The quick brown fox jumps over the lazy dog. " * 50,
        "HTML with a script": lambda: b"<html><script>alert(1)</script></html>",
        "SVG that reads a file": lambda: (
            b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
        ),
        "pickle": lambda: b"cos\nsystem\n(S'true'\ntR.",
        "PNG that claims 4 gigapixels": lambda: png_that_claims(65535, 65535),
        "one row": lambda: image_file(np.zeros((1, 5000), np.uint8)),
        "one pixel": lambda: image_file(np.zeros((1, 1), np.uint8)),
        "blank": lambda: image_file(level()),
        "noise": noise,
        "coloured noise": partial(noise, 3),
        "a ramp": lambda: image_file(np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))),
    }
    every = list(sorts.items())
    return [
        (every[i % len(every)][0], NAMES[i % len(NAMES)], every[i % len(every)][1]()) for i in range(count)
    ]  # fmt: skip


def write_hostile(folder: Path, count: int) -> list[tuple[str, Path]]:
    """(what it is, file), each file in a folder of its own."""
    files = []
    for number, (sort, name, content) in enumerate(hostile_files(count)):
        file = folder / f"{number:03d}" / Path(name).name
        file.parent.mkdir()
        file.write_bytes(content)
        files.append((sort, file))
    return files


def ask(client: Client, file: Path) -> Answer:
    try:
        report = client.predict(handle_file(str(file)), api_name="/report")
    except AppError as error:
        return "refused", str(error)
    return "report", f"{report['findings']}\n{report['impression']}"


def memory(process: int, name: str = "VmRSS") -> float:
    """MiB of a process, from /proc."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024


def send_hostile(
    files: list[tuple[str, Path]], ask: Callable[[Path], Answer], process: int, way: str
) -> tuple[Counter, list[float]]:
    """How often each (sort, answer) occurred, and the memory of the process after each sixth of the files."""
    answers, used = Counter(), []
    for number, (sort, file) in enumerate(tqdm(files, desc=f"hostile files, {way}")):
        answer, text = ask(file)
        if not text or (answer == "refused" and not re.fullmatch(r".+\.", text.strip())):
            raise SystemExit(f"{sort}, {way}: not a sentence: {text!r}")
        answers[sort, answer] += 1
        if number % (len(files) // 6) == len(files) // 6 - 1:
            used.append(memory(process))
    return answers, used


def hostile_table(ways: dict[str, tuple[Counter, list[float]]]) -> str:
    """`ways`: what `send_hostile` gave for each way."""
    heads = [f"{way}: {answer}" for way in ways for answer in ("refused with a sentence", "report written")]
    lines = [f"| file | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for sort in dict.fromkeys(sort for answers, _ in ways.values() for sort, _ in answers):
        cells = [str(answers[sort, answer]) for answers, _ in ways.values() for answer in ("refused", "report")]
        lines.append(f"| {sort} | {' | '.join(cells)} |")
    for way, (_, used) in ways.items():
        lines += ["", f"Memory of the process after each sixth of them, {way}, MiB: "
                  f"{', '.join(f'{size:.0f}' for size in used)}."]  # fmt: skip
    return "\n".join(lines)


def time_drops(reader: PageReader, files: list[Path]) -> str:
    """Measures the seconds from a file's drop to the report and the picture on the page; the first is not counted."""
    reader.ask(files[0])
    waited = [seconds(lambda file=file: reader.ask(file)) for file in tqdm(files[1:], desc="dropped into the page")]
    return (
        f"{len(waited)} radiographs dropped into the page in Chromium, one after the other: the report is there after "
        f"{statistics.median(waited):.2f} s in the median, {max(waited):.2f} s at most."
    )


def send_at_once(url: str, folder: Path, users: int) -> str:
    files = [folder / f"phantom-{user}.png" for user in range(users)]
    for user, file in enumerate(files):
        file.write_bytes(phantom_file(100 + user))
    client = Client(url, verbose=False)
    alone = [ask(client, file) for file in tqdm(files, desc="alone")]
    clients = [Client(url, verbose=False) for _ in files]
    together, waited, barrier = [("", "")] * users, [0.0] * users, threading.Barrier(users)

    def read(user: int) -> None:
        barrier.wait()
        started = time.monotonic()
        together[user] = ask(clients[user], files[user])
        waited[user] = time.monotonic() - started

    readers = [threading.Thread(target=read, args=(user,)) for user in range(users)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    reports = sum(answer == "report" for answer, _ in together)
    same = sum(a == b for a, b in zip(alone, together, strict=True))
    return (
        f"{users} readers at once, each with another radiograph: {reports} reports, {same} of them the one that the "
        f"radiograph has alone ({len({text for _, text in alone})} different texts); the last answer after "
        f"{max(waited):.1f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--root", type=Path, required=True, help="folder of the Indiana collection")
    parser.add_argument("--drops", type=int, default=30, help="radiographs dropped into the page")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, *_ = start_app(folder, args.checkpoint)  # once before, so that imports are cached
        first.terminate()
        first.wait()
        app, url, start = start_app(folder, args.checkpoint)
        try:
            reader = PageReader(url, folder / "browser")
            drops = time_drops(reader, frontal_files(args.root.resolve(), args.drops + 1))
            crowd = send_at_once(url, folder, args.users)
            files = write_hostile(folder, args.files)
            ways = {"API": send_hostile(files, partial(ask, Client(url, verbose=False)), app.pid, "API")}
            ways["page"] = send_hostile(files, reader.ask, app.pid, "page")
            reader.close()
            peak = memory(app.pid, "VmHWM") / 1024
            left = [path for path in (folder / "uploads").rglob("*") if path.is_file()]
            log = (folder / "log.txt").read_text()
            if left or app.poll() is not None or "Traceback" in log:
                raise SystemExit(f"{len(left)} uploads were left behind; the app's log:\n{log}")
        finally:
            app.terminate()
            app.wait()
    parts = (
        f"{machine()}. From the start of app.py to a page that answers, imports cached: {start:.1f} s. Memory at its "
        f"peak: {peak:.2f} GiB.",
        drops,
        crowd,
        f"{len(files)} hostile files through the API and again in a browser, every one answered. With a few damaged "
        "bytes an image can still be one.",
        hostile_table(ways),
    )
    publish("The page under load", "\n\n".join(parts), args.out)


if __name__ == "__main__":
    main()
