"""Which images of a study are read, and what is made of them. No archive, no model."""

from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import dataset, file_bytes
from example_report import make_report
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.uid import generate_uid

from xr2text.imaging.radiograph import ImageError
from xr2text.worker.study import Answer, Refusal, answer, documents

STUDY = generate_uid()


def film(value=100, **elements):
    """The file of a radiograph whose upper left pixel, of 4095, is `value`."""
    pixels = np.full((80, 80), 4095, np.uint16)
    pixels[:, :40] = 0
    pixels[0, 0] = value
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": generate_uid(), "SOPInstanceUID": generate_uid()}
    return file_bytes(dataset(pixels, 12, WindowCenter=2047.5, WindowWidth=4096, **uids, **elements))


class Reporter:
    """Notes what it is given; refuses what is dark in the corner."""

    model_name = "example 0.1.0"

    def __init__(self, gate=None):
        self.gate, self.given = gate, []

    def report(self, image, lateral=None):
        self.given.append((corner(image), lateral and corner(lateral)))
        if corner(image) < 50:
            raise ImageError("It is dark.")
        return replace(make_report(), radiograph=image)


class FrontalReporter(Reporter):
    def report(self, image):
        return super().report(image)


def corner(radiograph):
    return round(float(radiograph.pixels[0, 0]) * 4095)


def read(reporter, **files):
    return answer(reporter, list(files), files.__getitem__)


@pytest.mark.parametrize("view", ["LL", ""])
def test_frontal_and_lateral_are_read_together(view):
    def gate(radiograph):
        return SimpleNamespace(reason="This is a lateral view: no." if corner(radiograph) == 200 else "")

    reporter = Reporter(gate)
    given = read(reporter, a=film(200, ViewPosition=view), b=film(100, ViewPosition="PA" if view else ""))
    assert reporter.given == [(100, 200)] and given.reasons == ()
    assert given.lateral.header.SOPInstanceUID != given.source.header.SOPInstanceUID
    ((_, _, content),) = documents(given, ["sr"], "1", 1, None)
    evidence = srread(BytesIO(content)).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(evidence) == 2


def test_a_reporter_of_frontal_views_leaves_the_lateral_one_aside():
    given = read(FrontalReporter(), a=film(200, ViewPosition="LL"), b=film())
    assert given.lateral is None and given.reasons == ("A lateral radiograph of the study was not read.",)
    assert "A lateral radiograph of the study was not read." in given.report.warnings[0]


def test_the_newest_frontal_view_that_passes_is_read():
    times = [("101500", 30), ("101000", 101), ("100500", 102)]
    files = {f"{time}": film(value, AcquisitionDate="20260102", AcquisitionTime=time) for time, value in times}
    reporter = Reporter()
    given = read(reporter, **dict(reversed(files.items())))
    assert reporter.given == [(30, None), (101, None)]
    assert given.reasons == ("It is dark.", "Another frontal radiograph of the study was read.")


def test_a_lateral_view_alone_is_tried():
    reporter = Reporter()
    assert not isinstance(read(reporter, a=film(ViewPosition="LL")).report, Refusal)
    assert reporter.given == [(100, None)]


def test_what_cannot_be_read_has_a_reason():
    given = read(Reporter(), a=b"text", b=film(30), c=film(BodyPartExamined="HAND"))
    assert isinstance(given.report, Refusal) and len(given.report.reasons) == 3
    assert "It is dark." in given.report.findings and given.source is None  # the first file is no DICOM image
    given = read(Reporter(), **{f"{n}": film(30) for n in range(10)})
    assert given.report.reasons == ("The study has 10 images; the first 8 were looked at.", "It is dark.")
    ((kind, _, content),) = documents(given, ["sr"], "1", 1, None)
    read_back = srread(BytesIO(content))
    assert (
        kind == "sr" and read_back.PreliminaryFlag == "PRELIMINARY" and b"No report was written. The study" in content
    )


def test_a_repeat_makes_the_same_objects():
    files = {"a": film()}
    given = read(Reporter(), **files)
    first, again = (list(documents(given, ["sr", "sc", "pdf"], "1", 1, None)) for _ in range(2))
    assert [made[:2] for made in first] == [made[:2] for made in again] and len({made[1] for made in first}) == 3
    other = list(documents(given, ["sr", "sc", "pdf"], "2", 2, first[0][1]))
    assert {made[1] for made in first}.isdisjoint(made[1] for made in other)
    sr, sr2 = (dcmread(BytesIO(made[0][2])) for made in (first, other))
    assert sr.SeriesInstanceUID == sr2.SeriesInstanceUID and (sr.InstanceNumber, sr2.InstanceNumber) == (1, 2)
    before = sr2.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first[0][1]


def test_the_picture_has_the_overlays_and_the_sentences():
    given = Answer(make_report(warnings=("It is unlike most. " * 200,)), read(Reporter(), a=film()).source)
    ((_, _, content),) = documents(given, ["sc"], "1", 1, None)
    picture = dcmread(BytesIO(content))
    pixels = picture.pixel_array
    assert pixels.shape[1] > 2000 and np.ptp(pixels[60:, 1420:], axis=(0, 1)).min() > 150  # coloured and white letters
    assert (
        picture.PatientID == "ID-774411" and picture.ConversionType == "WSD" and "not verified" in picture.ImageComments
    )
