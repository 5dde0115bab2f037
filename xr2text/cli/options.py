"""Options that several commands share."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from xr2text.config import SOURCES
from xr2text.errors import XR2TextError
from xr2text.files import shipped

LAYOUTS = tuple(name for name in SOURCES if name != "phantom")


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", default=shipped("xr2text-iu"), help="folder or Hugging Face Hub id; default: the one that ships"
    )


@contextmanager
def written_to(path: Path | str) -> Iterator[None]:
    """Turns an OSError inside into an XR2TextError, a sentence that names `path`."""
    try:
        yield
    except OSError as error:
        raise XR2TextError(f"{path} could not be written: {error}") from error


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Keeps the garbage collector from searching the modules imported inside, which live as long as the process. On two
    cores `xr2text report FILE` then takes 6.2 s in place of 9.7 s. Such a process must end by `leave_by`."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def leave_by(main: Callable[[], int | None]) -> NoReturn:
    """Ends the process as `main` does, but frees no module: for what `lasting_imports` keeps, libraries would print
    thirty lines about leaks."""
    try:
        code = main() or 0
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except BrokenPipeError:  # the reader of the pipe has gone
        code = code or 1
    except OSError as error:
        os.write(2, f"the output could not be written: {error}\n".encode())
        code = code or 1
    os._exit(code)
