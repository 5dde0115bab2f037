"""Writes the report of each radiograph into a folder of its own. A file that is refused is named with the reason."""

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from xr2text.cli.options import add_checkpoint, lasting_imports
from xr2text.errors import XR2TextError

HELP = "write the report of each radiograph"
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or DICOM, or a folder of them")
    add("--out", required=True, type=Path, metavar="DIR", help="a folder per file is made here")
    add("--maps", action="store_true", help="also maps.npz, the seven maps in original pixels")
    add("--no-overlay", action="store_true", help="no overlay.png, which takes longest of all")
    also = "documents to write also: pdf, fhir (a DiagnosticReport), dicom-sr (a DICOM Structured Report)"
    add("--also", nargs="+", default=[], choices=("pdf", "fhir", "dicom-sr"), metavar="DOCUMENT", help=also)
    add("--identity", action="store_true", help="the Structured Report names the patient as the DICOM file does")
    setting = "a finding as a person sees it, in every file: NAME=present or NAME=absent; the report follows"
    add("--finding", action="append", default=[], type=set_finding, metavar="NAME=STATE", help=setting)
    add("--force", action="store_true", help="also where a file may be no frontal chest radiograph")
    add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    """0: everything is written, 1: some files are refused."""
    with lasting_imports():
        from tqdm import tqdm

        from xr2text.export.files import write_report
        from xr2text.export.source import ExportError, source_of
        from xr2text.imaging.radiograph import ImageError
        from xr2text.inference.gate import DoubtfulImageError
        from xr2text.inference.reporter import Reporter

    files = radiograph_files(args.files)
    documents = ["txt", "json", *([] if args.no_overlay else ["png"]), *(["maps"] if args.maps else []), *args.also]
    contents: deque[bytes | Path] = deque()  # of the model's batch

    def images() -> Iterator[bytes | Path]:
        for file in files:
            contents.append(_content(file))
            yield contents[-1]

    reporter = Reporter.from_pretrained(args.checkpoint)
    reports = reporter.reports(images(), force=args.force, findings=dict(args.finding))
    refused = 0
    for file, name, report in tqdm(zip(files, unique_names(files), reports, strict=True), "", len(files), unit="file"):
        content = contents.popleft()
        try:
            if isinstance(report, ImageError):
                raise report
            source = source_of(content, report.radiograph, args.identity)
            write_report(report, args.out / name, documents, source)
            continue
        except DoubtfulImageError as error:
            reason = f"{error} --force writes it all the same."
        except ImageError as error:
            reason = str(error)
        except ExportError as error:
            reason = f"the report is there, but not all documents: {error}"
        except OSError as error:
            reason = f"the report could not be written: {error}"
        refused += 1
        tqdm.write(f"{file}: {reason}", file=sys.stderr)
    if refused:
        print(f"{refused} of {len(files)} files without all that was asked for", file=sys.stderr)
    return 1 if refused else 0


def set_finding(text: str) -> tuple[str, str]:
    """ "pleural effusion=present" -> its name and state, for argparse."""
    name, mark, state = text.rpartition("=")
    if not mark or state not in ("present", "absent"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=present or NAME=absent")
    return name.strip(), state


def _content(file: Path) -> bytes | Path:
    """A file's bytes; the path where they cannot be read, of which the reader of radiographs says why."""
    from xr2text.imaging.radiograph import ImageError
    from xr2text.imaging.read import read_content

    try:
        return read_content(file)
    except ImageError:
        return file


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
    """A name for each file: its own without the suffix of an image; a name that is taken gets a number."""
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
