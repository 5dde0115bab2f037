"""Files and folders that are there only once they are whole."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRAFT = ".draft"
PACKAGE = Path(__file__).resolve().parent
ABANDONED = 3600  # seconds after which nobody is still at work on a draft


def shipped(name: str) -> Path:
    """The folder of a shipped checkpoint: inside an installed package, or beside the package in a copy of the
    repository."""
    inside = PACKAGE / "checkpoints" / name
    return inside if inside.is_dir() else PACKAGE.parent / "checkpoints" / name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a draft to fill, which replaces `path` at the end. If the process is stopped, `path` is either the old file
    or the whole new one; a draft may be left, see `remove_drafts`. Processes of several machines may write the same
    file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{DRAFT}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Gives a draft to fill, which replaces `folder` at the end. On an error `folder` is unchanged; a kill between the
    two renames leaves the old folder beside it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        for file in draft.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old / folder.name)
            os.replace(draft, folder)
            shutil.rmtree(old)
        else:
            os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Removes the drafts of killed processes: those older than ABANDONED."""
    for draft in folder.rglob(f".*{DRAFT}"):
        try:
            if time.time() - draft.stat().st_mtime > ABANDONED:
                draft.unlink()
        except FileNotFoundError:
            pass  # its process has just ended
