"""What every source gives: studies, their radiographs, and what is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.sections import ReportText

SPLITS = ("train", "val", "test")
FRONTAL, LATERAL = "frontal", "lateral"


class DataError(XR2TextError, ValueError):
    """A data set that is not laid out as expected; the message names what was expected and where."""


class UnreadableImageError(DataError):
    """A radiograph that is missing or damaged; the message names the file."""


class Image(Protocol):
    """A radiograph that is read when it is needed. `view` is "frontal", "lateral" or None where nobody says."""

    view: str | None

    def read(self) -> Radiograph:
        """Raises UnreadableImageError, which names the file."""


@dataclass(frozen=True)
class ImageFile:
    """A radiograph on disk."""

    path: Path
    view: str | None

    def read(self) -> Radiograph:
        """Raises UnreadableImageError, which names the file, where `read_radiograph` refuses it."""
        try:
            return read_radiograph(self.path)
        except ImageError as error:
            raise UnreadableImageError(f"{self.path}: {error}") from error


@dataclass(frozen=True)
class PhantomImage:
    """A radiograph drawn when it is read."""

    seed: int
    size: int
    view: str = FRONTAL

    def read(self) -> Radiograph:
        return draw_phantom(self.seed, self.size).radiograph


@dataclass(frozen=True)
class Study:
    """One examination: its radiographs and its report, sections cleaned by `clean_section`.

    `source_findings` is the findings section as the source has it, character by character, for scores that have their
    own cleaning.
    """

    id: str
    patient: str
    images: tuple[Image, ...]
    findings: str
    impression: str
    indication: str
    comparison: str
    split: str
    source_findings: str
    # Findings: 1 present, 0 absent, -1 uncertain; of a finding that is not there nothing is known.
    labels: Mapping[str, int] = field(default_factory=dict)
    masks: tuple[Path, Path, Path] | None = None  # files that outline the right lung, the left lung and the heart

    @property
    def report(self) -> ReportText:
        return ReportText(self.findings, self.impression)

    @property
    def frontal_images(self) -> tuple[Image, ...]:
        """The frontal radiographs; where no view is known, the first image, which is the frontal one by custom."""
        frontal = tuple(image for image in self.images if image.view == FRONTAL)
        return frontal or tuple(image for image in self.images if image.view is None)[:1]


@dataclass
class Faults:
    """What is wrong with single entries of a source: raised at once, or collected to be listed together.

    Attributes:
        strict: whether the first one is raised.
        found: (kind, text) of the collected ones; kinds are "missing image", "duplicate study", "two splits" and
            "bad entry".
    """

    strict: bool = True
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """Raises DataError where `strict`."""
        if self.strict:
            raise DataError(text)
        self.found.append((kind, text))
