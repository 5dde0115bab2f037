"""The page as its reader meets it: the real app as its own process, in a headless browser."""

import numpy as np
import pytest
from dicom_files import dataset, file_bytes
from headless import headless_browser, needs_browser
from PIL import Image
from running_app import running_app

from xr2text.anatomy import REGION_NAMES
from xr2text.phantom.drawing import draw_phantom

pytest.importorskip("selenium", reason="selenium is not installed")
from page_reader import Page
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.slow, needs_browser]

FILES = {
    "txt": "report.txt",
    "json": "report.json",
    "png": "overlay.png",
    "pdf": "report.pdf",
    "fhir": "report.fhir.json",
}


@pytest.fixture(scope="module")
def address(tiny_checkpoint, tmp_path_factory):
    """The running app's address."""
    folder = tmp_path_factory.mktemp("app")
    Page.uploads = folder / "uploads"
    with running_app(tiny_checkpoint, folder) as url:
        yield url
    assert "phantom_of_jane_doe" not in (folder / "log.txt").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with headless_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser, address):
    return Page(browser, address)


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("radiographs") / "phantom_of_jane_doe.png"
    Image.fromarray(np.round(draw_phantom(5, (320, 256), ()).pixels * 255).astype(np.uint8)).save(path)
    return path


def write_dicom(path, modality):
    """The phantom with white as 0 (MONOCHROME1)."""
    pixels = np.round((1 - draw_phantom(5, (320, 256), ()).pixels) * 4095).astype(np.uint16)
    made = dataset(pixels, 12, Modality=modality, PhotometricInterpretation="MONOCHROME1")
    path.write_bytes(file_bytes(made))
    return path


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """A computed radiograph under a name without a suffix."""
    return write_dicom(tmp_path_factory.mktemp("radiographs") / "IM0001", "CR")


def test_from_a_file_to_a_report_and_its_regions(page, png):
    page.upload(png)
    page.until(lambda: "256 × 320" in page.status and page.ready == "image")
    radiograph = page.pixels()
    assert radiograph.shape[:2] == (1024, 819)
    assert (radiograph[..., 0] == radiograph[..., 2]).all(), "the radiograph alone is grey"

    page.generate()
    assert "".join(page.report) and not page.files
    everything = page.pixels()
    assert (everything != radiograph).any()
    chart = page.find("#weights").text
    assert all(name in chart for name in REGION_NAMES) and chart.count("%") == 7

    names = [one.text for one in page.browser.find_elements(By.CSS_SELECTOR, "#reader .legend .name")]
    assert names == list(REGION_NAMES)
    page.press("#reader .legend span:nth-of-type(2) .name")
    change = np.abs(page.pixels() - everything).sum(axis=2)
    assert change[:, 409:].sum() > change[:, :409].sum(), "the left lung lies on the right of the picture"
    page.press("#reader .legend span:nth-of-type(2) .name")
    assert np.array_equal(page.pixels(), everything)

    seen = set()
    for k in range(1, 8):  # each region by itself has an overlay of its own
        page.press(f"#reader .legend span:nth-of-type({k}) .only")
        seen.add(page.pixels().tobytes())
    assert len(seen) == 7
    page.press("#reader .legend span:nth-of-type(7) .only")
    page.find("#reader .opacity").send_keys(Keys.HOME)
    assert np.array_equal(page.pixels(), radiograph)
    page.find("#reader .opacity").send_keys(Keys.END)
    assert np.abs(page.pixels() - radiograph).sum() > np.abs(everything - radiograph).sum()


def test_window_invert_and_zoom(page, png):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    radiograph = page.pixels()
    page.press("#reader .invert")
    assert np.abs(page.pixels() - (255 - radiograph)).max() <= 1
    page.press("#reader .invert")
    page.find("#reader .width").send_keys(Keys.HOME)
    assert np.mean((page.pixels() < 3) | (page.pixels() > 252)) > 0.9, "a narrow window leaves black and white"
    page.press("#reader .reset")
    assert np.array_equal(page.pixels(), radiograph)
    page.find("#reader canvas").send_keys("++")
    zoomed = page.pixels()
    assert np.abs(zoomed - radiograph).mean() > 1
    page.find("#reader canvas").send_keys(Keys.ARROW_RIGHT)
    assert np.abs(page.pixels() - zoomed).mean() > 1, "arrows move what is zoomed"
    page.find("#reader canvas").send_keys("0")
    assert np.array_equal(page.pixels(), radiograph)


def test_a_sentence_lights_up_its_place_and_a_region_its_sentences(page, png):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    page.generate()
    plain = page.pixels()
    assert len(page.sentences) > 1 and all("confidence" in one.text for one in page.sentences)
    page.press("#reader .sentence")
    page.until(lambda: page.sentences[0].get_attribute("aria-pressed") == "true")
    places = page.find("#reader .place").text.removeprefix("Written most from: ").rstrip(".").split(", ")
    assert set(places) <= set(REGION_NAMES) and all(place in page.sentences[0].text for place in places)
    assert np.abs(page.pixels() - plain).sum() > 0
    page.press("#reader .sentence")
    assert np.array_equal(page.pixels(), plain)
    for place in places:
        page.press(f"#reader .legend span:nth-of-type({1 + REGION_NAMES.index(place)}) .only")
        assert "lit" in page.sentences[0].get_attribute("class")
        assert page.find("#reader canvas").get_attribute("data-region") == place


def test_a_click_on_the_picture_chooses_the_region_that_is_strongest_there(page, png):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    radiograph = page.pixels()
    page.generate()
    page.press("#reader .legend span:nth-of-type(1) .only")
    row, column = np.unravel_index(np.abs(page.pixels() - radiograph).sum(2).argmax(), radiograph.shape[:2])
    page.press("#reader .legend span:nth-of-type(1) .only")
    canvas = page.find("#reader canvas")
    page.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    scale = canvas.size["width"] / radiograph.shape[1]
    x, y = (column + 0.5) * scale - canvas.size["width"] / 2, (row + 0.5) * scale - canvas.size["height"] / 2
    webdriver.ActionChains(page.browser).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()
    chosen = page.find("#reader .place").text.removeprefix("Only the ").rstrip(".")
    assert chosen in REGION_NAMES and canvas.get_attribute("data-region") == chosen
    pressed = page.browser.find_elements(By.CSS_SELECTOR, "#reader .legend .name[aria-pressed=true]")
    assert [one.text for one in pressed] == [chosen]


def test_what_is_edited_is_what_is_saved(page, png, tmp_path):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    page.generate()
    box = page.find("#findings textarea")
    box.clear()
    box.send_keys("There is a nodule in the left lung.")
    page.find("#impression textarea").click()
    page.until(lambda: "edited" in page.status and "written by a person" in page.sentences[0].text)
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for name, file in FILES.items():
        page.until(lambda name=name: page.find(f"#save-{name}").is_enabled())
        page.press(f"#save-{name}")
        page.until(lambda file=file: (tmp_path / file).is_file())
    assert not page.find("#save-dicom-sr").is_enabled(), "there is no DICOM file to refer to"
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "There is a nodule in the left lung." in text and "edited by a person" in text
    assert "jane" not in "".join(path.name for path in tmp_path.iterdir()) and not page.files


def test_a_batch_with_a_bad_file_and_a_row_that_opens(page, png, dicom, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("not a picture")
    page.browser.find_elements(By.CSS_SELECTOR, "button[role=tab]")[1].click()
    page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#files input[type=file]"))
    page.find("#files input[type=file]").send_keys("\n".join(map(str, (png, bad, dicom))))
    page.until(lambda: "bad" in page.find("#files").text)
    page.find("#start").click()
    page.until(lambda: "2 of 3 radiographs have a report" in page.find("#batch-status").text)
    table = page.find("#table").text
    assert "not an accepted image" in table
    (first, second) = page.browser.find_elements(By.CSS_SELECTOR, "#table tr.opens button")
    assert (first.accessible_name, second.accessible_name) == ("Open phantom_of_jane_doe.png", "Open IM0001")
    first.send_keys(Keys.ENTER)
    page.until(lambda: "Radiograph 1 of the batch" in page.status and page.ready == "report")


def test_files_that_nobody_read_go_with_their_session(page, browser, address, png):
    browser.switch_to.new_window("tab")
    try:
        other = Page(browser, address)
        other.press("[role=tab]:nth-of-type(2)")
        other.until(lambda: browser.find_elements(By.CSS_SELECTOR, "#files input[type=file]"))
        other.find("#files input[type=file]").send_keys(str(png))
        other.until(lambda: "phantom" in other.find("#files").text)
        assert len(page.files) == 1
    finally:
        browser.close()
        browser.switch_to.window(browser.window_handles[0])
    page.until(lambda: not page.files)


def test_another_session_sees_nothing_of_this_one(page, browser, address, png):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    page.generate()
    browser.switch_to.new_window("tab")
    try:
        other = Page(browser, address)
        assert other.report == ["", ""] and other.ready in ("", "empty")
        assert "report 1" not in other.find("body").text
    finally:
        browser.close()
        browser.switch_to.window(browser.window_handles[0])


def test_a_dicom_file_without_a_suffix_is_read_by_its_content(page, png, dicom):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    as_png = page.pixels()
    page.upload(dicom)
    page.until(lambda: page.ready == "image" and not np.array_equal(page.pixels(), as_png))
    as_dicom = page.pixels()
    assert as_dicom.shape == as_png.shape
    assert np.corrcoef(as_dicom.ravel(), as_png.ravel())[0, 1] > 0.98, "white and black are exchanged"
    page.generate()
    assert "".join(page.report)


def test_a_file_that_is_no_picture_is_refused_in_words_and_the_former_report_goes(page, png, tmp_path):
    page.upload(png)
    page.until(lambda: page.ready == "image")
    page.generate()
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    page.upload(text)
    page.until(lambda: "not an accepted image" in page.status)
    page.until(lambda: page.report == ["", ""] and page.ready == "empty" and page.find("#weights").text == "")
    page.find("#generate").click()
    page.until(lambda: "Choose a radiograph first" in page.status)
    assert "Traceback" not in page.find("body").text


def test_a_doubtful_picture_needs_a_click(page, tmp_path):
    tilted = Image.fromarray(np.round(draw_phantom(5, 320, ()).pixels * 255).astype(np.uint8)).rotate(45)
    tilted.save(tmp_path / "tilted.png")
    page.upload(tmp_path / "tilted.png")
    page.until(lambda: "320 × 320" in page.status)
    page.find("#generate").click()
    page.until(lambda: "may be about nothing in it" in page.status)
    assert page.ready == "image" and page.report == ["", ""]
    page.find("#go-on").click()
    page.until(lambda: "Report written" in page.status and page.ready == "report")
    assert "may be about nothing in it" in page.find("#warnings").text
    assert not [one for one in page.browser.find_elements(By.CSS_SELECTOR, "#go-on") if one.is_displayed()]


def test_a_radiograph_that_lies_on_its_side_is_put_right(page, png, tmp_path):
    with Image.open(png) as image:
        image.rotate(90, expand=True).save(tmp_path / "turned.png")
    page.upload(tmp_path / "turned.png")
    page.until(lambda: "320 × 256" in page.status)
    page.generate()
    assert "turned to the left; it has been put upright" in page.status
    height, width, _ = page.pixels().shape
    assert height > width


def test_a_ct_slice_is_refused_in_words(page, tmp_path):
    page.upload(write_dicom(tmp_path / "slice.dcm", "CT"))
    page.until(lambda: "This is a CT image" in page.status)
    page.find("#generate").click()
    page.until(lambda: "Choose a radiograph first" in page.status)
    assert page.report == ["", ""] and page.ready == "empty"


def test_generate_without_a_file_says_so(page):
    page.find("#generate").click()
    page.until(lambda: "Choose a radiograph first" in page.status)


def test_the_example_is_a_synthetic_phantom(page):
    page.until(lambda: "Synthetic phantom" in page.find("#examples").text)
    page.find("#examples button, #examples .gallery-item").click()
    page.until(lambda: "768 × 768" in page.status)


def test_the_page_says_what_it_is_and_asks_nobody_else(page, address):
    notice = page.find("#notice").text
    assert "Research software, not a medical device. Not for clinical decisions." in notice
    assert "right is on the left" in notice
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(name.startswith((address, "data:", "blob:")) for name in page.browser.execute_script(script))


def test_from_report_to_file_by_keyboard_alone(page, browser, png, tmp_path):
    """Each part that the key reaches has a name, and a line around it as long as it has the focus."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.upload(png)  # by its input: what the button opens is the system's window and none of the page's
    page.until(lambda: page.ready == "image")
    named = []

    def tab_to(name):
        for _ in range(60):
            webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
            one = browser.switch_to.active_element
            if one.tag_name == "body":
                continue  # from the end to the start
            named.append(one.accessible_name)
            page.until(lambda one=one: one.value_of_css_property("outline-width") == "3px")
            assert named[-1] and one.value_of_css_property("outline-style") == "solid", one.get_attribute("outerHTML")
            if name in named[-1]:
                return one
        raise AssertionError(f"{name} is not among {named}")

    tab_to("Generate report").send_keys(Keys.ENTER)
    page.until(lambda: "Report written" in page.status and page.ready == "report")
    tab_to("confidence").send_keys(Keys.ENTER)
    page.until(lambda: page.sentences[0].get_attribute("aria-pressed") == "true")
    assert "Written most from" in page.find("#reader .place").text
    tab_to("Save text").send_keys(Keys.ENTER)
    page.until(lambda: (tmp_path / "report.txt").is_file())
    assert {"The radiograph", "Window level", "Invert", "Show heart", "Only heart"} <= {
        name.split(" with the regions")[0] for name in named
    }
    assert {"Findings", "Impression"} <= set(named)


def test_the_page_fits_a_phone(page, tmp_path):
    (tmp_path / "a_file_of_a_name_as_long_as_hospitals_like_to_have_them_0123456789.png").write_text("no picture")
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.width <= 400
        assert page.find("#notice").is_displayed()
        assert page.find("#generate").is_displayed()
        page.press("[role=tab]:nth-of-type(2)")
        page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#files input[type=file]"))
        page.find("#files input[type=file]").send_keys(str(next(tmp_path.iterdir())))
        page.until(lambda: "a_file" in page.find("#files").text)
        page.find("#start").click()
        page.until(lambda: "not an accepted image" in page.find("#table").text)
        assert page.width <= 400
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
