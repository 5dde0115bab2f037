import base64
import json
import logging
import time
import zipfile
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

import app
from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.imaging.phantom import draw_phantom
from xr2text.inference.agreement import FindingReading
from xr2text.inference.examples import ExampleShelf
from xr2text.inference.export import NOTICE
from xr2text.inference.gate import DOUBTFUL, Gate, GateResult
from xr2text.inference.reporter import Reporter
from xr2text.ui import page as ui
from xr2text.ui import session
from xr2text.ui.panels import doubts_list, findings_chart, message, weights_chart
from xr2text.ui.session import KEPT, Opened, remember
from xr2text.ui.viewer import view

STATUS, OPENED, READER, FINDINGS, IMPRESSION, CHART, WEIGHTS, DOUBTS, GO_ON = range(9)


@pytest.fixture(scope="module")
def reporter(tiny_checkpoint):
    return Reporter.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    shelf = ExampleShelf(tmp_path_factory.mktemp("cache"), "http://127.0.0.1:9/", timeout=0.2)
    shelf.fetching.join()
    return shelf


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "Doe^Jane.png"
    Image.fromarray((draw_phantom(1, 160, ()).pixels * 255).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def no_film(tmp_path):
    path = tmp_path / "film.png"
    path.write_text("not a picture")
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


def assert_no_report(panel):
    assert panel[OPENED] is None and panel[READER] is None
    assert panel[FINDINGS].value == panel[IMPRESSION].value == ""
    assert panel[CHART] == panel[WEIGHTS] == panel[DOUBTS] == ""
    assert not any(button.interactive for button in panel[9 : 9 + len(ui.FILES)])


def picture(address):
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.split(",")[1]))))


def test_a_radiograph_gives_a_report_with_everything_beside_it(reporter, film):
    *panel, history = ui.write_panel(reporter, film, [])
    assert f"Report written by {reporter.model_name}" in panel[STATUS]
    assert panel[FINDINGS].value + panel[IMPRESSION].value and panel[FINDINGS].interactive
    assert all(name in panel[WEIGHTS] for name in REGION_NAMES)
    shown, report = panel[READER], panel[OPENED].report
    assert picture(shown["image"]).shape == (1024, 1024)
    assert [one["name"] for one in shown["regions"]] == list(REGION_NAMES)
    assert [one["colour"] for one in shown["regions"]] == [region.colour for region in REGIONS]
    for one, own in zip(shown["regions"], report.maps_at(384, 384), strict=True):
        assert np.abs(picture(one["map"]) / 255 - own).mean() < 0.01  # the attention itself
    assert [one["text"] for one in shown["sentences"]] == [one.text for one in report.sentences]
    assert shown["sentences"][0]["weights"] == list(report.sentences[0].region_weights.values())
    assert history == [panel[OPENED]] and "Jane" not in history[0].label


def test_the_files_of_a_report_are_ready_to_be_saved(reporter, film):
    opened = ui.write_panel(reporter, film, [])[OPENED]
    buttons = dict(zip(ui.FILES, ui.prepare_files(opened), strict=True))
    assert {name for name, button in buttons.items() if button.interactive} == {"txt", "json", "png", "pdf", "fhir"}
    with open(buttons["json"].value["path"], encoding="utf-8") as file:
        assert json.load(file)["findings"] == opened.report.findings
    assert not any("Jane" in button.value["path"] for button in buttons.values() if button.interactive)
    assert not any(button.interactive for button in ui.prepare_files(None))


def test_an_edited_report_is_what_is_saved(reporter, film):
    *panel, history = ui.write_panel(reporter, film, [])
    status, edited, shown, doubts, history, *buttons = ui.apply_edit(
        panel[OPENED], "There is a nodule.", "A nodule.", history
    )
    assert "edited" in status and edited.report.edited and history == [edited]
    assert shown["sentences"][0] == {
        "text": "There is a nodule.", "section": "findings", "weights": [], "region": None, "confidence": None,
    }  # fmt: skip
    assert "To be doubted" in doubts
    assert not any(button.interactive for button in buttons), "the former text is not to be saved"
    text = ui.prepare_files(edited)[0].value["path"]
    content = Path(text).read_text(encoding="utf-8")
    assert "There is a nodule." in content and f"Drafted by {reporter.model_name} and edited" in content
    same = ui.apply_edit(edited, "There is a nodule.", "A nodule.", history)
    assert not any(isinstance(one, Opened) for one in same)


def test_an_upload_shows_its_radiograph_and_clears_the_former_report(film):
    panel = ui.show_upload(film)
    assert "160 × 160" in panel[STATUS]
    assert panel[READER]["regions"] == panel[READER]["sentences"] == []
    assert panel[FINDINGS].value == panel[WEIGHTS] == "" and not panel[FINDINGS].interactive


def test_what_is_no_radiograph_is_said_in_words(reporter, no_film):
    for panel in (ui.show_upload(no_film), ui.write_panel(reporter, no_film, [])):
        assert 'role="alert"' in panel[STATUS]
        assert "image" in panel[STATUS]
        assert_no_report(panel)


def test_a_doubtful_picture_waits_for_a_click(reporter, film, monkeypatch):
    monkeypatch.setattr(Gate, "forward", lambda self, one: GateResult(DOUBTFUL, one, (), "It is strange."))
    *panel, history = ui.write_panel(reporter, film, [])
    assert "It is strange." in panel[STATUS] and panel[GO_ON].visible and history == []
    assert panel[OPENED].report is None and panel[READER]["image"] and not panel[FINDINGS].interactive
    *panel, history = ui.write_panel(reporter, film, [], force=True)
    assert "It is strange." in panel[DOUBTS] and not panel[GO_ON].visible and len(history) == 1
    *_, (_, rows, _, _, _) = ui.run_batch(reporter, [film], [])
    assert "It is strange. Read it alone" in rows[0][1]


def test_a_report_that_takes_too_long_is_given_up(reporter, film, monkeypatch):
    monkeypatch.setattr(session, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(reporter, "report", lambda *_: time.sleep(1))
    *panel, history = ui.write_panel(reporter, film, [])
    assert "given up after 0.2 seconds" in panel[STATUS] and history == []
    assert_no_report(panel)


def test_generate_without_a_file_says_so(reporter):
    *panel, history = ui.write_panel(reporter, None, [])
    assert "Choose a radiograph first" in panel[STATUS] and history == []
    assert_no_report(panel)
    assert_no_report(ui.show_upload(None))


def test_a_batch_goes_on_past_a_bad_file(reporter, film, no_film):
    *steps, last = ui.run_batch(reporter, [film, no_film, film], [])
    assert [f"Film {number} of 3" in step[0] for number, step in enumerate(steps, start=1)] == [True] * 3
    status, rows, opened, history, archive = last
    assert "2 of 3 films have a report" in status and [one is None for one in opened] == [False, True, False]
    assert rows[1][1].startswith("No report: This file is not an accepted image") and len(history) == 2
    with zipfile.ZipFile(archive.value["path"]) as content:
        names = content.namelist()
    assert "01/report.txt" in names and "03/report.pdf" in names and not any("Jane" in name for name in names)


@pytest.mark.parametrize("count", [0, ui.MAX_BATCH + 1])
def test_a_batch_has_its_limits(reporter, film, count):
    (only,) = ui.run_batch(reporter, [film] * count, [])
    assert 'role="alert"' in only[0] and not only[1] and not only[4].interactive


def test_a_session_keeps_its_last_studies_and_opens_them_again(reporter, film):
    *_, history = ui.write_panel(reporter, film, [])
    panel = ui.reopen(history, history[0].label)
    assert panel[OPENED] is history[0] and panel[FINDINGS].value == history[0].report.findings
    assert ui.compared(history, history[0].label) == panel[READER] and ui.compared(history, "another") is None
    many = [Opened(history[0].grey, history[0].bare, str(number)) for number in range(KEPT + 3)]
    kept = []
    for one in many:
        kept = remember(kept, one)
    assert kept == many[-KEPT:]
    assert remember(kept, Opened(kept[0].grey, None, kept[0].label))[-1].report is None


def test_a_large_film_is_kept_small(reporter, tmp_path):
    film = tmp_path / "large.png"
    Image.fromarray((draw_phantom(2, (1600, 1200), ()).pixels * 255).astype(np.uint8)).save(film)
    opened = ui.write_panel(reporter, str(film), [])[OPENED]
    assert opened.grey.shape == (1024, 768) and opened.bare.radiograph.pixels.size == 0
    whole = reporter.report(film)
    assert opened.report.radiograph.pixels.shape == (1024, 768)
    assert np.abs(opened.report.maps - whole.maps_at(1024, 768)).max() < 1e-3
    assert opened.report.findings == whole.findings


def test_a_structured_report_refers_to_the_film_that_it_was_written_from(reporter, tmp_path, film):
    """Whatever file lies in the upload's place by then."""
    image = write_dicom(tmp_path / "IM1")
    opened = ui.write_panel(reporter, str(image), [])[OPENED]
    again = ui.reopen([opened], opened.label)[OPENED]
    document = dcmread(dict(zip(ui.FILES, ui.prepare_files(again), strict=True))["dicom-sr"].value["path"])
    (series,) = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dcmread(image).SOPInstanceUID
    assert document.PatientName == "" and "Jane" not in str(opened.reference)


def write_dicom(path):
    pixels = np.round(draw_phantom(5, (320, 256), ()).pixels * 4095).astype(np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientName, data.Modality, data.BodyPartExamined, data.ViewPosition = "Doe^Jane", "CR", "CHEST", "PA"
    data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_an_empty_page_has_no_view():
    assert view(None) is None


def test_messages_are_text_and_never_markup():
    assert "<b>" not in message("<b>", "bad", ("<script>",)).replace("&lt;", "")
    assert "<script>" not in message("", "", ("<script>",))


def test_the_chart_has_a_bar_per_region_in_its_colour():
    chart = weights_chart(dict(zip(REGION_NAMES, (0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True)))
    assert all(region.colour in chart for region in REGIONS)
    assert "width: 100.0%" in chart
    assert chart.count("width: 25.0%") == 6
    assert "40.0%" in chart


def test_the_findings_chart_has_each_probability_and_threshold():
    readings = tuple(FindingReading(f"finding {k}", k / 20, 0.62, None) for k in range(14))
    chart = findings_chart(readings)
    assert chart.index("finding 13") < chart.index("finding 12") < chart.index("4 more") < chart.index("finding 3<")
    assert "<b>finding 13</b>" in chart and "<b>finding 12</b>" not in chart
    assert "width: 65.0%" in chart and chart.count("left: 62.0%") == 14
    assert findings_chart(()) == ""


def test_doubts_are_listed(reporter, film):
    report = reporter.report(film)
    assert "agree" in doubts_list(report) if not report.doubts else "<li>" in doubts_list(report)
    assert "&lt;b&gt;" in doubts_list(type(report)(**{**vars(report), "warnings": ("<b>",)}))


def test_a_missing_checkpoint_ends_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("XR2TEXT_CHECKPOINT", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"nowhere[\s\S]*XR2TEXT_CHECKPOINT"):
        app.load_reporter()


def test_a_login_needs_both_its_parts(monkeypatch):
    for name in ("XR2TEXT_USER", "XR2TEXT_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert app.login() is None
    monkeypatch.setenv("XR2TEXT_USER", "reader")
    with pytest.raises(SystemExit, match="XR2TEXT_PASSWORD"):
        app.login()
    monkeypatch.setenv("XR2TEXT_PASSWORD", "secret")
    assert app.login() == ("reader", "secret")


def test_on_zero_gpu_each_report_asks_for_the_gpu(monkeypatch, tmp_path):
    (tmp_path / "spaces.py").write_text("def GPU(function):\n    return lambda *a: ('gpu', function(*a))\n")
    monkeypatch.syspath_prepend(tmp_path)

    class Fake:
        def report(self, image):
            return image

    fake = Fake()
    app.on_zero_gpu(fake)
    assert fake.report("film") == ("gpu", "film")


@pytest.fixture(scope="module")
def page(reporter, shelf):
    return ui.build_page(reporter, shelf)


def test_the_page_bears_its_notice_and_model(page, reporter):
    texts = " ".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert NOTICE in texts
    assert reporter.model_name in texts
    assert "right is on the left" in texts


def test_uploads_are_deleted_and_nothing_is_reported_home(page):
    every, age = page.delete_cache
    assert every <= 600
    assert age <= 3600
    assert page.analytics_enabled is False


def test_the_named_endpoints(page, film, no_film, caplog):
    caplog.set_level(logging.INFO)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, server_name="127.0.0.1")
    try:
        client = Client(url, verbose=False)
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/report", "/report_batch", "/info"]
        info = client.predict(api_name="/info")
        assert info["model"] == "xr2text-tiny 0.1.0" and info["regions"] == list(REGION_NAMES)
        good, bad = client.predict([handle_file(film), handle_file(no_film)], api_name="/report_batch")
        assert good["findings"] and "not an accepted image" in bad["error"]
        report = client.predict(handle_file(film), api_name="/report")
        assert set(report) >= {"findings", "impression", "sentences", "regions", "model", "warnings"}
        assert [region["name"] for region in report["regions"]] == list(REGION_NAMES)
        with pytest.raises(Exception, match="not an accepted image"):
            client.predict(handle_file(no_film), api_name="/report")
    finally:
        page.close()
    assert "Jane" not in caplog.text
