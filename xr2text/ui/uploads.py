"""Uploads: each file has a folder of its own, and is deleted once it is read."""

import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import route_utils
from gradio.data_classes import ListFiles
from gradio.exceptions import InvalidPathError

from xr2text.imaging.radiograph import MAX_BYTES, ImageError

LIFE = 900  # seconds after which an unread upload is deleted
NOT_SENT = "Only a file that was sent to this page is read; please send it first."
UNREADABLE = "The request cannot be read; a file is uploaded first, then named by the path that the upload answers."


class _FolderPerUpload(route_utils.GradioUploadFile):
    """Gives each upload a folder of its own. gradio names folders by content: if two readers sent the same file, the
    first report would delete it for the second."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sha.update(secrets.token_bytes(16))


route_utils.GradioUploadFile = _FolderPerUpload


def upload(**settings: Any) -> gr.File:
    """A file input whose handler gets the paths of the uploaded files. It never fetches a file from an address.

    Its methods are the instance's own, because gradio writes a .pyi file beside every subclass of a component.
    """
    file = gr.File(**settings)
    to_cache = file.async_move_resource_to_block_cache

    async def refuse_addresses(path: str | Path | None) -> str | None:
        if path is not None and str(path).startswith(("http://", "https://")):
            raise gr.Error("Send the file itself, not its address.", print_exception=False)
        if path is not None and os.path.isdir(path):  # gradio would later try to delete it as a file
            raise gr.Error(NOT_SENT, print_exception=False)
        return await to_cache(path)

    def paths_of(payload: Any) -> str | list[str] | None:
        # gradio's preprocess leaves an empty file behind with each call.
        if payload is None:
            return None
        paths = [sent.path for sent in (payload if isinstance(payload, ListFiles) else [payload])]
        return paths if file.file_count == "multiple" else paths[0]

    file.async_move_resource_to_block_cache, file.preprocess = refuse_addresses, paths_of
    return file


def refuse_other_files(page: gr.Blocks) -> None:
    """Answers requests that name a file which was not sent to the page, or that are malformed, with a sentence.
    gradio's own errors tell the caller nothing and write the path into the server's log. Trailing inputs may be
    omitted."""
    preprocess = page.preprocess_data

    async def preprocess_in_words(called: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        given = [*inputs, *[None] * (len(called.inputs) - len(inputs))] if inputs else inputs
        try:
            return await preprocess(called, given, *args, **kwargs)
        except gr.Error:
            raise
        except (InvalidPathError, OSError):
            raise gr.Error(NOT_SENT, print_exception=False) from None
        except ValueError:  # also pydantic's errors, which repeat the request
            raise gr.Error(UNREADABLE, print_exception=False) from None

    page.preprocess_data = preprocess_in_words


def sent_paths(paths: Any) -> list[str]:
    """Checks that the paths of an event are uploads of this page. Raises gr.Error where one is not."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")).resolve()
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise gr.Error(UNREADABLE, print_exception=False)
    for path in paths:
        if "\0" in path or not Path(path).resolve().is_relative_to(folder):
            raise gr.Error(NOT_SENT, print_exception=False)
    return paths


def read_once(path: str) -> bytes:
    """Reads an upload and deletes its file. Raises ImageError where the file is gone."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise ImageError("The file is no longer there; please choose it again.") from None
    finally:
        delete([path])


def delete(paths: Iterable[str]) -> None:
    """Deletes uploads and their folders."""
    for path in map(Path, paths):
        with suppress(OSError, ValueError):
            path.unlink()
            path.parent.rmdir()


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder for the uploads of this process, removed at its end. Files that lie there for LIFE seconds are
    deleted."""
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="xr2text-uploads-", dir=parent, ignore_cleanup_errors=True) as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        if server := sys.modules.get("gradio.mcp"):  # it has read the variable already
            server.DEFAULT_TEMP_DIR = name
        ended = threading.Event()
        threading.Thread(target=_sweep_until, args=[ended, Path(name)], daemon=True).start()
        yield Path(name)
        ended.set()


def _sweep_until(ended: threading.Event, folder: Path) -> None:
    while not ended.wait(60):
        sweep(folder, LIFE)


def sweep(folder: Path, age: float) -> None:
    """Deletes files older than `age` seconds: broken transfers, and uploads that nobody came to read."""
    for parent, _, names in os.walk(folder):  # os.walk ignores folders that vanish meanwhile
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > age:
                    delete([str(path)])
