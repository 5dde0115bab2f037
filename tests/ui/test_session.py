from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from dicom_files import IDENTITY
from PIL import Image
from pydicom import dcmread

from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_radiograph
from xr2text.phantom.drawing import draw_phantom
from xr2text.ui import handlers
from xr2text.ui.session import KEPT, LISTED, VERSIONS, Row, Session, open_radiograph, write_report


def test_a_session_keeps_its_last_studies_without_the_decoded_radiographs(reporter, png):
    study = write_report(reporter, open_radiograph(png.read_bytes()), "a label")
    session = Session()
    for number in range(KEPT + 3):
        session = session.show(replace(study, label=str(number)))
    assert [one.label for one in session.studies] == [str(number) for number in range(3, KEPT + 3)]
    assert all(one.decoded is None for one in session.studies) and session.opened.decoded is not None
    assert session.show(replace(study, label="5", versions=())).studies[-1].report is None
    assert session.find("9").label == "9" and session.find("0") is None


def test_what_nobody_has_edited_leaves_first(reporter, png):
    study = write_report(reporter, open_radiograph(png.read_bytes()), "0")
    own = study.edited(("There is a nodule.", ""))
    session = Session().show(own)
    for number in range(1, KEPT + 3):
        session = session.show(replace(study, label=str(number)))
    assert [one.label for one in session.studies] == ["0", *(str(number) for number in range(4, KEPT + 3))]
    for number in range(KEPT + 2):
        session = session.show(replace(own, label=f"own {number}"))
    assert [one.label for one in session.studies] == [f"own {number}" for number in range(2, KEPT + 2)]
    assert session.show(replace(study, label="new")).studies[-1].label == "new"

    rows = [Row("edited", own), Row("refused", refusal="no picture"), Row("waits", replace(study, versions=()))]
    session = session.listing(rows).listing([Row(str(number), study) for number in range(LISTED - 1)])
    assert [row.name for row in session.batch] == ["edited", *(str(number) for number in range(LISTED - 1))]


def test_a_report_can_be_gone_back_from_so_many_times(reporter, png):
    study = write_report(reporter, open_radiograph(png.read_bytes()), "a label")
    for number in range(VERSIONS + 5):
        study = study.edited((f"Version {number}.", ""))
    assert len(study.versions) == VERSIONS and study.undone().bare.findings == f"Version {VERSIONS + 3}."


def test_a_report_is_written_of_the_pixels_of_the_file(reporter, make_dicom):
    content = make_dicom().read_bytes()
    write_report(reporter, open_radiograph(content), "a label")
    (asked,), read = reporter.asked, read_radiograph(content)
    assert np.abs(asked.pixels - read.pixels).max() < 1e-5 and (asked.source, asked.view) == (read.source, read.view)


def test_a_report_that_takes_too_long_is_given_up_in_words(reporter, png, monkeypatch):
    study = write_report(reporter, open_radiograph(png.read_bytes()), "a label")

    def late(*_, max_time=None, **__):
        raise TimeoutError(f"after {max_time}")

    monkeypatch.setattr(reporter, "report", late)
    with pytest.raises(ImageError, match="given up after 60 seconds"):
        write_report(reporter, open_radiograph(png.read_bytes()), "a label")
    monkeypatch.setattr(reporter, "rewrite", late)
    with pytest.raises(ImageError, match="given up after 60 seconds"):
        study.rewritten(reporter, {"nodule": "present"})


def test_a_large_radiograph_is_kept_small(reporter):
    content = BytesIO()
    Image.fromarray((draw_phantom(2, (1600, 1200), ()).pixels * 255).astype(np.uint8)).save(content, "PNG")
    study = write_report(reporter, open_radiograph(content.getvalue()), "a label")
    assert study.grey.shape == (1024, 768) and study.bare.radiograph.pixels.size == 0
    assert study.report.radiograph.pixels.shape == (1024, 768)
    whole = reporter.report(reporter.asked[0])
    assert np.abs(study.report.maps - whole.maps_at(1024, 768)).max() < 1e-3


def test_a_structured_report_refers_to_the_image_that_it_was_written_of(reporter, make_dicom, saved):
    image = make_dicom()
    study = write_report(reporter, open_radiograph(image.read_bytes()), "a label")
    session = Session().show(study)
    assert all(possible for _, possible in handlers.saves(study).values())
    document = dcmread(BytesIO(saved(handlers.save(session, "a label", "dicom-sr"))))
    (series,) = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dcmread(image).SOPInstanceUID
    assert document.PatientName == "" and not any(word in str(study.source.header) for word in IDENTITY)
