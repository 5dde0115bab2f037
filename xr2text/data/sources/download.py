"""The original Open-i download, which is public: archives that are fetched, checked and unpacked.

ROOT/NLMCXR_reports.tgz, ROOT/NLMCXR_png.tgz    as fetched; *.part while they are not whole
ROOT/downloads.json                             size and SHA-256 of each, as first fetched
ROOT/ecgen-radiology/*.xml, ROOT/png/*.png      unpacked
"""

import hashlib
import json
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import requests
import urllib3
from tqdm.auto import tqdm

from xr2text.data.study import DataError
from xr2text.files import atomic_write

OPENI = "https://openi.nlm.nih.gov/imgs/collections"
ARCHIVES = {"NLMCXR_reports.tgz": ".", "NLMCXR_png.tgz": "png"}  # and where under ROOT they are unpacked
RECORD = "downloads.json"
TRIES = 5  # without a byte between them
BLOCK = 2**20
_BROKEN = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)


def download_openi(root: Path, address: str = OPENI, progress: bool = True) -> None:
    """Fetches and unpacks what is not yet there. Stopped at any moment, it goes on where it was.

    The collection's publisher gives no checksums: an archive is whole by the size that the server says and by gzip's
    own checksum, and its SHA-256 is kept, against which later runs hold it.

    Raises:
        DataError: the server cannot be reached or breaks off again and again, or an archive is damaged.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, folder in ARCHIVES.items():
        archive, marker = root / name, root / f".{name}.unpacked"
        if not archive.is_file():
            fetch(f"{address}/{name}", archive, progress)
            marker.unlink(missing_ok=True)
        if not marker.is_file():
            _check_digest(archive)
            unpack(archive, root / folder, progress)
            marker.touch()


def fetch(url: str, path: Path, progress: bool = True) -> None:
    """Fetches a file; a part that is there already is gone on with, if the server still has the same file.

    Raises:
        DataError: the server refuses, cannot be reached, or breaks off `TRIES` times without a byte between.
    """
    part, version = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.version")
    tries = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _fetch_rest(url, part, version, progress):
                break
            reason = "the connection was closed"
        except _BROKEN as error:
            reason = str(error)
        after = part.stat().st_size if part.is_file() else 0
        tries = 0 if after > before else tries + 1
        if tries == TRIES:
            raise DataError(f"{url} broke off at {after:,} bytes: {reason}; started again, it goes on from there")
    os.replace(part, path)
    version.unlink(missing_ok=True)


def _fetch_rest(url: str, part: Path, version: Path, progress: bool) -> bool:
    """Asks for what is missing; whether the file is then whole."""
    have = part.stat().st_size if part.is_file() and version.is_file() else 0
    # Without If-Range, a file that has changed meanwhile would be joined to the beginning of the other.
    headers = {"Range": f"bytes={have}-", "If-Range": version.read_text()} if have else {}
    with requests.get(url, headers=headers | {"Accept-Encoding": "identity"}, stream=True, timeout=60) as answer:
        if answer.status_code == 416:  # nothing is left, or the part is of another file
            whole = answer.headers.get("Content-Range", "").endswith(f"/{have}")
            if not whole:
                part.unlink()
            return whole
        if not answer.ok:
            raise DataError(f"{url}: the server answers {answer.status_code} {answer.reason}")
        if answer.status_code != 206:
            have = 0
            tag = answer.headers.get("ETag", "")
            tag = answer.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
            part.unlink(missing_ok=True)
            version.unlink(missing_ok=True)
            if tag:
                version.write_text(tag)
        total = have + int(answer.headers.get("Content-Length", 0)) or None
        with (
            part.open("ab") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress) as bar,
        ):
            while block := answer.raw.read1(BLOCK):  # what is there, so that nothing is lost when it breaks off
                file.write(block)
                bar.update(len(block))
    return total is None or part.stat().st_size == total


def _check_digest(archive: Path) -> None:
    """Holds an archive against its record, or records it. Raises DataError where it is another."""
    record = archive.parent / RECORD
    known = json.loads(record.read_text()) if record.is_file() else {}
    with archive.open("rb") as file:
        own = {"bytes": archive.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if known.setdefault(archive.name, own) != own:
        raise DataError(
            f"{archive} is not as it was fetched (SHA-256 {own['sha256']}, {RECORD} has "
            f"{known[archive.name]['sha256']}); remove it, and it is fetched anew"
        )
    with atomic_write(record) as draft:
        draft.write_text(json.dumps(known, indent=2) + "\n")


def unpack(archive: Path, folder: Path, progress: bool = True) -> None:
    """Unpacks the files of a gzipped tar archive; each is there whole or not at all, and one that is there stays.

    Raises:
        DataError: the archive is damaged, or holds a path that leads out of the folder.
    """
    bar = tqdm(desc=f"unpacking {archive.name}", unit="file", disable=not progress, mininterval=2)
    try:
        with bar, tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise DataError(f"{archive} holds {member.name}, which leads out of {folder}")
                target = folder / name
                if not member.isfile() or (target.is_file() and target.stat().st_size == member.size):
                    continue
                with atomic_write(target) as draft:
                    draft.write_bytes(opened.extractfile(member).read())
                bar.update()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise DataError(f"{archive} is damaged: {error}; remove it, and it is fetched anew") from error
