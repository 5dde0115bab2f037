"""The examples of the page: a drawn phantom, and two public radiographs once they are downloaded."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pooch

from xr2text.imaging.read import read_radiograph
from xr2text.inference.overlay import draw_grey
from xr2text.phantom.drawing import draw_phantom

log = logging.getLogger(__name__)

# Two radiographs of NIH ChestX-ray14, whose use NIH does not restrict, from torchxrayvision's tests.
URL = "https://raw.githubusercontent.com/mlmed/torchxrayvision/f4087a0b0d0cdc6a5877fb5456965b6d29adb1e5/tests/"
PUBLIC = {
    "00000001_000.png": "sha256:c8cbe59e6b9b186060dc68e63965658fa6b5b3ada6648d25c189b8b69b43cd4c",
    "00027426_000.png": "sha256:c03ad7e574b14cf8442e61f9a4e849997b5e09f645ece069b714e5d4c5d8a2c2",
}
PHANTOM_SEED, PHANTOM_SIZE, PHANTOM_FINDINGS = 7, 768, ("cardiomegaly",)
DRAWN = "Drawn by the program; no radiograph of a person."
CREDIT = "NIH Clinical Center, ChestX-ray14 (Wang et al., CVPR 2017)."


@dataclass(frozen=True)
class Example:
    """A file to try the page with, and its origin."""

    content: bytes
    about: str

    def thumbnail(self, side: int) -> np.ndarray:
        """[h, w] uint8, with `side` pixels on its longer side."""
        return draw_grey(read_radiograph(self.content).pixels, side)


class Examples:
    """The examples of the page, by name in `offered`: the phantom at once, the others as soon as a thread has fetched
    them.

    Args:
        cache: where these are kept; None for the user's own place ("~/.cache/xr2text" on Linux, $XDG_CACHE_HOME is
            respected).
        url, timeout: see `fetch`.
    """

    def __init__(self, cache: Path | None = None, url: str = URL, timeout: float = 3.0) -> None:
        pooch.get_logger().setLevel(logging.WARNING)
        pixels = draw_phantom(PHANTOM_SEED, PHANTOM_SIZE, PHANTOM_FINDINGS).pixels
        phantom = cv2.imencode(".png", np.round(pixels * 255).astype(np.uint8))[1].tobytes()
        self.offered = {"Synthetic phantom": Example(phantom, DRAWN)}
        # A daemon, so that a slow connection does not delay the end of the process.
        self.fetching = threading.Thread(target=self._fetch_all, args=(cache, url, timeout), daemon=True)
        self.fetching.start()

    def _fetch_all(self, cache: Path | None, url: str, timeout: float) -> None:
        for name in PUBLIC:
            content = fetch(name, cache or pooch.os_cache("xr2text"), url, timeout)
            if content is not None:
                self.offered = {**self.offered, f"NIH {Path(name).stem}": Example(content, CREDIT)}


def fetch(name: str, cache: Path, url: str = URL, timeout: float = 3.0) -> bytes | None:
    """The content of one of PUBLIC, from the cache; it is downloaded on first use.

    Args:
        url: where they lie, ending in "/".
        timeout: seconds without a byte after which to give up.

    Returns:
        None where the content with the pinned SHA-256 cannot be had.
    """
    shelf = pooch.create(path=cache, base_url=url, registry={name: PUBLIC[name]})
    try:
        return Path(shelf.fetch(name, downloader=pooch.HTTPDownloader(timeout=timeout))).read_bytes()
    except (OSError, ValueError) as error:
        log.info("Example %s is not offered: %s", name, type(error).__name__)
        return None
