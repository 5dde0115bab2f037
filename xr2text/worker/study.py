"""Reads a study: from its images to the documents of its report."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Union

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedSRStorage, generate_uid

from xr2text.export.source import Source, source_of
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_chest_radiograph

if TYPE_CHECKING:
    from xr2text.inference.reporter import Report, Reporter

MAX_IMAGES = 8  # images of a study that are read at most
VIEWS = ("PA", "AP", None, "lateral")  # in the order in which a report is tried
_TIMES = ("AcquisitionDate", "AcquisitionTime", "ContentTime", "InstanceNumber")
_DICOM = Radiograph(np.zeros((1, 1), np.float32), "DICOM")  # stands in for an image that was not decoded


@dataclass(frozen=True, eq=False)
class Film:
    content: bytes
    radiograph: Radiograph

    @cached_property
    def taken(self) -> tuple[str, ...]:
        """Sort key of when the image was taken."""
        header = dcmread(BytesIO(self.content), stop_before_pixels=True, force=True, specific_tags=list(_TIMES))
        raw = [header.get_item(name).value or b"" if name in header else b"" for name in _TIMES]  # without conversion
        *times, number = (value.decode("latin-1").strip() for value in raw)
        return (*times, number.zfill(12))

    @property
    def source(self) -> Source:
        return source_of(self.content, self.radiograph, identity=True)


@dataclass(frozen=True)
class Refusal:
    """Why a study has no report; has the fields of a report that a Structured Report needs."""

    reasons: tuple[str, ...]
    model: str
    impression: str = ""
    edited: bool = False
    warnings: tuple[str, ...] = ()
    sentences: tuple = ()
    set_findings: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> str:
        return " ".join(["No report was written.", *self.reasons])


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to a study: a report or a refusal.

    Attributes:
        source, lateral: the images that the report was written from. For a refusal, `source` is the first image, if it
            can be referred to.
        reasons: why other images of the study were not read, a sentence each.
    """

    report: Union["Report", Refusal]
    source: Source | None = None
    lateral: Source | None = None
    reasons: tuple[str, ...] = ()


def answer(reporter: "Reporter", images: Sequence[str], fetch: Callable[[str], bytes]) -> Answer:
    """Reads a study: its newest frontal radiograph that passes the gate, PA before AP, with its newest lateral one.

    Args:
        images: their names.
        fetch: gives the file of one; an ImageError says why it cannot.
    """
    films, reasons, first = [], [], b""
    if len(images) > MAX_IMAGES:
        reasons.append(f"The study has {len(images)} images; the first {MAX_IMAGES} were looked at.")
    for image in images[:MAX_IMAGES]:
        try:
            content = fetch(image)
            first = first or content
            films.append(Film(content, read_chest_radiograph(content)))
        except ImageError as error:
            reasons.append(str(error))
    films.sort(key=lambda film: film.taken, reverse=True)
    laterals = [film for film in films if reporter.is_lateral(film.radiograph)] if len(films) > 1 else []
    frontals = [film for film in films if film not in laterals] or films
    lateral = laterals[0] if laterals and frontals is not films else None
    report, read = None, None
    for film in sorted(frontals, key=lambda film: VIEWS.index(film.radiograph.view)):
        if report is not None:
            reasons.append("Another frontal radiograph of the study was read.")
            continue
        try:
            report = reporter.report(film.radiograph, lateral and lateral.radiograph)
            read = film
        except ImageError as error:
            reasons.append(str(error))
    if report is None:
        source = source_of(first, _DICOM, identity=True)
        return Answer(Refusal(tuple(dict.fromkeys(reasons)), reporter.model_name), source if source.header else None)
    if frontals is not films:
        reasons += ["A lateral radiograph of the study was not read."] * (len(laterals) - (report.lateral is not None))
    notes = tuple(f"Another image of the study has no report: {reason}" for reason in dict.fromkeys(reasons))
    report = replace(report, warnings=(*report.warnings, *notes))
    return Answer(report, read.source, lateral.source if report.lateral is not None else None, tuple(reasons))


def documents(
    given: Answer, kinds: Iterable[str], images: str, number: int, previous: str | None
) -> Iterator[tuple[str, str, bytes]]:
    """The DICOM files of an answer: kind, UID and content of each.

    Args:
        kinds: "sr", "sc", "pdf"; of a refusal "sr" alone.
        images: names the study's images.
        number: of the version. The objects' UIDs are derived from it and the images, so that a repeat makes the same.
        previous: UID of the Structured Report of the version before, if there is one.

    Raises:
        ExportError: see `export.dicom_sr.structured_report`.
    """
    from xr2text.export.dicom_sr import structured_report

    study = given.source.header.StudyInstanceUID if given.source and given.source.header else ""
    for kind in kinds:
        series = generate_uid(entropy_srcs=[study, kind])
        uids = (series, generate_uid(entropy_srcs=[study, kind, images, given.report.model, str(number)]))
        if kind == "sr":
            before = previous and _reference(study, series, previous)
            made = structured_report(given.report, given.source, given.lateral, uids, number, before)
        else:
            from xr2text.export.secondary_capture import encapsulated_pdf, secondary_capture

            make = secondary_capture if kind == "sc" else encapsulated_pdf
            made = make(given.report, given.source, given.lateral, uids, number)
        content = BytesIO()
        made.save_as(content)
        yield kind, uids[1], content.getvalue()


def _reference(study: str, series: str, instance: str) -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.SOPClassUID, made.SOPInstanceUID = EnhancedSRStorage, instance
    return made
