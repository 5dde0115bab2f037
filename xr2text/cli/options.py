"""Options that several commands share."""

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """An OSError inside becomes a sentence that names `path`."""
    try:
        yield
    except OSError as error:
        raise XR2TextError(f"{path} could not be written: {error}") from error


@contextmanager
def lasting_imports() -> Iterator[None]:
    """What is imported inside is not looked through for garbage, since it lives as long as the process: 6.2 s, not
    9.7 s, for `xr2text report FILE` on two cores. Such a process ends by `leave`."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def leave(code: int) -> NoReturn:
    """Ends the process without taking apart what it has imported: libraries would call what `lasting_imports` keeps
    leaked, in thirty lines."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody listens any more
            stream.flush()
    os._exit(code)
