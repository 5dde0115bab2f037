import base64
import json
import logging
import os
import platform
import time
import zipfile
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from running_app import running_app

import app
from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.export.files import NOTICE
from xr2text.imaging.radiograph import ImageError
from xr2text.inference.confidence import FindingReading
from xr2text.inference.gate import DOUBTFUL, Gate, GateResult
from xr2text.inference.reporter import Reporter
from xr2text.model.steps import Steps
from xr2text.phantom.drawing import draw_phantom
from xr2text.ui import handlers as ui
from xr2text.ui import page as layout
from xr2text.ui import session
from xr2text.ui.examples import ExampleShelf
from xr2text.ui.panels import doubts_list, findings_chart, message, weights_chart
from xr2text.ui.session import KEPT, Opened, remember
from xr2text.ui.uploads import NOT_SENT, UNREADABLE, sweep
from xr2text.ui.viewer import view


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
    return path


@pytest.fixture
def content(film):
    return film.read_bytes()


@pytest.fixture
def no_film(tmp_path):
    path = tmp_path / "film.png"
    path.write_text("not a picture")
    return path


def assert_no_report(panel):
    assert panel["opened"] is None and panel["reader"] is None
    assert panel["findings"].value == panel["impression"].value == ""
    assert panel["chart"] == panel["weights"] == panel["doubts"] == ""
    assert not any(panel[f"save-{name}"].interactive for name in ui.EXPORTS)
    assert "history" not in panel


def picture(address):
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.split(",")[1]))))


def test_a_radiograph_gives_a_report_with_everything_beside_it(reporter, content):
    panel = ui.write_panel(reporter, content, [])
    assert f"Report written by {reporter.model_name}" in panel["status"]
    assert panel["findings"].value + panel["impression"].value and panel["findings"].interactive
    assert all(name in panel["weights"] for name in REGION_NAMES)
    shown, report = panel["reader"], panel["opened"].report
    assert picture(shown["image"]).shape == (1024, 1024)
    assert [one["name"] for one in shown["regions"]] == list(REGION_NAMES)
    assert [one["colour"] for one in shown["regions"]] == [region.colour for region in REGIONS]
    for one, own in zip(shown["regions"], report.maps_at(384, 384), strict=True):
        assert np.abs(picture(one["map"]) / 255 - own).mean() < 0.01  # the attention itself
    assert [one["text"] for one in shown["sentences"]] == [one.text for one in report.sentences]
    assert shown["sentences"][0]["weights"] == list(report.sentences[0].region_weights.values())
    assert panel["history"] == [panel["opened"]] and "Jane" not in panel["opened"].label


def saved(file):
    return base64.b64decode(file["content"])


def test_each_file_of_a_report_is_made_when_it_is_asked_for(reporter, content):
    panel = ui.write_panel(reporter, content, [])
    assert {name for name in ui.EXPORTS if panel[f"save-{name}"].interactive} == {"txt", "json", "png", "pdf", "fhir"}
    report = panel["opened"].report
    typed = panel["opened"], panel["shown"], report.findings, report.impression
    files = {name: ui.export(name, *typed) for name in ("txt", "json", "png", "pdf", "fhir")}
    assert json.loads(saved(files["json"]))["findings"] == report.findings
    assert saved(files["pdf"]).startswith(b"%PDF") and saved(files["png"]).startswith(b"\x89PNG")
    assert [file["name"] for file in files.values()] == [
        "report.txt", "report.json", "overlay.png", "report.pdf", "report.fhir.json",
    ]  # fmt: skip
    assert ui.export("txt", None, "", "", "") is None


def test_an_edited_report_is_what_is_saved(reporter, content):
    panel = ui.write_panel(reporter, content, [])
    typed = panel["shown"], "There is a nodule.", "A nodule."
    answer = ui.apply_edit(panel["opened"], *typed, panel["history"])
    edited = answer["opened"]
    assert "edited" in answer["status"] and edited.report.edited and answer["history"] == [edited]
    assert answer["reader"]["sentences"][0] == {
        "text": "There is a nodule.", "section": "findings", "weights": [], "region": None, "confidence": None,
    }  # fmt: skip
    assert "To be doubted" in answer["doubts"]
    for opened in (edited, panel["opened"]):  # also where the edit has not reached the session yet
        text = saved(ui.export("txt", opened, *typed)).decode()
        assert "There is a nodule." in text and f"Drafted by {reporter.model_name} and edited" in text
    assert ui.apply_edit(edited, *typed, answer["history"]) == {}


def test_a_text_never_gets_into_the_report_of_another_study(reporter, content):
    """One that was typed before the page had turned to that other one."""
    panel = ui.write_panel(reporter, content, [])
    typed = "an earlier study", "There is a nodule.", "A nodule."
    assert ui.apply_edit(panel["opened"], *typed, panel["history"]) == {}
    assert ui.export("txt", panel["opened"], *typed) is None


def test_an_upload_shows_its_radiograph_and_leaves_no_file(film, content):
    panel = ui.show_upload(str(film))
    assert "160 × 160" in panel["status"]
    assert panel["reader"]["regions"] == panel["reader"]["sentences"] == []
    assert panel["findings"].value == panel["weights"] == "" and not panel["findings"].interactive
    assert panel["content"] == content and not film.exists()


def test_an_upload_that_has_gone_is_said_in_words(film):
    film.unlink()
    panel = ui.show_upload(str(film))
    assert "no longer there" in panel["status"] and panel["content"] is None
    assert_no_report(panel)


def test_what_is_no_radiograph_is_said_in_words(reporter, no_film):
    for panel in (ui.write_panel(reporter, no_film.read_bytes(), []), ui.show_upload(str(no_film))):
        assert 'role="alert"' in panel["status"]
        assert "image" in panel["status"]
        assert_no_report(panel)


def test_a_doubtful_picture_waits_for_a_click(reporter, content, film, monkeypatch):
    monkeypatch.setattr(Gate, "forward", lambda self, one: GateResult(DOUBTFUL, one, (), "It is strange."))
    panel = ui.write_panel(reporter, content, [])
    assert "It is strange." in panel["status"] and panel["go-on"].visible and "history" not in panel
    assert panel["opened"].report is None and panel["reader"]["image"] and not panel["findings"].interactive
    panel = ui.write_panel(reporter, content, [], force=True)
    assert "It is strange." in panel["doubts"] and not panel["go-on"].visible and len(panel["history"]) == 1
    *_, last = ui.run_batch(reporter, [str(film)], [])
    assert "It is strange. Read it alone" in last["table"][0][1]


def test_a_report_that_takes_too_long_is_given_up(reporter, content, monkeypatch):
    monkeypatch.setattr(session, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(reporter, "report", lambda *_: time.sleep(1))
    panel = ui.write_panel(reporter, content, [])
    assert "given up after 0.2 seconds" in panel["status"]
    assert_no_report(panel)


def test_late_reports_leave_their_threads_to_others(reporter, content, monkeypatch):
    """As many in a row as would fill every thread, were they to go on."""
    step, steps = Steps.step, []

    def slow_step(self, ids):
        steps.append(len(steps))
        time.sleep(0.1)
        return step(self, ids)

    monkeypatch.setattr(Steps, "step", slow_step)
    monkeypatch.setattr(session, "REPORT_SECONDS", 0.3)
    for _ in range(session.WRITERS):
        with pytest.raises(ImageError, match="given up"):
            session.report_in_time(reporter, content)
    time.sleep(0.3)
    made = len(steps)
    assert made >= session.WRITERS
    time.sleep(0.3)
    assert len(steps) == made, "they have stopped"
    monkeypatch.undo()
    assert session.report_in_time(reporter, content).findings


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in another way")
@pytest.mark.parametrize("read", ["a film", "a report"])
def test_what_is_freed_goes_back_to_the_system(reporter, content, read):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    blocks = [bytes(4000) for _ in range(50_000)]
    kept = blocks[::50]  # between which the rest cannot be given back from the end
    del blocks
    before = resident()
    if read == "a film":
        session.open_film(content)
    else:
        session.report_in_time(reporter, content)
    assert before - resident() > 100 and len(kept) == 1000


def test_generate_without_a_file_says_so(reporter):
    panel = ui.write_panel(reporter, None, [])
    assert "Choose a radiograph first" in panel["status"]
    assert_no_report(panel)


def test_a_batch_goes_on_past_a_bad_file_and_leaves_none(reporter, film, content, no_film):
    again = film.with_name("again.png")
    again.write_bytes(content)
    paths = [str(one) for one in (film, no_film, again)]
    *steps, last = ui.run_batch(reporter, paths, [])
    assert [f"Film {number} of 3" in step["batch-status"] for number, step in enumerate(steps, start=1)] == [True] * 3
    opened = last["results"]
    assert "2 of 3 films have a report" in last["batch-status"]
    assert [one is None for one in opened] == [False, True, False] and len(last["history"]) == 2
    assert last["table"][1][1].startswith("No report: This file is not an accepted image")
    assert not any(path.exists() for path in (film, no_film, again))
    with zipfile.ZipFile(BytesIO(saved(ui.export_batch(opened)))) as zipped:
        names = zipped.namelist()
    assert last["save-zip"].interactive and ui.export_batch([None]) is None
    assert "01/report.txt" in names and "03/report.pdf" in names and not any("Jane" in name for name in names)


@pytest.mark.parametrize("count", [0, ui.MAX_BATCH + 1])
def test_a_batch_has_its_limits(reporter, film, count):
    (only,) = ui.run_batch(reporter, [str(film)] * count, [])
    assert 'role="alert"' in only["batch-status"] and not only["table"] and not only["save-zip"].interactive
    assert film.exists() == (count == 0)


def test_a_batch_that_is_left_leaves_no_file(reporter, film):
    steps = ui.run_batch(reporter, [str(film)], [])
    next(steps)
    steps.close()
    assert not film.exists()


def test_a_session_keeps_its_last_studies_and_opens_them_again(reporter, content):
    history = ui.write_panel(reporter, content, [])["history"]
    panel = ui.reopen(history, history[0].label)
    assert panel["earlier"] == panel["shown"] == history[0].label and ui.reopen(history, "another") == {}
    assert panel["content"] is None, "what is written next is not of the file that came last"
    assert panel["opened"] is history[0] and panel["findings"].value == history[0].report.findings
    assert ui.compared(history, history[0].label) == panel["reader"] and ui.compared(history, "another") is None
    many = [Opened(history[0].grey, history[0].bare, str(number)) for number in range(KEPT + 3)]
    kept = []
    for one in many:
        kept = remember(kept, one)
    assert kept == many[-KEPT:]
    assert remember(kept, Opened(kept[0].grey, None, kept[0].label))[-1].report is None


def test_a_row_of_a_batch_opens_its_film_alone(reporter, content):
    one = ui.write_panel(reporter, content, [])["opened"]
    panel = ui.open_row([None, one], 1)
    assert panel["opened"] is one and panel["content"] is None and panel["tabs"].selected == "read"
    assert ui.open_row([None, one], 0) == ui.open_row([None, one], 2) == {}


def test_a_large_film_is_kept_small(reporter, tmp_path):
    film = tmp_path / "large.png"
    Image.fromarray((draw_phantom(2, (1600, 1200), ()).pixels * 255).astype(np.uint8)).save(film)
    opened = ui.write_panel(reporter, film.read_bytes(), [])["opened"]
    assert opened.grey.shape == (1024, 768) and opened.bare.radiograph.pixels.size == 0
    whole = reporter.report(film)
    assert opened.report.radiograph.pixels.shape == (1024, 768)
    assert np.abs(opened.report.maps - whole.maps_at(1024, 768)).max() < 1e-3
    assert opened.report.findings == whole.findings


def test_a_structured_report_refers_to_the_film_that_it_was_written_from(reporter, tmp_path):
    image = write_dicom(tmp_path / "IM1")
    panel = ui.write_panel(reporter, image.read_bytes(), [])
    opened = ui.reopen([panel["opened"]], panel["shown"])["opened"]
    assert all(panel[f"save-{name}"].interactive for name in ui.EXPORTS)
    file = ui.export("dicom-sr", opened, opened.label, opened.bare.findings, opened.bare.impression)
    document = dcmread(BytesIO(saved(file)))
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


def test_a_login_is_asked_of_page_and_programs(tiny_checkpoint, film, tmp_path):
    with running_app(tiny_checkpoint, tmp_path, XR2TEXT_USER="reader", XR2TEXT_PASSWORD="secret") as url:
        stranger, reader = requests.Session(), requests.Session()
        assert "xr2text-tiny" not in stranger.get(url, timeout=30).text
        wrong = {"username": "reader", "password": "Secret"}
        assert stranger.post(f"{url}login", data=wrong, timeout=30).status_code == 400
        with film.open("rb") as file:
            answers = [
                stranger.get(f"{url}config", timeout=30),
                stranger.get(f"{url}gradio_api/info", timeout=30),
                stranger.post(f"{url}gradio_api/upload", files={"files": file}, timeout=30),
                *(
                    stranger.post(f"{url}gradio_api/call/{name}", json={"data": []}, timeout=30)
                    for name in ("report", "report_batch", "info")
                ),
                stranger.post(f"{url}gradio_api/queue/join", json={"data": [], "fn_index": 0}, timeout=30),
                stranger.post(f"{url}gradio_api/run/info", json={"data": []}, timeout=30),
            ]
        assert [answer.status_code for answer in answers] == [401] * len(answers)
        right = {"username": "reader", "password": "secret"}
        assert reader.post(f"{url}login", data=right, timeout=30).status_code == 200
        assert "xr2text-tiny" in reader.get(f"{url}config", timeout=30).text
        answered, report = ask(url, send(url, film, reader).json()[0], reader)
        assert answered and report["findings"]
        assert Client(url, auth=("reader", "secret"), verbose=False).predict(api_name="/info")["max_batch"]


def test_a_login_and_mcp_tools_do_not_go_together(monkeypatch):
    """gradio answers them without asking who calls, and then cannot call its own page."""
    monkeypatch.setenv("XR2TEXT_USER", "reader")
    monkeypatch.setenv("XR2TEXT_PASSWORD", "secret")
    monkeypatch.setattr("sys.argv", ["app.py", "--mcp"])
    with pytest.raises(SystemExit, match="login"):
        app.main()


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
def page(reporter, shelf, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield layout.build_page(reporter, shelf)


def test_the_page_bears_its_notice_and_model(page, reporter):
    texts = " ".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert NOTICE in texts
    assert reporter.model_name in texts
    assert "right is on the left" in texts


def test_what_nobody_came_to_read_goes_by_its_age(tmp_path):
    old, young = tmp_path / "a" / "old.png", tmp_path / "b" / "young.png"
    for path in (old, young):
        path.parent.mkdir()
        path.write_bytes(b"film")
    os.utime(old, (time.time() - 1000, time.time() - 1000))
    sweep(tmp_path, 900)
    assert not old.parent.exists() and young.exists()


def test_uploads_are_deleted_and_nothing_is_reported_home(page):
    every, age = page.delete_cache
    assert every <= 600
    assert age <= 3600
    assert page.analytics_enabled is False


@pytest.fixture(scope="module")
def address(page):
    settings = {"prevent_thread_lock": True, "quiet": True, "share": False, "ssr_mode": False}
    yield page.launch(server_name="127.0.0.1", max_file_size=2**20, **settings)[1]
    page.close()


@pytest.fixture
def uploads(page):
    """What files lie among the uploads."""
    folder = Path(page.app.uploaded_file_dir)
    return lambda: [path for path in folder.rglob("*") if path.is_file()]


def test_the_named_endpoints(address, film, no_film, uploads, caplog):
    caplog.set_level(logging.INFO)
    client = Client(address, verbose=False)
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/report", "/report_batch", "/info"]
    info = client.predict(api_name="/info")
    assert info["model"] == "xr2text-tiny 0.1.0" and info["regions"] == list(REGION_NAMES)
    good, bad = client.predict([handle_file(film), handle_file(no_film)], api_name="/report_batch")
    assert good["findings"] and "not an accepted image" in bad["error"]
    report = client.predict(handle_file(film), api_name="/report")
    assert set(report) >= {"findings", "impression", "sentences", "regions", "model", "warnings"}
    assert [region["name"] for region in report["regions"]] == list(REGION_NAMES)
    with pytest.raises(AppError, match="not an accepted image"):
        client.predict(handle_file(no_film), api_name="/report")
    assert "Jane" not in caplog.text and not uploads()


def send(address, path, caller=requests):
    with path.open("rb") as file:
        answer = caller.post(f"{address}gradio_api/upload", files={"files": (path.name, file)}, timeout=30)
    return answer


def ask(address, path, caller=requests):
    """/report by plain HTTP: (True, the report) or (False, why there is none)."""
    data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, False]}
    event = caller.post(f"{address}gradio_api/call/report", json=data, timeout=30).json()["event_id"]
    kind, answer = caller.get(f"{address}gradio_api/call/report/{event}", timeout=60).text.strip().split("\n")[-2:]
    answer = json.loads(answer.removeprefix("data: "))
    return (True, answer[0]) if kind == "event: complete" else (False, answer and answer.get("error"))


def test_equal_films_of_two_readers_are_two_files(address, film, uploads):
    first, second = (send(address, film).json()[0] for _ in range(2))
    assert first != second
    assert ask(address, first)[1]["findings"] and uploads() == [Path(second)]
    assert ask(address, second)[1]["findings"] and not uploads()
    assert ask(address, first) == (False, "The file is no longer there; please choose it again.")


def ask_by_number(page, address, number):
    """An event of the page, as its browser would send it, but with a path in each of its inputs."""
    data = [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}} for _ in page.fns[number].inputs]
    body = {"data": data, "fn_index": number, "session_hash": f"outside{number}", "event_data": {"row": 0}}
    requests.post(f"{address}gradio_api/queue/join", json=body, timeout=30).raise_for_status()
    with requests.get(
        f"{address}gradio_api/queue/data?session_hash=outside{number}", stream=True, timeout=30
    ) as answer:
        (done,) = (json.loads(line[6:]) for line in answer.iter_lines() if b'"process_completed"' in line)
    assert done["success"] or done["output"]["error"] in SENTENCES, (number, done)


SENTENCES = (
    NOT_SENT, UNREADABLE, "No file was sent.", "The file is no longer there; please choose it again.",
    "Send the file itself, not its address.",
)  # fmt: skip


def test_no_path_outside_the_uploads_is_readable(page, address, film, uploads, caplog, capfd):
    folder = Path(send(address, film).json()[0]).parents[1]
    outside = [
        str(film), "/etc/passwd", f"{folder}/../../etc/passwd", "../../etc/passwd", str(folder), "/proc/self/environ",
        "http://127.0.0.1:9/film.png", str(Path(app.__file__)), "", "\0", f"{folder}/{'x' * 5000}", 3,
    ]  # fmt: skip
    caplog.set_level(logging.INFO)
    for path in outside:
        answered, text = ask(address, path)
        assert not answered, path
        assert text in SENTENCES and (not path or str(path) not in text), (path, text)
    for number in page.fns:  # what the page itself calls
        ask_by_number(page, address, number)
    told = caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in told and "passwd" not in told and str(folder) not in told
    for path in map(str, outside):
        for prefix in ("file=", "file/"):
            answer = requests.get(f"{address}gradio_api/{prefix}{quote(path)}", timeout=30)
            assert answer.status_code in (403, 404), (path, answer.status_code)
    assert film.exists() and len(uploads()) == 1
    uploads()[0].unlink()


def test_nobody_passes_the_queue_by(page, address):
    """By a call that gradio would answer at once, whatever the limit of what is at work."""
    for number, event in page.fns.items():
        if event.concurrency_id == "radiograph":
            body = {"data": [None for _ in event.inputs], "fn_index": number}
            assert requests.post(f"{address}gradio_api/run/predict", json=body, timeout=30).status_code == 404


def test_a_file_beyond_the_limit_is_refused_and_not_kept(address, tmp_path, uploads):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(2**20 + 1))
    answer = send(address, large)
    assert answer.status_code == 413 and "maximum allowed size" in answer.text and not uploads()


def test_a_picture_beyond_the_limit_is_refused(address, tmp_path):
    Image.new("1", (10_000, 5_001)).save(tmp_path / "wide.png")
    answered, text = ask(address, send(address, tmp_path / "wide.png").json()[0])
    assert not answered and "pixels" in text


def late(*_):
    time.sleep(0.5)
    raise ImageError("Nobody waits for this any more.")


def test_a_program_is_told_of_a_report_that_takes_too_long(address, reporter, film, monkeypatch, uploads):
    monkeypatch.setattr(session, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(reporter, "report", late)
    answered, text = ask(address, send(address, film).json()[0])
    assert not answered and "given up after 0.2 seconds" in text and not uploads()


def test_who_finds_the_queue_full_is_told_so(page, address, reporter, film, monkeypatch):
    assert page._queue.max_size == layout.WAITING
    monkeypatch.setattr(page._queue, "max_size", 1)
    monkeypatch.setattr(reporter, "report", late)
    data = {"data": [{"path": send(address, film).json()[0], "meta": {"_type": "gradio.FileData"}}, False]}
    answers = [requests.post(f"{address}gradio_api/call/report", json=data, timeout=30) for _ in range(4)]
    assert answers[-1].status_code == 503 and "full" in answers[-1].text, [one.text for one in answers]


def test_a_dicom_header_is_shown_to_nobody(address, tmp_path, uploads, caplog, capfd):
    caplog.set_level(logging.INFO)
    image = write_dicom(tmp_path / "IM1")
    answered, report = ask(address, send(address, image).json()[0])
    told = json.dumps(report) + caplog.text + "".join(capfd.readouterr())
    assert answered and "Jane" not in told and dcmread(image).StudyInstanceUID not in told and not uploads()
