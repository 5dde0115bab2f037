"""Radiographs to try the page with: a drawn phantom, and two public films once they could be fetched."""

import logging
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pooch

from xr2text.export.files import replacing
from xr2text.phantom.drawing import draw_phantom

log = logging.getLogger(__name__)

# Two radiographs of NIH ChestX-ray14, whose use NIH does not restrict, as they stand among torchxrayvision's tests.
FILMS_URL = "https://raw.githubusercontent.com/mlmed/torchxrayvision/f4087a0b0d0cdc6a5877fb5456965b6d29adb1e5/tests/"
FILMS = {
    "00000001_000.png": "sha256:c8cbe59e6b9b186060dc68e63965658fa6b5b3ada6648d25c189b8b69b43cd4c",
    "00027426_000.png": "sha256:c03ad7e574b14cf8442e61f9a4e849997b5e09f645ece069b714e5d4c5d8a2c2",
}
PHANTOM_SEED, PHANTOM_SIZE, PHANTOM_FINDINGS = 7, 768, ("cardiomegaly",)


@dataclass(frozen=True)
class Example:
    """A file and what the page calls it."""

    path: Path
    label: str


def write_phantom(folder: Path) -> Example:
    """Draws the synthetic phantom as a PNG in `folder`."""
    phantom = draw_phantom(PHANTOM_SEED, PHANTOM_SIZE, PHANTOM_FINDINGS)
    path = folder / "synthetic_phantom.png"
    _, encoded = cv2.imencode(".png", np.round(phantom.pixels * 255).astype(np.uint8))
    with replacing(path) as file:
        file.write(encoded.tobytes())
    return Example(path, "Synthetic phantom")


def fetch_film(name: str, folder: Path, url: str = FILMS_URL, timeout: float = 3.0) -> Example | None:
    """A public film out of the user's cache, where it is fetched to the first time.

    Args:
        name: one of FILMS.
        folder: the cache, made if need be.
        url: where the films lie, ending in "/".
        timeout: seconds without a byte after which to give up.

    Returns:
        The film with the pinned SHA-256, or None where it cannot be had: no network, no such file, other content.
    """
    shelf = pooch.create(path=folder, base_url=url, registry={name: FILMS[name]})
    try:
        path = shelf.fetch(name, downloader=pooch.HTTPDownloader(timeout=timeout))
    except (OSError, ValueError) as error:
        log.info("Example film %s is not offered: %s", name, type(error).__name__)
        return None
    return Example(Path(path), f"NIH film {Path(name).stem}")


class ExampleShelf:
    """The examples on offer: the phantom at once, the films as soon as a background thread has fetched them.

    Args:
        cache: where the films are kept; None for the user's own place ("~/.cache/xr2text" on Linux, $XDG_CACHE_HOME is
            respected).
        url, timeout: see `fetch_film`.
    """

    def __init__(self, cache: Path | None = None, url: str = FILMS_URL, timeout: float = 3.0) -> None:
        pooch.get_logger().setLevel(logging.WARNING)
        self.cache = Path(cache or pooch.os_cache("xr2text"))
        self.folder = tempfile.TemporaryDirectory(prefix="xr2text-examples-")
        self._examples = (write_phantom(Path(self.folder.name)),)
        # A daemon, so that a connection that trickles cannot hold up the end of the process.
        self.fetching = threading.Thread(target=self._fetch, args=(url, timeout), daemon=True)
        self.fetching.start()

    def _fetch(self, url: str, timeout: float) -> None:
        for name in FILMS:
            if film := fetch_film(name, self.cache, url, timeout):
                self._examples = (*self._examples, film)

    def offered(self) -> tuple[Example, ...]:
        return self._examples
