import json
import zipfile
from io import BytesIO

import numpy as np
import pytest

from xr2text.anatomy import REGION_NAMES
from xr2text.ui import handlers, session


@pytest.fixture
def opened(png):
    return session.open_radiograph(png.read_bytes())


def assert_no_report(panel):
    assert panel["opened"] is None and panel["reader"] is None
    assert panel["findings"].value == panel["impression"].value == ""
    assert panel["chart"] == panel["weights"] == panel["warnings"] == ""
    assert not any(panel[f"save-{name}"].interactive for name in handlers.EXPORTS)
    assert "studies" not in panel


def test_a_radiograph_gives_a_report_with_everything_beside_it(reporter, opened):
    panel = handlers.write_panel(reporter, False, opened, [])
    assert "Report written by example 0.1.0" in panel["status"]
    assert panel["findings"].value == "The heart is normal. The lungs are clear." and panel["findings"].interactive
    assert all(name in panel["weights"] for name in REGION_NAMES) and "cardiomegaly" in panel["chart"]
    assert "denies cardiomegaly" in panel["warnings"]
    assert len(panel["reader"]["sentences"]) == 3 and len(panel["reader"]["regions"]) == 7
    assert [study.label for study in panel["studies"]] == [panel["shown"]] and "jane" not in panel["shown"]


def test_a_file_is_decoded_once(reporter, png, monkeypatch):
    """From the upload over two reports to every file that is saved."""
    decodings = []
    read = session.read_radiograph
    monkeypatch.setattr(session, "read_radiograph", lambda content: decodings.append(content) or read(content))
    panel = handlers.show_upload(str(png))
    for _ in range(2):
        panel = handlers.write_panel(reporter, False, panel["opened"], [])
        for name in ("txt", "json", "png"):
            handlers.export(name, panel["opened"], panel["shown"], "", "")
    assert len(decodings) == 1 and len(reporter.asked) == 2
    first, second = reporter.asked
    assert first.pixels.dtype == np.float32 and np.array_equal(first.pixels, second.pixels)


def test_each_file_of_a_report_is_made_when_it_is_asked_for(reporter, opened, saved):
    panel = handlers.write_panel(reporter, False, opened, [])
    possible = {name for name in handlers.EXPORTS if panel[f"save-{name}"].interactive}
    assert possible == {"txt", "json", "png", "pdf", "fhir"}
    report = panel["opened"].report
    typed = panel["opened"], panel["shown"], report.findings, report.impression
    files = {name: handlers.export(name, *typed) for name in ("txt", "json", "png", "pdf", "fhir")}
    written = json.loads(saved(files["json"]))
    assert written["findings"] == report.findings and written["sha256"] == opened.source.sha256
    assert saved(files["pdf"]).startswith(b"%PDF") and saved(files["png"]).startswith(b"\x89PNG")
    assert [file["name"] for file in files.values()] == [
        "report.txt", "report.json", "overlay.png", "report.pdf", "report.fhir.json",
    ]  # fmt: skip
    assert handlers.export("txt", None, "", "", "") is None


def test_an_edited_report_is_what_is_saved(reporter, opened, saved):
    panel = handlers.write_panel(reporter, False, opened, [])
    typed = panel["shown"], "There is a nodule.", "A nodule."
    answer = handlers.apply_edit(panel["opened"], *typed, panel["studies"])
    edited = answer["opened"]
    assert "edited" in answer["status"] and edited.report.edited and answer["studies"] == [edited]
    assert answer["reader"]["sentences"][0] == {
        "text": "There is a nodule.", "section": "findings", "weights": [], "region": None, "confidence": None,
    }  # fmt: skip
    assert "Warnings" in answer["warnings"]
    for study in (edited, panel["opened"]):  # also where the edit has not reached the session yet
        text = saved(handlers.export("txt", study, *typed)).decode()
        assert "There is a nodule." in text and "Drafted by example 0.1.0 and edited" in text
    assert handlers.apply_edit(edited, *typed, answer["studies"]) == {}
    again = handlers.write_panel(reporter, False, edited, [])
    assert again["findings"].value == panel["findings"].value, "the model's text comes back"


def test_a_text_never_gets_into_the_report_of_another_study(reporter, opened):
    """Text that was typed before the page had turned to another study."""
    panel = handlers.write_panel(reporter, False, opened, [])
    typed = "an earlier study", "There is a nodule.", "A nodule."
    assert handlers.apply_edit(panel["opened"], *typed, panel["studies"]) == {}
    assert handlers.export("txt", panel["opened"], *typed) is None


def test_an_upload_shows_its_radiograph_and_leaves_no_file(png):
    panel = handlers.show_upload(str(png))
    assert "256 × 320" in panel["status"] and not png.exists()
    assert panel["reader"]["regions"] == panel["reader"]["sentences"] == []
    assert panel["findings"].value == panel["weights"] == "" and not panel["findings"].interactive


def test_what_cannot_be_read_is_said_in_words(reporter, png, not_an_image):
    png.unlink()
    for path, words in ((png, "no longer there"), (not_an_image, "not an accepted image")):
        panel = handlers.show_upload(str(path))
        assert 'role="alert"' in panel["status"] and words in panel["status"]
        assert_no_report(panel)
    panel = handlers.write_panel(reporter, False, None, [])
    assert "Choose a radiograph first" in panel["status"]
    assert_no_report(panel)


def test_a_doubtful_image_waits_for_a_click(reporter, opened, png):
    reporter.doubt = "It is strange."
    panel = handlers.write_panel(reporter, False, opened, [])
    assert "It is strange." in panel["status"] and panel["go-on"].visible and "studies" not in panel
    assert panel["opened"].report is None and panel["reader"]["image"] and not panel["findings"].interactive
    panel = handlers.write_panel(reporter, True, panel["opened"], [])
    assert "It is strange." in panel["warnings"] and not panel["go-on"].visible and len(panel["studies"]) == 1
    *_, last = handlers.run_batch(reporter, [str(png)], [])
    assert "It is strange. Read it alone" in last["table"]


def test_a_batch_goes_on_past_a_bad_file_and_leaves_none(reporter, png, not_an_image, saved):
    again = png.with_name("again.png")
    again.write_bytes(png.read_bytes())
    files = (png, not_an_image, again)
    *steps, last = handlers.run_batch(reporter, list(map(str, files)), [])
    assert [f"Radiograph {k} of 3" in step["batch-status"] for k, step in enumerate(steps, start=1)] == [True] * 3
    assert "2 of 3 radiographs have a report" in last["batch-status"]
    assert [study is None for study in last["results"]] == [False, True, False] and len(last["studies"]) == 2
    assert "No report: This file is not an accepted image" in last["table"]
    assert not any(path.exists() for path in files)
    with zipfile.ZipFile(BytesIO(saved(handlers.export_batch(last["results"])))) as zipped:
        names = zipped.namelist()
    assert last["save-zip"].interactive and handlers.export_batch([None]) is None
    assert "01/report.txt" in names and "03/report.pdf" in names and not any("jane" in name for name in names)


@pytest.mark.parametrize("count", [0, handlers.MAX_BATCH + 1])
def test_a_batch_has_its_limits(reporter, png, count):
    (only,) = handlers.run_batch(reporter, [str(png)] * count, [])
    assert 'role="alert"' in only["batch-status"] and not only["table"] and not only["save-zip"].interactive
    assert png.exists() == (count == 0)


def test_a_batch_that_is_left_leaves_no_file(reporter, png):
    steps = handlers.run_batch(reporter, [str(png)], [])
    next(steps)
    steps.close()
    assert not png.exists()


def test_a_study_of_the_history_comes_back(reporter, opened):
    studies = handlers.write_panel(reporter, False, opened, [])["studies"]
    label = studies[0].label
    panel = handlers.reopen(studies, label)
    assert panel["history"] == panel["shown"] == label and handlers.reopen(studies, "another") == {}
    assert panel["opened"] is studies[0] and panel["findings"].value == studies[0].report.findings
    assert handlers.compared(studies, label) == panel["reader"] and handlers.compared(studies, "another") is None
    assert "Choose a radiograph" in handlers.write_panel(reporter, False, studies[0], studies)["status"]


def test_a_row_of_a_batch_opens_its_radiograph(reporter, opened):
    study = handlers.write_panel(reporter, False, opened, [])["opened"]
    panel = handlers.open_row([None, study], 1)
    assert panel["opened"] is study and panel["tabs"].selected == "read"
    assert handlers.open_row([None, study], 0) == handlers.open_row([None, study], 2) == {}
