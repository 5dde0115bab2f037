import csv
import json
import zipfile
from dataclasses import replace
from io import BytesIO

import gradio as gr
import numpy as np
import pytest

from xr2text.anatomy import REGION_NAMES
from xr2text.ui import handlers, session
from xr2text.ui.session import Row, Session
from xr2text.ui.worklist import batch_rows


@pytest.fixture
def opened(png):
    return session.open_radiograph(png.read_bytes())


@pytest.fixture
def read(reporter, opened):
    """A session with a report on the page."""
    return handlers.write_open(reporter, Session(opened))["session"]


def value(answer, part="reader"):
    return answer[part].value


def opened_file(reporter, path, write=True, session=None):
    return list(handlers.open_files(reporter, session or Session(), [str(path)], "frontal", write))


def edit(session, label, findings, impression):
    """Of the text that stands there."""
    stands = session.opened.bare if session.opened else None
    return handlers.edit(
        session, label, findings, impression, *((stands.findings, stands.impression) if stands else ("", ""))
    )


def test_a_file_is_shown_at_once_and_then_its_report(reporter, png):
    film, report = opened_file(reporter, png)
    assert value(film)["busy"] and not value(film)["label"] and "256 × 320" in value(film)["status"]["text"]
    assert not png.exists()
    shown = value(report)
    assert "Report written by example 0.1.0" in shown["status"]["text"] and shown["busy"] == ""
    assert [one["text"] for one in shown["sentences"]] == [
        "The heart is normal.", "The lungs are clear.", "No acute disease.",
    ]  # fmt: skip
    assert any("denies cardiomegaly" in doubt for doubt in shown["doubts"])
    assert len(shown["weights"]) == len(REGION_NAMES) and shown["findings"][0]["name"] == "cardiomegaly"
    assert shown["history"] == [shown["label"]] and "jane" not in str(shown)
    assert [study.label for study in report["session"].studies] == [shown["label"]]


def test_the_reader_may_have_the_report_wait(reporter, png):
    (film,) = opened_file(reporter, png, write=False)
    assert not reporter.asked and value(film)["busy"] == ""
    assert value(handlers.write_open(reporter, film["session"]))["sentences"]
    assert value(handlers.write_open(reporter, Session()))["status"]["text"] == handlers.CHOOSE


def test_a_file_is_decoded_once(reporter, png, monkeypatch):
    """From the upload over two reports to every file that is saved."""
    decodings = []
    read = session.read_radiograph
    monkeypatch.setattr(session, "read_radiograph", lambda content: decodings.append(content) or read(content))
    answer = opened_file(reporter, png)[-1]
    answer = handlers.write_open(reporter, answer["session"])
    for name in ("txt", "json", "png"):
        assert handlers.save(answer["session"], value(answer)["label"], name)
    assert len(decodings) == 1 and len(reporter.asked) == 2
    first, second = reporter.asked
    assert first.pixels.dtype == np.float32 and np.array_equal(first.pixels, second.pixels)


def test_each_file_of_a_report_is_made_when_it_is_asked_for(read, saved):
    label = read.opened.label
    possible = {name for name, (_, can) in handlers.reader_value(read)["saves"].items() if can}
    assert possible == {"txt", "json", "png", "pdf", "fhir"}
    files = {name: handlers.save(read, label, name) for name in possible}
    written = json.loads(saved(files["json"]))
    assert written["findings"] == read.opened.bare.findings and written["sha256"] == read.opened.source.sha256
    assert saved(files["pdf"]).startswith(b"%PDF") and saved(files["png"]).startswith(b"\x89PNG")
    assert files["fhir"]["name"] == "report.fhir.json"
    for wrong in (("another", "txt"), (label, "exe")):
        with pytest.raises(gr.Error, match="no longer kept"):
            handlers.save(read, *wrong)


def test_what_is_edited_is_what_is_saved_and_can_be_undone(reporter, read, saved):
    label = read.opened.label
    answer = edit(read, label, "There is a nodule. The lungs are clear.", "A nodule.")
    edited, shown = answer["session"], value(answer)
    assert "edited" in shown["status"]["text"] and shown["edits"] == "Yours: 2 written, 2 taken out." and shown["undo"]
    assert [(one["text"], one["by"]) for one in shown["sentences"]] == [
        ("There is a nodule.", "person"), ("The lungs are clear.", "model"), ("A nodule.", "person"),
    ]  # fmt: skip
    text = saved(handlers.save(edited, label, "txt")).decode()
    assert "There is a nodule." in text and "Drafted by example 0.1.0 and edited" in text
    assert edited.studies[-1].bare is edited.opened.bare
    assert value(handlers.close(edited))["own"] and not value(handlers.close(read))["own"], "what would be lost"
    assert "session" not in edit(edited, label, "There is a nodule. The lungs are clear.", "A nodule.")
    back = handlers.undo(edited, label)["session"]
    assert back.opened.bare is read.opened.bare and "session" not in handlers.undo(back, label)
    typed = edit(edited, label, read.opened.bare.findings, read.opened.bare.impression)["session"]
    assert not typed.opened.bare.edited and typed.opened.bare.sentences[0].region == "heart"


def test_an_edit_of_a_text_that_has_changed_meanwhile_is_carried_over(reporter, read):
    """It was typed, or sent, before the answer to what came first."""
    label, stood = read.opened.label, (read.opened.bare.findings, read.opened.bare.impression)
    enlarged = handlers.set_finding(reporter, read, label, "cardiomegaly", "present")["session"]
    scar = "The heart is normal. There is a scar.", "No acute disease."
    both = handlers.edit(enlarged, label, *scar, *stood)["session"].opened
    assert both.bare.findings == "The heart is enlarged. There is a scar."
    assert both.bare.set_findings == {"cardiomegaly": "present"}

    first = handlers.edit(read, label, *scar, *stood)["session"]
    second = handlers.edit(first, label, "The heart is normal.", scar[1], *scar)["session"].opened
    assert second.bare.findings == "The heart is normal.", "what the first edit wrote is deleted"
    undone = handlers.undo(first, label)["session"]
    typed = handlers.edit(undone, label, f"{scar[0]} It is old.", scar[1], *scar)["session"].opened
    assert typed.bare.findings == f"{stood[0]} It is old.", "what was undone stays undone"


def test_an_edit_of_a_study_that_is_not_in_front_is_kept_in_it(reporter, read, opened):
    """Another was opened while it was typed."""
    label = read.opened.label
    after = handlers.write_open(reporter, replace(read, opened=opened))["session"]
    front, text = after.opened, ("The heart is normal. There is a scar.", "No acute disease.")
    answer = handlers.edit(after, label, *text, front.bare.findings, front.bare.impression)
    session, shown = answer["session"], value(answer)
    assert session.find(label).bare.findings == text[0] and session.opened is front
    assert shown["label"] == front.label and not shown["undo"] and shown["status"] is None
    again = handlers.edit(session, label, *text, front.bare.findings, front.bare.impression)
    assert "session" not in again, "what is sent twice changes nothing"


def test_a_text_never_gets_into_the_report_of_another_study(read):
    """Text that was typed before the page had turned to another study."""
    assert "session" not in edit(read, "an earlier study", "There is a nodule.", "A nodule.")
    assert "session" not in edit(Session(), "", "There is a nodule.", "A nodule.")


def test_the_report_follows_a_finding_that_is_set_and_keeps_what_a_person_wrote(reporter, read):
    label = read.opened.label
    session = edit(read, label, "The heart is normal. There is a scar.", "No acute disease.")["session"]
    answer = handlers.set_finding(reporter, session, label, "cardiomegaly", "present")
    shown = value(answer)
    assert [(one["text"], one["by"], one["changed"]) for one in shown["sentences"]] == [
        ("The heart is enlarged.", "model", True), ("There is a scar.", "person", False),
        ("No acute disease.", "model", False),
    ]  # fmt: skip
    assert shown["findings"][0] | {"set": "present", "seen": True} == shown["findings"][0]
    assert "Cardiomegaly is set to present" in shown["status"]["text"]
    assert shown["edits"].startswith("Yours: cardiomegaly set to present;")
    assert answer["session"].opened.bare.set_findings == {"cardiomegaly": "present"}
    both = handlers.set_finding(reporter, answer["session"], label, "nodule", "absent")["session"]
    assert both.opened.bare.set_findings == {"cardiomegaly": "present", "nodule": "absent"}
    assert "session" not in handlers.set_finding(reporter, both, label, "nodule", "absent"), "it is set already"
    back = handlers.set_finding(reporter, both, label, "cardiomegaly", "")["session"]
    assert back.opened.bare.set_findings == {"nodule": "absent"}
    assert back.opened.bare.findings == "The heart is normal. There is a scar."
    undone = handlers.undo(back, label)["session"]
    assert undone.opened.bare.findings == "The heart is enlarged. There is a scar."
    for finding, state, words in (("noodle", "present", "accepted: cardiomegaly"), ("nodule", "maybe", "present or")):
        refused = handlers.set_finding(reporter, back, label, finding, state)
        assert words in value(refused)["status"]["text"] and "session" not in refused


def test_what_cannot_be_read_is_said_in_words(reporter, read, png, not_an_image):
    png.unlink()
    for path, words in ((png, "no longer there"), (not_an_image, "not an accepted image")):
        (answer,) = opened_file(reporter, path, session=read)
        assert words in value(answer)["status"]["text"] and value(answer)["status"]["tone"] == "bad"
        assert answer["session"].opened is None and "sentences" not in value(answer)
        assert answer["session"].studies == read.studies


def test_what_is_no_lateral_view_of_the_study_leaves_it_open(reporter, opened, png, not_an_image, make_dicom):
    def add(session, name, **elements):
        path = name if elements == {} else make_dicom(name, **elements)
        (answer,) = handlers.open_files(reporter, session, [str(path)], "lateral", False)
        return answer

    make_dicom("stays")  # and with it the folder, which goes with the last upload
    lateral, study = {"ViewPosition": "LL", "StudyInstanceUID": "1.2.4"}, Session(opened)
    with_headers = add(study, "lateral", **lateral)["session"]
    assert with_headers.opened.lateral is not None and add(study, png)["session"].opened.lateral is not None
    framed = Session(replace(opened, source=with_headers.opened.lateral.source))  # of that study
    for answer, words in (
        (add(framed, not_an_image), "not an accepted image"),
        (add(framed, "other", **lateral | {"StudyInstanceUID": "1.2.3"}), "no lateral view of this study"),
        (add(framed, "frontal", **lateral | {"ViewPosition": "PA"}), "no lateral view of this study"),
    ):
        assert words in value(answer)["status"]["text"] and value(answer)["adds"]
        assert answer["session"].opened is framed.opened
    gone = add(Session(), "late", **lateral)
    assert value(gone)["status"] == handlers.status(handlers.GONE, "bad") and gone["session"].opened is None


def test_what_is_no_longer_kept_is_said(reporter):
    label = "12:00:00 · report 1"
    for answer in (
        edit(Session(), label, "There is a nodule.", ""),
        handlers.set_finding(reporter, Session(), label, "nodule", "present"),
        handlers.reopen(Session(), label),
        handlers.open_row(Session(), label),
        {"reader": handlers.compare(Session(), label)},
    ):
        assert value(answer)["status"] == handlers.status(handlers.GONE, "bad") and "session" not in answer


def test_sides_are_shown_once_the_gate_has_put_the_radiograph_right(reporter, opened, read):
    assert "sides" not in handlers.reader_value(Session(opened)) and handlers.reader_value(read)["sides"]
    lateral = replace(opened, decoded=replace(opened.decoded, view="lateral"))
    assert not value(handlers.write_open(reporter, Session(lateral)))["sides"]


def test_a_doubtful_image_waits_for_a_click(reporter, opened, png):
    reporter.doubt = "It is strange."
    answer = handlers.write_open(reporter, Session(opened))
    said = value(answer)["status"]
    assert "It is strange." in said["text"] and said["ask"] and "session" not in answer
    answer = handlers.write_open(reporter, Session(opened), force=True)
    assert "It is strange." in value(answer)["doubts"] and len(answer["session"].studies) == 1
    *_, last = handlers.read_batch(reporter, Session(), [str(png)])
    assert "It is strange. Read it alone" in value(last, "worklist")["rows"][0]["text"]


def test_a_batch_goes_on_past_a_bad_file_and_leaves_none(reporter, read, png, not_an_image, saved):
    again = png.with_name("again.png")
    again.write_bytes(png.read_bytes())
    files = (png, not_an_image, again)
    first, *steps, last = handlers.read_batch(reporter, read, list(map(str, files)))
    assert "Reading 3 files" in value(first, "worklist")["status"]["text"]
    assert [value(step, "worklist")["status"]["text"] for step in steps] == [
        "Radiograph 1 of 3 …",
        "Radiograph 3 of 3 …",
    ]
    view, after = value(last, "worklist"), last["session"]
    assert "2 of 3 have a report" in view["status"]["text"] and not any(path.exists() for path in files)
    assert [row["state"] for row in view["rows"]] == ["report", "refused", "report"]
    assert max(view["rows"], key=lambda row: row["need"])["state"] == "refused"
    assert view["rows"][0]["seen"] == ["cardiomegaly 70%"] and view["rows"][0]["image"].startswith("data:image/png")
    assert after.opened is read.opened and len(after.studies) == 3
    with zipfile.ZipFile(BytesIO(saved(handlers.save_batch(after, "zip")))) as zipped:
        names, table = zipped.namelist(), zipped.read("findings.csv").decode()
    assert "01/report.txt" in names and "03/report.pdf" in names and not any("jane" in name for name in names)
    rows = list(csv.DictReader(table.splitlines()))
    assert {(row["number"], row["finding"], row["set_by"]) for row in rows} == {
        (number, finding, "model") for number in "13" for finding in ("cardiomegaly", "nodule")
    }
    assert saved(handlers.save_batch(after, "csv")).decode() == table
    with pytest.raises(gr.Error, match="no longer kept"):
        handlers.save_batch(Session(), "zip")


def test_views_of_one_study_are_one_row_also_where_the_gate_alone_tells_them_apart(reporter, make_dicom, monkeypatch):
    files = [make_dicom(name=f"{place}.dcm", StudyInstanceUID=uid) for place, uid in enumerate(("1.2", "1.2", "1.3"))]
    looked = iter((True, False))
    monkeypatch.setattr(reporter, "is_lateral", lambda _: next(looked))
    lateral_first, other = batch_rows(reporter, map(str, files))
    assert lateral_first.name == "0.dcm + 1.dcm" and lateral_first.opened.lateral and not other.opened.lateral


def test_a_second_batch_stands_behind_the_first(reporter, opened, png, not_an_image):
    *_, last = handlers.read_batch(reporter, Session(), [str(not_an_image), str(png)])
    first = last["session"]
    *_, last = handlers.run_batch(reporter, first, [Row("one", opened), Row("other", opened)])
    assert last["session"].batch[:2] == first.batch and len(last["session"].batch) == 4
    assert "2 of 2 have a report" in value(last, "worklist")["status"]["text"]
    assert len({row.opened.label for row in last["session"].batch if row.opened}) == 3


@pytest.mark.parametrize("count", [0, handlers.MAX_BATCH + 1])
def test_a_batch_has_its_limits(reporter, png, count):
    (only,) = handlers.read_batch(reporter, Session(), [str(png)] * count)
    assert value(only, "worklist")["status"]["tone"] == "bad" and not value(only, "worklist")["rows"]
    assert png.exists() == (count == 0)


def test_a_batch_that_is_left_leaves_no_file(reporter, png):
    steps = handlers.read_batch(reporter, Session(), [str(png)])
    next(steps)
    steps.close()
    assert not png.exists()


def test_a_row_of_a_batch_opens_and_what_is_changed_there_stands_in_the_batch(reporter, png, not_an_image, saved):
    *_, last = handlers.read_batch(reporter, Session(), [str(not_an_image), str(png)])
    refused, read = value(last, "worklist")["rows"]
    answer = handlers.open_row(last["session"], read["label"])
    assert value(answer)["sentences"]
    changed = handlers.set_finding(reporter, answer["session"], value(answer)["label"], "cardiomegaly", "present")
    assert value(changed, "worklist")["rows"][1]["edited"]
    table = saved(handlers.save_batch(changed["session"], "csv")).decode()
    assert "cardiomegaly,0.7000,0.3,1,person" in table
    assert "session" not in handlers.open_row(last["session"], refused["label"])


def test_a_study_of_the_history_comes_back_and_stands_beside_another(read):
    label = read.studies[0].label
    answer = handlers.reopen(handlers.close(read)["session"], label)
    assert value(answer)["label"] == label and answer["session"].opened.bare is read.studies[0].bare
    assert "session" not in handlers.reopen(read, "another")
    assert handlers.compare(read, label).value["sentences"] == value(answer)["sentences"]
    assert handlers.compare(read, "").value is None and handlers.compare(read, "another").value["label"] == ""
    again = handlers.write_open(None, replace(read, opened=read.studies[0]))
    assert value(again)["status"]["text"] == handlers.CHOOSE, "an earlier study's pixels are gone"


def test_a_frontal_and_its_lateral_are_one_study(reporter, make_dicom, png):
    def open_both(first, second):
        return list(handlers.open_files(reporter, Session(), [str(first), str(second)], "frontal", True))

    *_, last = open_both(make_dicom("a", ViewPosition="LL"), make_dicom("b", ViewPosition="PA"))
    study = last["session"].opened
    assert study.decoded.view != "lateral" and study.lateral.decoded.view == "lateral"
    assert handlers.UNREAD_LATERAL in value(last)["status"]["details"], "this reporter reads frontal views alone"
    two = make_dicom("c", ViewPosition="LL"), make_dicom("d", ViewPosition="PA", StudyInstanceUID="1.2")
    first, *_, last = open_both(*two)
    assert value(first)["view"] == "batch"
    assert last["session"].opened is None and len(last["session"].batch) == 2, "two studies are a batch"


def test_a_lateral_view_is_added_to_the_study_that_is_open(reporter, read, make_dicom):
    path = make_dicom("lateral", ViewPosition="LL")
    answers = list(handlers.open_files(reporter, read, [str(path)], "lateral", True))
    assert answers[-1]["session"].opened.lateral.decoded.view == "lateral"
    assert np.array_equal(answers[-1]["session"].opened.grey, read.opened.grey)


def test_a_reporter_that_reads_lateral_views_is_given_them(reporter, read, make_dicom, monkeypatch):
    given, report = [], reporter.report
    monkeypatch.setattr(type(reporter), "takes_lateral", True)
    monkeypatch.setattr(
        reporter, "report", lambda film, lateral=None, **rest: given.append(lateral) or report(film, **rest)
    )
    list(handlers.open_files(reporter, read, [str(make_dicom("lateral", ViewPosition="LL"))], "lateral", True))
    assert given[0].view == "lateral" and given[0].pixels.max() <= 1


def test_the_files_of_one_study_are_one_row_of_a_batch(reporter, make_dicom):
    paths = [make_dicom("lateral", ViewPosition="LL"), make_dicom("frontal", ViewPosition="PA"),
             make_dicom("other", ViewPosition="PA", StudyInstanceUID="1.2")]  # fmt: skip
    *_, last = handlers.read_batch(reporter, Session(), list(map(str, paths)))
    assert [row.name for row in last["session"].batch] == ["lateral + frontal", "other"]
    assert last["session"].batch[0].opened.lateral is not None and last["session"].batch[0].opened.bare
