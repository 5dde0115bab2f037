import hashlib
import json
import logging
import time

import numpy as np
import pytest
import requests
from dicom_files import IDENTITY, dataset, file_bytes
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_client import ask, body, send
from PIL import Image
from pydicom import dcmread

from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.radiograph import ImageError
from xr2text.phantom.drawing import draw_phantom
from xr2text.ui.page import WAITING


def test_the_named_endpoints(address, png, not_an_image, uploads, caplog):
    caplog.set_level(logging.INFO)
    client = Client(address, verbose=False)
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/report", "/report_batch", "/info"]
    info = client.predict(api_name="/info")
    assert info["model"] == "xr2text-tiny 0.1.0" and info["regions"] == list(REGION_NAMES)
    good, bad = client.predict([handle_file(png), handle_file(not_an_image)], api_name="/report_batch")
    assert good["findings"] and "not an accepted image" in bad["error"]
    report = client.predict(handle_file(png), api_name="/report")
    assert set(report) >= {"findings", "impression", "sentences", "regions", "model", "warnings"}
    assert report["file"] == png.name and not report["lateral_view"]
    assert report["sha256"] == hashlib.sha256(png.read_bytes()).hexdigest()
    assert [region["name"] for region in report["regions"]] == list(REGION_NAMES)
    with pytest.raises(AppError, match="not an accepted image"):
        client.predict(handle_file(not_an_image), api_name="/report")
    assert "jane" not in caplog.text and not uploads()


def test_findings_are_set_by_programs_too(address, page, png, real_reporter, uploads):
    client = Client(address, verbose=False)
    assert client.predict(api_name="/info")["not_assessed"] == []
    with pytest.raises(AppError, match="no finding head"):
        client.predict(handle_file(png), False, {"nodule": "present"}, api_name="/report")
    with pytest.raises(AppError, match="sent as an object"):
        client.predict(handle_file(png), False, ["nodule"], api_name="/report")
    assert not uploads()


def test_a_lateral_view_is_sent_beside(address, png, not_an_image, real_reporter, uploads):
    client = Client(address, verbose=False)
    report = client.predict(handle_file(png), lateral=handle_file(png), api_name="/report")
    assert report["lateral_view"] == real_reporter.takes_lateral
    assert real_reporter.takes_lateral or "frontal views only" in " ".join(report["doubts"] + report["warnings"])
    with pytest.raises(AppError, match="not an accepted image"):
        client.predict(handle_file(png), lateral=handle_file(not_an_image), api_name="/report")
    assert not uploads()


def test_a_lateral_view_of_another_study_is_refused(address, tmp_path, uploads):
    client, pixels = Client(address, verbose=False), np.round(draw_phantom(1, 256).pixels * 4095).astype(np.uint16)
    for study in ("1.2.3", "1.2.4"):
        made = dataset(pixels, 12, StudyInstanceUID=study, SeriesInstanceUID=study, SOPInstanceUID=study)
        (tmp_path / f"{study}.dcm").write_bytes(file_bytes(made))
    frontal, other = (handle_file(tmp_path / f"{study}.dcm") for study in ("1.2.3", "1.2.4"))
    with pytest.raises(AppError, match="of another study than the frontal one"):
        client.predict(frontal, lateral=other, api_name="/report")
    assert client.predict(frontal, True, lateral=other, api_name="/report")["findings"]
    assert client.predict(frontal, lateral=frontal, api_name="/report")["findings"]
    assert not uploads()


def test_an_image_beyond_the_limit_is_refused(address, tmp_path):
    Image.new("1", (10_000, 5_001)).save(tmp_path / "wide.png")
    answered, text = ask(address, send(address, tmp_path / "wide.png").json()[0])
    assert not answered and "pixels" in text


def test_nobody_passes_the_queue_by(page, address):
    """By a call that gradio would answer at once, whatever the limit of what is at work."""
    for number, event in page.fns.items():
        if event.concurrency_id == "radiograph":
            data = {"data": [None for _ in event.inputs], "fn_index": number}
            assert requests.post(f"{address}gradio_api/run/predict", json=data, timeout=30).status_code == 404


def late(*_, **__):
    time.sleep(0.5)
    raise ImageError("Nobody waits for this any more.")


def test_who_finds_the_queue_full_is_told_so(page, address, real_reporter, png, monkeypatch):
    assert page._queue.max_size == WAITING
    monkeypatch.setattr(page._queue, "max_size", 1)
    monkeypatch.setattr(real_reporter, "report", late)
    data = body(send(address, png).json()[0])
    answers = [requests.post(f"{address}gradio_api/call/report", json=data, timeout=30) for _ in range(4)]
    assert answers[-1].status_code == 503 and "full" in answers[-1].text, [answer.text for answer in answers]


def test_a_dicom_header_is_shown_to_nobody(address, make_dicom, uploads, caplog, capfd):
    caplog.set_level(logging.INFO)
    image = make_dicom()
    answered, report = ask(address, send(address, image).json()[0])
    shown = json.dumps(report) + caplog.text + "".join(capfd.readouterr())
    assert answered and not uploads() and dcmread(image).StudyInstanceUID not in shown
    assert not any(word in shown for word in IDENTITY)
