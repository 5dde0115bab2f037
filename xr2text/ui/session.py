"""What one session of the page keeps: the studies that were read in it, in memory and nowhere else."""

import io
import zipfile
from dataclasses import dataclass, replace

import numpy as np

from xr2text.export.files import FILES, document
from xr2text.export.source import Source, source_of
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.overlay import draw_grey
from xr2text.inference.reporter import Report, Reporter

LONG_SIDE = 1024  # pixels of a radiograph as it is shown and kept
KEPT = 8  # studies of a session
REPORT_SECONDS = 60  # in which a report is written or given up
ZIPPED = ("txt", "json", "png", "pdf", "fhir")
LEVELS = 65535  # in 16 bits a radiograph that waits for its report takes half the memory, and no file has finer steps
NO_PIXELS = np.empty((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Opened:
    """A radiograph on the page, and its report once there is one.

    Attributes:
        grey: [h, w] uint8, the radiograph as it is drawn, LONG_SIDE on its longer side.
        source: what documents say of its file.
        decoded: the radiograph for a report to be written of, pixels uint16; None of an earlier study.
        bare: the report without pixels, which `grey` holds; None before it is written.
        label: by which the history names it; no file name, which may be a patient's.
    """

    grey: np.ndarray
    source: Source
    decoded: Radiograph | None = None
    bare: Report | None = None
    label: str = ""

    @property
    def report(self) -> Report | None:
        """The report, on the radiograph as it is drawn."""
        if self.bare is None:
            return None
        pixels = self.grey.astype(np.float32) / 255
        geometry = Geometry.fit(*pixels.shape, self.bare.geometry.size)
        return replace(self.bare, radiograph=replace(self.bare.radiograph, pixels=pixels), geometry=geometry)

    def edited(self, findings: str, impression: str) -> "Opened":
        """The same with a person's text; itself where that is the text that stands there."""
        bare = self.bare.with_text(findings, impression)
        return self if bare is self.bare else replace(self, bare=bare)


def report_in_time(reporter: Reporter, radiograph: Radiograph, force: bool = False) -> Report:
    """`Reporter.report`, with an ImageError also where it takes longer than REPORT_SECONDS."""
    try:
        return reporter.report(radiograph, force, REPORT_SECONDS)
    except TimeoutError:
        raise ImageError(f"The report was given up after {REPORT_SECONDS} seconds; please try again.") from None


def open_radiograph(content: bytes) -> Opened:
    """A file's radiograph, without a report. Raises ImageError."""
    radiograph = read_radiograph(content)
    pixels = np.round(radiograph.pixels * LEVELS).astype(np.uint16)
    grey, source = draw_grey(radiograph.pixels, LONG_SIDE), source_of(content, radiograph)
    return Opened(grey, source, replace(radiograph, pixels=pixels))


def write_report(reporter: Reporter, opened: Opened, label: str, force: bool = False) -> Opened:
    """The same with a report of its decoded radiograph. `force` and errors as `report_in_time` has them."""
    radiograph = replace(opened.decoded, pixels=opened.decoded.pixels / np.float32(LEVELS))
    report = report_in_time(reporter, radiograph, force)
    bare = replace(report, radiograph=replace(report.radiograph, pixels=NO_PIXELS))
    return replace(opened, grey=draw_grey(report.radiograph.pixels, LONG_SIDE), bare=bare, label=label)


def remember(studies: list[Opened], opened: Opened) -> list[Opened]:
    """The session's studies with this one at the end, in place of a former one of its label; the oldest leave."""
    earlier = [study for study in studies if study.label != opened.label]
    return [*earlier, replace(opened, decoded=None)][-KEPT:]


def zip_reports(results: list[Opened | None]) -> bytes:
    """A ZIP with a folder for each report, named by its place in the batch."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, opened in enumerate(results, start=1):
            for name in ZIPPED if opened is not None else ():
                archive.writestr(f"{number:02d}/{FILES[name]}", document(opened.report, name, opened.source))
    return content.getvalue()
