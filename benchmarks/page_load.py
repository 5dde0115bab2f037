"""The page under hostile files, through its API and in a browser, and under many readers at once.

    python -m benchmarks.page_load --out benchmarks/page_load.md

Starts app.py, sends it broken, wrong and hostile files, each of which must be answered by a sentence (or, where it is
a picture after all, by a report), and lets twenty readers at once ask for the reports of their own films, each of which
must be the one that the same film gets alone. The browser needs requirements-dev.txt and Chromium.
"""

import argparse
import io
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm.auto import tqdm

from benchmarks.page_reader import PageReader
from xr2text.phantom.drawing import draw_phantom

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


def film(seed: int, format: str) -> bytes:
    """A phantom's radiograph as a file."""
    pixels = np.round(draw_phantom(seed, 256).radiograph.pixels * 255).astype(np.uint8)
    content = io.BytesIO()
    if format == "DICOM":
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = ComputedRadiographyImageStorage, generate_uid(), "CR"
        data.Rows, data.Columns = pixels.shape
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.SamplesPerPixel, data.PixelRepresentation = 7, 1, 0
        data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", pixels.tobytes()
        data.save_as(content, enforce_file_format=True)
    else:
        Image.fromarray(pixels).save(content, format)
    return content.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000))
        + chunk(b"IEND", b"")
    )


def picture(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def hostile_files(count: int, seed: int = 0) -> list[tuple[str, str, bytes]]:
    """(kind, file name, content) of `count` files, kinds in turn."""
    random = np.random.default_rng(seed)
    whole = {format: film(1, format) for format in ("PNG", "JPEG", "TIFF", "DICOM")}
    words = b"The quick brown fox jumps over the lazy dog. " * 50

    def damaged(format: str) -> bytes:
        content = bytearray(whole[format])
        for place in random.integers(len(content), size=random.integers(1, 200)):
            content[place] = random.integers(256)
        return bytes(content)

    side = lambda: int(random.integers(64, 400))  # noqa: E731
    kinds = {
        **{f"cut {one}": (lambda one=one: whole[one][: random.integers(len(whole[one]))]) for one in whole},
        **{f"damaged {one}": (lambda one=one: damaged(one)) for one in whole},
        "random bytes": lambda: random.bytes(random.integers(1, 20_000)),
        "PNG signature before random bytes": lambda: b"\x89PNG\r\n\x1a\n" + random.bytes(5000),
        "JPEG signature before random bytes": lambda: b"\xff\xd8\xff\xe0" + random.bytes(5000),
        "DICOM signature before random bytes": lambda: bytes(128) + b"DICM" + random.bytes(5000),
        "empty": lambda: b"",
        "text": lambda: words,
        "HTML with a script": lambda: b"<html><script>alert(1)</script></html>" + words,
        "SVG that reads a file": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "pickle": lambda: b"cos\nsystem\n(S'true'\ntR.",
        "PNG that claims 4 gigapixels": lambda: png_that_claims(65535, 65535),
        "one row": lambda: picture(np.zeros((1, 5000), np.uint8)),
        "one pixel": lambda: picture(np.zeros((1, 1), np.uint8)),
        "blank": lambda: picture(np.full((side(), side()), random.integers(256), np.uint8)),
        "noise": lambda: picture(random.integers(256, size=(side(), side()), dtype=np.uint8)),
        "coloured noise": lambda: picture(random.integers(256, size=(side(), side(), 3), dtype=np.uint8)),
        "a ramp": lambda: picture(np.tile(np.linspace(0, 255, side()).astype(np.uint8), (side(), 1))),
    }  # fmt: skip
    names = ("film.png", "film.dcm", "../../etc/passwd", "a b\"c'<b>.png", "ünï.jpg", "x" * 120 + ".png", "film")
    every = list(kinds)
    return [(every[i % len(every)], names[i % len(names)], kinds[every[i % len(every)]]()) for i in range(count)]


def resident_mib(process: int) -> float:
    """Memory of a process, from /proc."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def start_app(folder: Path, checkpoint: str) -> tuple[subprocess.Popen, str, float]:
    """The app, its address, and the seconds until its page answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "XR2TEXT_CHECKPOINT": checkpoint, "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"),
    }  # fmt: skip
    started = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}/", time.monotonic() - started
        if process.poll() is not None or time.monotonic() - started > START_SECONDS:
            raise SystemExit(f"the app did not start:\n{(folder / 'log.txt').read_text()}")
        time.sleep(0.05)


def ask(client: Client, file: Path) -> tuple[str, str]:
    """("report", its text) or ("refused", the sentence)."""
    try:
        report = client.predict(handle_file(str(file)), api_name="/report")
    except AppError as error:
        return "refused", str(error)
    return "report", f"{report['findings']}\n{report['impression']}"


def write_hostile(folder: Path, count: int) -> list[tuple[str, Path]]:
    """(kind, file), each in a folder of its own."""
    files = []
    for number, (kind, name, content) in enumerate(hostile_files(count)):
        # A client can only send a file that it has; the server makes a name of what it is told.
        file = folder / f"{number:03d}" / Path(name).name
        file.parent.mkdir()
        file.write_bytes(content)
        files.append((kind, file))
    return files


def send_hostile(
    files: list[tuple[str, Path]], ask: Callable[[Path], tuple[str, str]], process: int, way: str
) -> tuple[Counter, list[float]]:
    """How often each (kind, answer) came, and the memory of the process after each sixth of the files.

    Args:
        ask: a file -> ("refused", why) or ("report", its text).
        way: what it goes through, for the progress bar.
    """
    answers, memory = Counter(), []
    for number, (kind, file) in enumerate(tqdm(files, desc=f"hostile files, {way}")):
        answer, text = ask(file)
        if not text or (answer == "refused" and not re.fullmatch(r".+\.", text.strip())):
            raise SystemExit(f"{kind}, {way}: not a sentence: {text!r}")
        answers[kind, answer] += 1
        if number % (len(files) // 6) == len(files) // 6 - 1:
            memory.append(resident_mib(process))
    return answers, memory


def hostile_table(files: list[tuple[str, Path]], ways: dict[str, tuple[Counter, list[float]]]) -> str:
    """`ways`: what `send_hostile` gave for each way."""
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in files):
        counts = [str(answers[kind, answer]) for answers, _ in ways.values() for answer in ("refused", "report")]
        rows.append(f"| {kind} | {' | '.join(counts)} |")
    heads = [f"{way}: {answer}" for way in ways for answer in ("refused with a sentence", "report written")]
    memory = [
        f"Memory of the process after each sixth of them, {way}, MiB: {', '.join(f'{one:.0f}' for one in used)}."
        for way, (_, used) in ways.items()
    ]
    return "\n".join([
        f"{len(files)} files, one after the other, through the API and again in a browser at the page, every one "
        "answered. With a few damaged bytes a film can still be a film.",
        "", f"| file | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}", *rows, "", "  \n".join(memory),
    ])  # fmt: skip


def send_at_once(url: str, folder: Path, users: int) -> str:
    files = []
    for seed in range(users):
        files.append(folder / f"film-{seed}.png")
        files[-1].write_bytes(film(100 + seed, "PNG"))
    one = Client(url, verbose=False)
    alone = [ask(one, file) for file in tqdm(files, desc="alone")]
    clients = [Client(url, verbose=False) for _ in range(users)]
    together, waited = [("", "")] * users, [0.0] * users
    gate = threading.Barrier(users)

    def read(user: int) -> None:
        gate.wait()
        started = time.monotonic()
        together[user] = ask(clients[user], files[user])
        waited[user] = time.monotonic() - started

    readers = [threading.Thread(target=read, args=(user,)) for user in range(users)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    own = sum(a == b for a, b in zip(alone, together, strict=True))
    reports = sum(kind == "report" for kind, _ in together)
    return (
        f"{users} readers at once, each with a film of its own: {reports} reports, {own} of them the one that the film "
        f"has alone ({len({text for _, text in alone})} different texts); the last answer after {max(waited):.1f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="checkpoints/xr2text-iu")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_app(folder, args.checkpoint)[0].terminate()  # once before, so that imports are cached
        time.sleep(3)
        process, url, seconds = start_app(folder, args.checkpoint)
        try:
            crowd = send_at_once(url, folder, args.users)
            files = write_hostile(folder, args.files)
            client = Client(url, verbose=False)
            ways = {"API": send_hostile(files, partial(ask, client), process.pid, "API")}
            reader = PageReader(url, folder / "browser")
            ways["page"] = send_hostile(files, reader.ask, process.pid, "page")
            reader.close()
            if left := [path for path in (folder / "uploads").rglob("*") if path.is_file()]:
                raise SystemExit(f"{len(left)} uploads were left behind")
            log = (folder / "log.txt").read_text()
            if process.poll() is not None or "Traceback" in log:
                raise SystemExit(f"the app's log:\n{log}")
        finally:
            process.terminate()
            process.wait()
    text = (
        f"On {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores ({platform.machine()}), {date.today()}. From the "
        f"start of app.py to a page that answers, imports cached: {seconds:.1f} s.\n\n{crowd}\n\n"
        f"{hostile_table(files, ways)}\n"
    )
    print(text)
    if args.out is not None:
        args.out.write_text(f"# The page under load\n\n{text}")


if __name__ == "__main__":
    main()
