import json
import logging

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import app
from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.imaging.phantom import draw_phantom
from xr2text.inference.examples import ExampleShelf
from xr2text.inference.export import NOTICE
from xr2text.inference.reporter import Reporter

STATUS, CANVAS, PICTURE, FINDINGS, IMPRESSION, WEIGHTS = range(6)


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
    assert panel[CANVAS] is None
    assert panel[PICTURE] is None
    assert panel[FINDINGS] == panel[IMPRESSION] == panel[WEIGHTS] == ""
    assert not any(button.interactive for button in panel[6:])


def test_a_radiograph_gives_a_report_a_picture_weights_and_downloads(reporter, film):
    panel = app.write_panel(reporter, film, list(REGION_NAMES), 0.45)
    assert f"Report written by {reporter.model_name}" in panel[STATUS]
    assert panel[FINDINGS] + panel[IMPRESSION]
    assert panel[PICTURE].shape == (1024, 1024, 3)
    assert all(name in panel[WEIGHTS] for name in REGION_NAMES)
    names = [button.value["path"].rsplit("/", 1)[-1] for button in panel[6:]]
    assert names == ["report.txt", "report.json", "overlay.png"]
    with open(panel[7].value["path"], encoding="utf-8") as file:
        assert json.load(file)["findings"] == panel[FINDINGS]


def test_switching_a_region_paints_without_the_model(reporter, film):
    panel = app.write_panel(reporter, film, list(REGION_NAMES), 0.45)
    assert np.array_equal(app.redraw(panel[CANVAS], list(REGION_NAMES), 0.45), panel[PICTURE])
    assert (app.redraw(panel[CANVAS], ["heart"], 0.45) != panel[PICTURE]).any()
    assert not isinstance(app.redraw(None, ["heart"], 0.45), np.ndarray)


def test_an_upload_shows_its_radiograph_and_clears_the_former_report(film):
    panel = app.show_upload(film)
    assert "160 × 160" in panel[STATUS]
    assert panel[PICTURE].ndim == 2
    assert panel[FINDINGS] == panel[IMPRESSION] == panel[WEIGHTS] == ""


def test_what_is_no_radiograph_is_said_in_words(reporter, no_film):
    for panel in (app.show_upload(no_film), app.write_panel(reporter, no_film, [], 0.5)):
        assert 'role="alert"' in panel[STATUS]
        assert "image" in panel[STATUS]
        assert_no_report(panel)


def test_generate_without_a_file_says_so(reporter):
    panel = app.write_panel(reporter, None, [], 0.5)
    assert "Choose a radiograph first" in panel[STATUS]
    assert_no_report(panel)
    assert_no_report(app.show_upload(None))


def test_messages_are_text_and_never_markup():
    assert "<b>" not in app.message("<b>", "bad", ("<script>",)).replace("&lt;", "")
    assert "<script>" not in app.message("", "", ("<script>",))


def test_the_chart_has_a_bar_per_region_in_its_colour():
    chart = app.weights_chart(dict(zip(REGION_NAMES, (0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True)))
    assert all(region.colour in chart for region in REGIONS)
    assert "width: 100.0%" in chart
    assert chart.count("width: 25.0%") == 6
    assert "40.0%" in chart


def test_a_missing_checkpoint_ends_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("XR2TEXT_CHECKPOINT", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"nowhere[\s\S]*XR2TEXT_CHECKPOINT"):
        app.load_reporter()


@pytest.fixture(scope="module")
def page(reporter, shelf):
    return app.build_page(reporter, shelf)


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


def test_the_named_endpoint(page, film, no_film, caplog):
    caplog.set_level(logging.INFO)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, server_name="127.0.0.1")
    try:
        client = Client(url, verbose=False)
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/report"]
        report = client.predict(handle_file(film), api_name="/report")
        assert set(report) >= {"findings", "impression", "sentences", "regions", "model", "warnings"}
        assert [region["name"] for region in report["regions"]] == list(REGION_NAMES)
        with pytest.raises(Exception, match="not an accepted image"):
            client.predict(handle_file(no_film), api_name="/report")
    finally:
        page.close()
    assert "Jane" not in caplog.text
