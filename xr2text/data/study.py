"""The records of a data set: studies and their radiographs, and the errors of a source."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from xr2text.data.shards import open_shard
from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_chest_radiograph
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.sections import ReportText

SPLITS = ("train", "val", "test")
FRONTAL, LATERAL = "frontal", "lateral"
PHANTOM_SIZE = 128  # pixels, at which phantoms are drawn


class DataError(XR2TextError, ValueError):
    """A data set that is not laid out as expected; the message names what was expected and where."""


class UnreadableImageError(DataError):
    """A radiograph that is missing or damaged; the message names the file."""


@dataclass(frozen=True)
class ImageFile:
    """A radiograph on disk, read when it is needed. As a string: its path.

    Attributes:
        view: FRONTAL, LATERAL, or None where nobody says.
        key: what tells it from every other radiograph.
    """

    path: Path
    view: str | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def key(self) -> str:
        return os.path.abspath(self.path)

    def read(self) -> Radiograph:
        """Raises UnreadableImageError, which names the file."""
        try:
            return read_chest_radiograph(self.content())
        except ImageError as error:
            raise UnreadableImageError(f"{self}: {error}") from error

    def version(self) -> str:
        """The version of the file: its size and its time of change. Raises UnreadableImageError where there is none."""
        try:
            state = self.path.stat()
        except OSError as error:
            raise self._missing(error) from error
        return f"{state.st_size} {state.st_mtime_ns}"

    def content(self) -> bytes:
        """The file. Raises UnreadableImageError."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise self._missing(error) from error

    def _missing(self, error: OSError) -> UnreadableImageError:
        return UnreadableImageError(f"{self}: The file cannot be opened ({error.strerror}).")


@dataclass(frozen=True)
class TableImage(ImageFile):
    """A radiograph in a row of a parquet or Arrow file, whose column `image` holds the bytes of an image file."""

    row: int = 0

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}"

    @property
    def key(self) -> str:
        return f"{os.path.abspath(self.path)} {self.row}"

    def content(self) -> bytes:
        try:
            value = open_shard(self.path).image(self.row)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableImageError(f"{self}: {error}") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise UnreadableImageError(f"{self}: column 'image' holds no image's bytes")
        return content


@dataclass(frozen=True)
class PhantomImage:
    """A radiograph drawn when it is read."""

    seed: int
    size: int = PHANTOM_SIZE
    view: str = FRONTAL

    def __str__(self) -> str:
        return f"phantom {self.seed}"

    @property
    def key(self) -> str:
        return f"phantom {self.seed} {self.size} {self.view}"

    def read(self) -> Radiograph:
        phantom = draw_phantom(self.seed, self.size)
        return phantom.radiograph if self.view == FRONTAL else phantom.lateral

    def version(self) -> str:
        return "drawn"


Image = ImageFile | PhantomImage


@dataclass(frozen=True)
class Study:
    """One examination: its radiographs and its report, sections cleaned by `clean_section`.

    Attributes:
        source_findings: the findings section as the source has it, for scores that have their own cleaning.
        labels: findings, 1 present, 0 absent, -1 uncertain; of one that is not listed nothing is known.
        masks: files that outline the right lung, the left lung and the heart.
    """

    id: str
    patient: str
    images: tuple[Image, ...]
    findings: str = ""
    impression: str = ""
    split: str = "train"
    source_findings: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)
    masks: tuple[Path, Path, Path] | None = None

    @property
    def report(self) -> ReportText:
        return ReportText(self.findings, self.impression)

    @property
    def frontal_places(self) -> list[int]:
        """Places of the frontal radiographs among the images. Where no image is known to be frontal, the first one of
        unknown view counts as frontal, as it mostly is."""
        views = [image.view for image in self.images]
        return [place for place, view in enumerate(views) if view == FRONTAL] or (
            [views.index(None)] if None in views else []
        )

    @property
    def lateral_image(self) -> Image | None:
        """The first lateral radiograph; None where there is none, or no frontal one beside it."""
        if not self.frontal_places:
            return None
        return next((image for image in self.images if image.view == LATERAL), None)

    @property
    def frontal_images(self) -> tuple[Image, ...]:
        return tuple(self.images[place] for place in self.frontal_places)

    @property
    def main_image(self) -> Image:
        """The radiograph that the study is read from: its first frontal one, else its first image."""
        return (self.frontal_images or self.images)[0]


@dataclass
class Faults:
    """What is wrong with single entries of a source: raised at once, or collected to be listed together.

    Attributes:
        strict: whether the first one is raised.
        found: (fault, text) of the collected ones; faults are "duplicate image", "duplicate study", "two splits" and
            "bad entry".
    """

    strict: bool = True
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, fault: str, text: str) -> None:
        """Raises DataError where `strict`."""
        if self.strict:
            raise DataError(text)
        self.found.append((fault, text))
