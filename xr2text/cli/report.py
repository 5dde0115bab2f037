"""Writes the report of each radiograph into a folder of its own. Refused files are named with the reason.

Alone, or as a process of `torchrun` or `accelerate launch`, which share the files.
"""

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from xr2text.cli.options import add_checkpoint, lasting_imports
from xr2text.errors import XR2TextError

if TYPE_CHECKING:
    from accelerate import PartialState

    from xr2text.export.source import Source
    from xr2text.imaging.radiograph import Radiograph
    from xr2text.inference.reporter import Reporter

HELP = "write the report of each radiograph"
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom"}
WRITTEN = {"overlay.png", "report.dcm"}  # files of an earlier run, if report.json lies beside them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or DICOM, or a folder of them")
    add("--lateral", type=Path, metavar="FILE", help="the lateral view beside the one frontal FILE")
    add("--study", action="store_true", help="the two FILEs are the frontal and the lateral view of one study")
    add("--out", required=True, type=Path, metavar="DIR", help="a folder per file is made here")
    add("--maps", action="store_true", help="also maps.npz, the seven maps on the radiograph's pixels")
    add("--no-overlay", action="store_true", help="no overlay.png, which takes longest of all")
    also = "documents to write also: pdf, fhir (a DiagnosticReport), dicom-sr (a DICOM Structured Report)"
    choices = ("pdf", "fhir", "dicom-sr")
    add("--also", nargs="+", action="extend", default=[], choices=choices, metavar="DOCUMENT", help=also)
    add("--identity", action="store_true", help="the Structured Report names the patient as the DICOM file does")
    setting = "a finding as a person sees it, in every file: NAME=present or NAME=absent; the report follows"
    add("--finding", action="append", default=[], type=set_finding, metavar="NAME=STATE", help=setting)
    add("--force", action="store_true", help="also where a file may be no chest radiograph of its view")
    add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    """0: everything is written, 1: some files are refused."""
    with lasting_imports():
        from tqdm import tqdm

        from xr2text.export.files import write_report
        from xr2text.export.source import OTHER_STUDY, ExportError, of_one_study, source_of
        from xr2text.imaging.radiograph import ImageError
        from xr2text.inference.gate import DoubtfulImageError
        from xr2text.inference.reporter import Reporter

    files = radiograph_files(args.files)
    if args.lateral is not None and len(files) != 1:
        raise XR2TextError(f"--lateral goes with one frontal FILE; there are {len(files)}")
    state = _launch()
    if len(findings := dict(args.finding)) < len(set(args.finding)):
        raise XR2TextError("--finding: one finding is set to both present and absent")
    documents = ["txt", "json", *([] if args.no_overlay else ["png"]), *(["maps"] if args.maps else []), *args.also]
    contents: deque[bytes | Path] = deque()  # of the files in the current batch; a path where it cannot be read

    def images() -> Iterator[tuple[bytes | Path, Path | None]]:
        for file in files:
            contents.append(_content(file))
            yield contents[-1], lateral and lateral[0]

    reporter = Reporter.from_pretrained(args.checkpoint, None if state is None else state.device)
    if args.study:
        files, args.lateral = _one_study(reporter, files)
    lateral = None if args.lateral is None else _lateral(args.lateral, args.identity)
    files = _share(files, state)
    reports = reporter.reports(images(), force=args.force, findings=findings)
    folders, refused = ReportFolders(args.out), 0
    for file, report in tqdm(zip(files, reports, strict=True), "", len(files), unit="file"):
        content = contents.popleft()
        try:
            if isinstance(report, ImageError):
                raise report
            source = source_of(content, report.radiograph, args.identity, _readable(file.name))
            if report.lateral and not args.force and not of_one_study(source, lateral[1]):
                raise DoubtfulImageError(OTHER_STUDY)
            folder, others = folders.folder(file, source.sha256)
            if others:
                tqdm.write(f"{file}: {others} has the report of another file; this one is in {folder}", file=sys.stderr)
            write_report(report, folder, documents, source, report.lateral and lateral[1])
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
    _leave(state)
    if refused:
        print(f"{refused} of {len(files)} files without all that was asked for", file=sys.stderr)
    return int(refused > 0)


def _launch() -> "PartialState | None":
    """accelerate's state of the launch; None where this is the only process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from xr2text.evaluation.predict import processes

    return processes()


def _leave(state: "PartialState | None") -> None:
    """Ends the launch: all wait for each other, since a process that exits with 1 would end the others."""
    if state is not None:
        state.wait_for_everyone()
        state.destroy_process_group()


def _share(files: list[Path], state: "PartialState | None") -> list[Path]:
    """This process's part of the files. Files of one name go to one process, which numbers their folders."""
    if state is None:
        return files
    return [file for file in files if crc32(os.fsencode(_stem(file))) % state.num_processes == state.process_index]


def set_finding(text: str) -> tuple[str, str]:
    """ "pleural effusion=present" -> its name and state, for argparse."""
    name, mark, state = text.rpartition("=")
    if not mark or state not in ("present", "absent"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=present or NAME=absent")
    return name.strip(), state


def _one_study(reporter: "Reporter", files: list[Path]) -> tuple[list[Path], Path]:
    """The frontal and the lateral file of two files. Raises ImageError where a file cannot be read, or where not
    exactly one is a lateral view; XR2TextError where there are not two."""
    from xr2text.imaging.radiograph import ImageError
    from xr2text.imaging.read import read_radiograph

    if len(files) != 2:
        raise XR2TextError(f"--study takes two FILEs; there are {len(files)}")
    lateral = []
    for file in files:
        try:
            lateral.append(reporter.is_lateral(read_radiograph(file)))
        except ImageError as error:
            raise ImageError(f"{file}: {error}") from None
    if lateral[0] == lateral[1]:
        which = "Both images are lateral views" if lateral[0] else "Neither image is surely a lateral view"
        raise ImageError(f"{which}; please choose one frontal chest radiograph and one lateral one of the same study.")
    return [files[lateral.index(False)]], files[lateral.index(True)]


def _lateral(file: Path, identity: bool) -> "tuple[Radiograph, Source]":
    """The lateral radiograph, and its source for documents. Raises ImageError, which names the file."""
    from xr2text.export.source import source_of
    from xr2text.imaging.radiograph import ImageError
    from xr2text.imaging.read import read_content, read_radiograph

    try:
        content = read_content(file)
        radiograph = read_radiograph(content)
    except ImageError as error:
        raise ImageError(f"--lateral {file}: {error}") from None
    return radiograph, source_of(content, radiograph, identity)


def _readable(name: str) -> str:
    """A file's name as text; bytes that are not valid UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _content(file: Path) -> bytes | Path:
    """A file's bytes, or its path where it cannot be read: the reader of radiographs then says why."""
    from xr2text.imaging.radiograph import ImageError
    from xr2text.imaging.read import read_content

    try:
        return read_content(file)
    except ImageError:
        return file


def radiograph_files(paths: Iterable[Path]) -> list[Path]:
    """The files to read: those of `paths` as they are named, and of a folder the radiographs below it, sorted by path.

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
    """Judged by the suffix or, whatever the name, by the letters "DICM" at the start of a DICOM file."""
    if file.name.startswith(".") or file.name == "DICOMDIR":
        return False
    if file.name in WRITTEN and (file.parent / "report.json").is_file():
        return False
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        with file.open("rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return True  # reading it then reports the error


def _stem(file: Path) -> str:
    return file.stem if file.suffix.lower() in SUFFIXES else file.name


class ReportFolders:
    """Names the folder in `out` of each file's report: the file's name without the suffix of an image. A number is
    added where another file of this run, or another file's earlier report, has that name. A file that is reported again
    gets its folder again."""

    def __init__(self, out: Path):
        self.out = out
        self._given: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last number of each stem
        self._passed: dict[tuple[str, str], str] = {}  # folders with another file's report, by stem and digest

    def folder(self, file: Path, sha256: str) -> tuple[Path, Path | None]:
        """The folder of a file's report. Where it is new, also the last folder that was passed over since it holds
        another file's report."""
        stem, others = _stem(file), None
        name = self._passed.pop((stem, sha256), None)
        while name is None or name in self._given:
            number = self._numbers[stem] = self._numbers.get(stem, 0) + 1
            name = stem if number == 1 else f"{stem}-{number}"
            digest = None if name in self._given else written_of(self.out / name)
            if digest == sha256:
                others = None
            elif digest is not None:
                self._passed[stem, digest] = name
                name, others = None, self.out / name
        self._given.add(name)
        return self.out / name, others


def written_of(folder: Path) -> str | None:
    """SHA-256 of the file that a folder's report.json is about: "" where it does not say, None where there is no
    report.json."""
    try:
        return str(json.loads((folder / "report.json").read_bytes())["sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError):
        return ""
