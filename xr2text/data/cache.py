"""The image cache: radiographs at the model's size on disk, so that originals are decoded (and phantoms drawn) only
once.

    FOLDER/images-256px/3f/9a....png    the image on the model's canvas without its padding, grey, 8 bits, lossless

An entry's name is a hash of the original's key, such as its path. It records the original's version and the recipe by
which it was made, so that an entry that is out of date is replaced. Its pixels are, bit for bit, those that the
original would give.

Shapes: S side of the canvas.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from xr2text.data.study import Image, UnreadableImageError
from xr2text.files import atomic_write
from xr2text.imaging.transform import Geometry, autocontrast, letterbox

RECIPE = 1  # increased when the steps from file to canvas change
_MARK = "xr2text"
_LEVEL = 1  # PNG compression level: the fastest


def canvas_of(image: Image, size: int) -> tuple[np.ndarray, Geometry]:
    """A radiograph on the model's canvas, uint8 [S, S]. Raises UnreadableImageError."""
    pixels, geometry = letterbox(autocontrast(image.read().pixels), size)
    return np.round(pixels * 255).astype(np.uint8), geometry


@dataclass(frozen=True)
class ImageCache:
    """Entries in `folder` for a canvas of side `size`."""

    folder: Path
    size: int

    def read(self, image: Image) -> tuple[np.ndarray, Geometry]:
        """The same as `canvas_of`, taken from the cache entry, which is made first where it is missing or out of date.

        Raises:
            UnreadableImageError: the original is missing or damaged.
            OSError: the entry cannot be written.
        """
        return self._entry(image) or self._make(image)

    def prepare(self, image: Image) -> str:
        """Makes the entry unless it is up to date. Returns "kept", "made", or why the original cannot be read."""
        try:
            if self._entry(image):
                return "kept"
            self._make(image)
        except UnreadableImageError as error:
            return str(error)
        return "made"

    def path(self, image: Image) -> Path:
        """Where an image's entry lies."""
        name = hashlib.sha256(image.key.encode()).hexdigest()[:40]
        return self.folder / f"images-{self.size}px" / name[:2] / f"{name[2:]}.png"

    def _entry(self, image: Image) -> tuple[np.ndarray, Geometry] | None:
        """The content of the entry; None where it is missing, damaged or out of date."""
        version = _version(image)
        try:
            with Pillow.open(self.path(image), formats=["PNG"]) as entry:
                found, height, width = entry.info.get(_MARK, "0 0 0").rsplit(" ", 2)
                if found != version:
                    return None
                inner = np.asarray(entry)
        except (OSError, SyntaxError, ValueError):  # Pillow's errors for a truncated file, too
            return None
        geometry = Geometry.fit(int(height), int(width), self.size)
        canvas = np.zeros((self.size, self.size), np.uint8)
        canvas[_inside(geometry)] = inner
        return canvas, geometry

    def _make(self, image: Image) -> tuple[np.ndarray, Geometry]:
        version, (canvas, geometry) = _version(image), canvas_of(image, self.size)
        about = PngImagePlugin.PngInfo()
        about.add_text(_MARK, f"{version} {geometry.height} {geometry.width}")
        with atomic_write(self.path(image)) as draft:
            Pillow.fromarray(canvas[_inside(geometry)]).save(draft, format="PNG", pnginfo=about, compress_level=_LEVEL)
        return canvas, geometry


def _version(image: Image) -> str:
    """Identifies the recipe and the version of the original."""
    return f"{RECIPE} {image.version()}"


def _inside(geometry: Geometry) -> tuple[slice, slice]:
    """The image's rows and columns on the canvas."""
    return (
        slice(geometry.top, geometry.top + geometry.inner_height),
        slice(geometry.left, geometry.left + geometry.inner_width),
    )
