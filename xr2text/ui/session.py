"""What one session of the page keeps: the studies that were read in it, in memory and nowhere else."""

import contextvars
import ctypes
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from pydicom import Dataset

from xr2text.export.dicom_sr import image_reference
from xr2text.export.files import DOCUMENTS, FILES, ExportError, document
from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.overlay import draw_grey
from xr2text.inference.reporter import Report, Reporter

LONG_SIDE = 1024  # pixels of a radiograph as it is shown and kept
KEPT = 8  # studies of a session
REPORT_SECONDS = 60  # in which a report is written or given up
WRITERS = 4  # more than one, so that a late one stops nobody
ALL_FILES = {**FILES, **DOCUMENTS}
ZIPPED = (*FILES, "pdf", "fhir")
_writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="report")


@dataclass(frozen=True, eq=False)
class Opened:
    """A radiograph on the page, and its report once there is one.

    Attributes:
        grey: [h, w] uint8, the radiograph as it is drawn, LONG_SIDE on its longer side.
        bare: the report without pixels, which `grey` holds; None before it is written.
        label: by which the session's list names it; no file name, which may be a patient's.
        reference: what a DICOM Structured Report must know of the file; None where that was none.
    """

    grey: np.ndarray
    bare: Report | None = None
    label: str = ""
    reference: Dataset | None = None

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


def open_film(content: bytes) -> tuple[Opened, tuple[int, int]]:
    """A radiograph without a report, and its (height, width). Raises ImageError."""
    try:
        radiograph = read_radiograph(content)
        return Opened(draw_grey(radiograph.pixels, LONG_SIDE)), radiograph.pixels.shape
    finally:
        _give_back()


def report_in_time(reporter: Reporter, content: bytes, force: bool = False) -> Report:
    """`Reporter.report`, with an ImageError also where it takes longer than REPORT_SECONDS; its thread is then free as
    soon as the search has come to its next step."""
    future = _writers.submit(contextvars.copy_context().run, reporter.report, content, force, REPORT_SECONDS)
    try:
        return future.result(REPORT_SECONDS)
    except TimeoutError:
        future.cancel()
        raise ImageError(f"The report was given up after {REPORT_SECONDS} seconds; please try again.") from None
    finally:
        _give_back()


def _give_back() -> None:
    """glibc keeps what is freed between blocks that are in use, and a process of many threads so grows with every film
    though it holds no more; this returns it to the system in some 2 ms. Another C library has no such call."""
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)


def report_film(reporter: Reporter, content: bytes, label: str, force: bool = False) -> Opened:
    """A radiograph with its report; `force` and errors as `report_in_time` has them."""
    report = report_in_time(reporter, content, force)
    try:
        reference = image_reference(content)
    except ExportError:
        reference = None
    bare = replace(report, radiograph=replace(report.radiograph, pixels=np.empty((0, 0), np.float32)))
    return Opened(draw_grey(report.radiograph.pixels, LONG_SIDE), bare, label, reference)


def remember(history: list[Opened], one: Opened) -> list[Opened]:
    """The session's list with `one` at its end, in place of a former one of the same label; the oldest leave."""
    return [*(other for other in history if other.label != one.label), one][-KEPT:]


def zip_reports(opened: list[Opened | None]) -> bytes:
    """A ZIP with a folder for each report, named by its place in the batch."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, one in enumerate(opened, start=1):
            for name in ZIPPED if one is not None else ():
                archive.writestr(f"{number:02d}/{ALL_FILES[name]}", document(one.report, name))
    return content.getvalue()
