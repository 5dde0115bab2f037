"""A reader's session: the studies that were opened in it, in memory only."""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from xr2text.export.files import FILES, document
from xr2text.export.source import Source, of_one_study, source_of
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.imaging.transform import Geometry
from xr2text.inference.overlay import draw_grey
from xr2text.inference.report import Report
from xr2text.inference.reporter import Reporter

LONG_SIDE = 1024  # pixels of the longer side, as shown and kept
THUMBNAIL = 112  # pixels
KEPT = 8  # studies of the history
LISTED = 60  # studies of the worklist
VERSIONS = 30  # versions of a report for undo
REPORT_SECONDS = 60  # time limit of a report
ZIPPED = ("txt", "json", "png", "pdf", "fhir")
LEVELS = 65535  # 16 bits take half the memory of float32, and no file has finer steps
NO_PIXELS = np.empty((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Version:
    """A report without pixels: the model's draft and the current text. Both are the same where nobody has edited it."""

    draft: Report
    report: Report


@dataclass(frozen=True, eq=False)
class Opened:
    """A radiograph on the page, with its report once it is written.

    Attributes:
        grey: [h, w] uint8, the radiograph as it is drawn, LONG_SIDE on its longer side.
        source: what documents say of its file.
        decoded: the radiograph for a report to be written of, pixels uint16; None of an earlier study.
        versions: of its report, the last one that which stands there; empty before it is written.
        label: by which the history names it; no file name, which may be a patient's.
        lateral: the lateral view of the study.
        credit: where it is from, of an example.
        kept: its report is kept as a correction.
    """

    grey: np.ndarray
    source: Source
    decoded: Radiograph | None = None
    versions: tuple[Version, ...] = ()
    label: str = ""
    lateral: "Opened | None" = None
    credit: str = ""
    kept: bool = False

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """[h, w] uint8, THUMBNAIL on its longer side."""
        scale = THUMBNAIL / max(self.grey.shape)
        return cv2.resize(self.grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    @property
    def bare(self) -> Report | None:
        """The current report, without pixels."""
        return self.versions[-1].report if self.versions else None

    @property
    def is_edited(self) -> bool:
        """Whether a person has changed the report's text, or set a finding."""
        return bool(self.bare and (self.bare.edited or self.bare.set_findings))

    @property
    def report(self) -> Report | None:
        """The current report with the radiograph as it is drawn."""
        if self.bare is None:
            return None
        radiograph, geometry = _drawn(self.grey, self.bare.radiograph, self.bare.geometry)
        report = replace(self.bare, radiograph=radiograph, geometry=geometry)
        if self.bare.lateral is None:
            return report
        lateral, geometry = _drawn(self.lateral.grey, self.bare.lateral, self.bare.lateral_geometry)
        return replace(report, lateral=lateral, lateral_geometry=geometry)

    def document(self, name: str) -> bytes:
        """One of FILES for the report, see `export.files.document`."""
        return document(self.report, name, self.source, self.bare.lateral and self.lateral.source)

    @property
    def changed(self) -> set[tuple[str, str]]:
        """(section, text) of the sentences that the model wrote anew when a finding was last set."""
        if len(self.versions) < 2 or self.versions[-1].draft is self.versions[-2].draft:
            return set()
        before, now = (
            {(sentence.section, sentence.text) for sentence in version.report.sentences}
            for version in self.versions[-2:]
        )
        return now - before

    def edited(self, text: tuple[str, str], former: tuple[str, str] | None = None) -> "Opened":
        """The study with a person's text (findings, impression); itself where the text is unchanged.

        Args:
            former: the text that was edited; where another stands there by now, what was changed is carried over.
        """
        draft = self.versions[-1].draft
        report = draft.with_text(*text)
        if former is not None:
            base = draft.with_text(*former)
            if (base.findings, base.impression) != (self.bare.findings, self.bare.impression):
                report = draft.with_text(*carry_over(Version(base, report), self.bare))
        if (report.findings, report.impression) == (self.bare.findings, self.bare.impression):
            return self
        return self._with(Version(draft, report))

    def undone(self) -> "Opened":
        """The study before the last change of text or findings; itself where there was none."""
        return replace(self, versions=self.versions[:-1], kept=False) if len(self.versions) > 1 else self

    def _with(self, version: Version) -> "Opened":
        return replace(self, versions=(*self.versions, version)[-VERSIONS:], kept=False)

    def rewritten(self, reporter: Reporter, findings: Mapping[str, str]) -> "Opened":
        """The study with a report written anew for these set findings; a person's sentences stay. Raises ImageError
        where it takes too long, FindingError for an unknown finding."""
        former = self.versions[-1]
        try:
            draft = reporter.rewrite(former.draft, findings, REPORT_SECONDS)
        except TimeoutError:
            raise ImageError(GIVEN_UP) from None
        return self._with(Version(draft, draft.with_text(*carry_over(former, draft))))


GIVEN_UP = f"The report was given up after {REPORT_SECONDS} seconds; please try again."


def carry_over(former: Version, draft: Report) -> tuple[str, str]:
    """Applies a person's changes of the former draft to a new draft's two sections. Deleted sentences stay deleted.
    Written sentences follow the same sentence as before, or end the section."""
    sections = []
    for section in ("findings", "impression"):
        before, after, text = (
            [sentence.text for sentence in report.sentences if sentence.section == section]
            for report in (former.draft, former.report, draft)
        )
        text = [sentence for sentence in text if sentence in after or sentence not in before]
        for previous, sentence in zip([None, *after], after, strict=False):
            if sentence not in before and sentence not in text:
                ahead = 0 if previous is None else len(text)
                text.insert(text.index(previous) + 1 if previous in text else ahead, sentence)
        sections.append(" ".join(text))
    return sections[0], sections[1]


@dataclass(frozen=True, eq=False)
class Row:
    """A study of a batch: its file's name, and its report or the reason why there is none."""

    name: str
    opened: Opened | None = None
    refusal: str = ""

    @property
    def is_edited(self) -> bool:
        return self.opened is not None and self.opened.is_edited


@dataclass(frozen=True, eq=False)
class Session:
    """What a reader has open: the current study, the history, and the worklist."""

    opened: Opened | None = None
    studies: tuple[Opened, ...] = ()
    batch: tuple[Row, ...] = field(default=())
    key: str = ""  # gradio's session hash

    def show(self, opened: Opened | None) -> "Session":
        """Puts a study on the page. One with a report also enters the history, in place of its older version; see
        `_newest` for which studies leave."""
        if opened is None or not opened.label:
            return replace(self, opened=opened)
        small = replace(opened, decoded=None, lateral=opened.lateral and replace(opened.lateral, decoded=None))
        studies = [study for study in self.studies if study.label != opened.label]
        rows = [
            replace(row, opened=small) if row.opened and row.opened.label == opened.label else row for row in self.batch
        ]
        kept = _newest(studies, KEPT - 1, [study.is_edited for study in studies])
        return replace(self, opened=opened, studies=(*kept, small), batch=tuple(rows))

    def listing(self, rows: Sequence[Row]) -> "Session":
        """Adds rows to the end of the worklist. Rows of an earlier batch that were never read leave, and others as
        `_newest` says."""
        read = [row for row in self.batch if row.refusal or row.opened.bare]
        kept = _newest(read, LISTED - len(rows), [row.is_edited for row in read])
        return replace(self, batch=(*kept, *rows))

    @property
    def everything(self) -> list[Opened]:
        """All studies of the session, the one on the page first; a study may occur more than once."""
        rows = (row.opened for row in self.batch)
        return [study for study in (self.opened, *self.studies, *rows) if study]

    def find(self, label: str) -> Opened | None:
        """The study with this label; None where there is none."""
        return next((study for study in self.everything if label and study.label == label), None)


def _newest(things: Sequence[Any], count: int, edited: Sequence[bool]) -> list[Any]:
    """The newest `count` things, in their order. The oldest leave, those that nobody has edited first."""
    leaving = sorted(range(len(things)), key=lambda place: (edited[place], place))[: max(0, len(things) - count)]
    return [thing for place, thing in enumerate(things) if place not in leaving]


def _drawn(grey: np.ndarray, radiograph: Radiograph, geometry: Geometry) -> tuple[Radiograph, Geometry]:
    """The radiograph with the pixels that are drawn, and its geometry."""
    pixels = grey.astype(np.float32) / 255
    return replace(radiograph, pixels=pixels), Geometry.fit(*pixels.shape, geometry.size)


def report_in_time(
    reporter: Reporter, radiograph: Radiograph, force: bool = False, findings: Mapping[str, str] | None = None,
    lateral: Radiograph | None = None,
) -> Report:  # fmt: skip
    """`Reporter.report`, with an ImageError where it takes longer than REPORT_SECONDS."""
    try:
        return reporter.report(radiograph, lateral, force=force, max_time=REPORT_SECONDS, findings=findings)
    except TimeoutError:
        raise ImageError(GIVEN_UP) from None


def open_radiograph(content: bytes, credit: str = "") -> Opened:
    """Reads a file's radiograph. Raises ImageError."""
    radiograph = read_radiograph(content)
    pixels = np.round(radiograph.pixels * LEVELS).astype(np.uint16)
    grey, source = draw_grey(radiograph.pixels, LONG_SIDE), source_of(content, radiograph)
    return Opened(grey, source, replace(radiograph, pixels=pixels), credit=credit)


def pair(reporter: Reporter, first: Opened, second: Opened) -> Opened | None:
    """Two radiographs as one study of a frontal and a lateral view. None unless exactly one of them is lateral, by its
    header or the gate, and the headers do not name two studies."""
    views = [reporter.is_lateral(_floats(opened.decoded)) for opened in (first, second)]
    if not of_one_study(first.source, second.source) or sum(views) != 1:
        return None
    return replace(second, lateral=first) if views[0] else replace(first, lateral=second)


def with_lateral(opened: Opened, lateral: Opened) -> Opened:
    """Adds a lateral view to a study. Raises ImageError where its header says that it is none, or of another study."""
    if not of_one_study(opened.source, lateral.source) or lateral.decoded.view in ("PA", "AP"):
        raise ImageError("By its header that is no lateral view of this study; the study is as it was.")
    return replace(opened, lateral=lateral)


def _floats(radiograph: Radiograph) -> Radiograph:
    return replace(radiograph, pixels=radiograph.pixels / np.float32(LEVELS))


def write_report(reporter: Reporter, opened: Opened, label: str, force: bool = False) -> Opened:
    """Writes the report of an opened study from its decoded radiographs. `force` and errors as for `report_in_time`."""
    lateral = opened.lateral and reporter.takes_lateral and _floats(opened.lateral.decoded)
    report = report_in_time(reporter, _floats(opened.decoded), force, lateral=lateral or None)
    side = report.lateral and replace(report.lateral, pixels=NO_PIXELS)
    bare = replace(report, radiograph=replace(report.radiograph, pixels=NO_PIXELS), lateral=side)
    grey = draw_grey(report.radiograph.pixels, LONG_SIDE)
    return replace(opened, grey=grey, versions=(Version(bare, bare),), label=label, kept=False)


def zip_reports(rows: tuple[Row, ...]) -> bytes:
    """A ZIP archive with a folder for each report, named by its place in the batch, and the table of all findings."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("findings.csv", findings_table(rows))
        for number, opened in enumerate((row.opened for row in rows), start=1):
            for name in ZIPPED if opened is not None else ():
                archive.writestr(f"{number:02d}/{FILES[name]}", opened.document(name))
    return content.getvalue()


def findings_table(rows: tuple[Row, ...]) -> bytes:
    """A CSV file with a row for each finding of each study; studies are named by number and their file's SHA-256."""
    content = io.StringIO()
    table = csv.writer(content)
    table.writerow(
        ["number", "sha256", "finding", "probability", "threshold", "present", "set_by", "assessed", "written"]
    )
    for number, opened in enumerate((row.opened for row in rows), start=1):
        for reading in opened.bare.finding_readings if opened else ():
            table.writerow([
                number, opened.source.sha256, reading.name, f"{reading.probability:.4f}", reading.threshold,
                int(reading.seen), "person" if reading.set_to else "model", int(reading.assessed),
                reading.written or "",
            ])  # fmt: skip
    return content.getvalue().encode()
