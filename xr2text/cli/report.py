"""Writes the report of each radiograph into a folder of its own. A file that is refused is named with the reason."""

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xr2text.cli.options import add_checkpoint
from xr2text.errors import XR2TextError

if TYPE_CHECKING:
    from xr2text.imaging.radiograph import Radiograph
    from xr2text.inference.reporter import Reporter

HELP = "write the report of each radiograph"
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or DICOM, or a folder of them"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder per file is made here")
    parser.add_argument("--no-overlay", action="store_true", help="no overlay.png, which takes longest of all")
    parser.add_argument("--maps", action="store_true", help="also maps.npz, the seven maps in original pixels")
    parser.add_argument(
        "--also", nargs="+", default=[], choices=("pdf", "fhir", "dicom-sr"), metavar="DOCUMENT",
        help="documents to write also: pdf, fhir (a DiagnosticReport), dicom-sr (a DICOM Structured Report)",
    )  # fmt: skip
    parser.add_argument(
        "--identity", action="store_true", help="the Structured Report names the patient as the DICOM file does"
    )
    parser.add_argument(
        "--force", action="store_true", help="also where it is doubtful whether a file is a frontal chest radiograph"
    )
    add_checkpoint(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0: everything is written, 1: some files are refused."""
    from tqdm import tqdm

    from xr2text.inference.reporter import Reporter

    files = radiograph_files(args.files)
    reporter = Reporter.from_pretrained(args.checkpoint)
    with tqdm(total=len(files), unit="file") as bar:
        refused = 0
        for file, reason in write_reports(reporter, files, args):
            bar.update()
            if reason:
                refused += 1
                tqdm.write(f"{file}: {reason}", file=sys.stderr)
    if refused:
        print(f"{refused} of {len(files)} files without all that was asked for", file=sys.stderr)
    return 1 if refused else 0


def write_reports(
    reporter: "Reporter", files: list[Path], args: argparse.Namespace
) -> Iterator[tuple[Path, str | None]]:
    """Writes the report of each file, as the options ask for it.

    Yields:
        each file once it is done with, and why it lacks something that was asked for; None where it does not.
    """
    from xr2text.export.files import write_report
    from xr2text.export.source import ExportError, read_source
    from xr2text.imaging.radiograph import ImageError
    from xr2text.imaging.read import read_content
    from xr2text.inference.gate import DoubtfulImageError

    waiting = deque()  # what is in the model's batch
    unreadable = deque()

    def radiographs() -> Iterator["Radiograph"]:
        for file, name in zip(files, unique_names(files), strict=True):
            try:
                radiograph, source = read_source(read_content(file), args.identity)
            except ImageError as error:
                unreadable.append((file, str(error)))
                continue
            waiting.append((file, args.out / name, source))
            yield radiograph

    for report in reporter.reports(radiographs(), force=args.force):
        file, folder, source = waiting.popleft()
        reason = None
        try:
            if isinstance(report, ImageError):
                hint = " --force writes it all the same." if isinstance(report, DoubtfulImageError) else ""
                reason = f"{report}{hint}"
            else:
                write_report(report, folder, source, not args.no_overlay, args.maps, args.also)
        except ExportError as error:
            reason = f"the report is there, but not all documents: {error}"
        except OSError as error:
            reason = f"the report could not be written: {error}"
        yield file, reason
        while unreadable:
            yield unreadable.popleft()
    yield from unreadable


def radiograph_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named; of a folder, the radiographs in it and in its folders, in the order of their names.

    Raises:
        XR2TextError: a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_radiograph(file)]
            if not found:
                raise XR2TextError(f"the folder {path} holds no radiograph")
        files += found
    return files


def _is_radiograph(file: Path) -> bool:
    """By its suffix, or by the letters at which DICOM files begin, whatever their name."""
    if file.name.startswith(".") or file.name == "DICOMDIR":
        return False
    if file.suffix.lower() in SUFFIXES:
        return True
    with file.open("rb") as content:
        return content.read(132)[128:] == b"DICM"


def unique_names(files: Iterable[Path]) -> list[str]:
    """A name for each file: its own without the suffix of an image; a name that is taken gets a number.

    >>> unique_names([Path("a/film.png"), Path("b/film.dcm"), Path("1.2.840.55")])
    ['film', 'film-2', '1.2.840.55']
    """
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}  # the last that a stem was given
    for file in files:
        stem = file.stem if file.suffix.lower() in SUFFIXES else file.name
        name, number = stem, numbers.get(stem, 1)
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names[name], numbers[stem] = None, number
    return list(names)
