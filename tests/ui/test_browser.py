"""The page as its reader meets it: the real app as its own process, in a headless browser."""

import numpy as np
import pytest
from headless import needs_browser
from PIL import Image

from xr2text.anatomy import REGION_NAMES
from xr2text.phantom.drawing import draw_phantom

pytest.importorskip("selenium", reason="selenium is not installed")
from page_reader import Page
from reading_room import address, browser, dicom, page, png, write_dicom  # noqa: F401  (fixtures)
from selenium import webdriver
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.slow, needs_browser]


def screen(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_from_a_file_to_a_report_and_its_regions(page, png):
    page.press("#reader .auto")
    page.read(png)
    page.until(lambda: page.ready == "image")
    assert "256 × 320" in page.status
    radiograph = page.pixels()
    assert radiograph.shape[:2] == (1024, 819)
    assert (radiograph[..., 0] == radiograph[..., 2]).all(), "the radiograph alone is grey"

    page.press("#reader .write")
    page.until(lambda: page.ready == "report")
    assert "Report written" in page.status and page.words and not page.files
    everything = page.pixels()
    assert (everything != radiograph).any()
    legend = [one.text for one in page.all("#reader .legend .name")]
    assert [text.rsplit(" ", 2)[0] for text in legend] == list(REGION_NAMES)
    assert abs(sum(int(text.split()[-2]) for text in legend) - 100) <= 3

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


def test_window_invert_and_zoom_by_mouse_and_keys(page, browser, png):
    page.press("#reader .auto")
    page.read(png)
    radiograph, canvas = page.pixels(), page.find("#reader canvas")

    def type_(keys):
        webdriver.ActionChains(browser).send_keys(keys).perform()

    def drag(dx, dy):
        webdriver.ActionChains(browser).drag_and_drop_by_offset(canvas, dx, dy).perform()

    type_("i")
    assert np.abs(page.pixels() - (255 - radiograph)).max() <= 1
    type_("i")
    drag(-200, 0)
    assert float(page.find("#reader .width").get_property("value")) < 70
    assert page.pixels().std() > 1.2 * radiograph.std(), "a narrower window has more contrast"
    type_("r")
    slow = webdriver.ActionChains(browser, duration=0).click_and_hold(canvas)
    for _ in range(80):
        slow.move_by_offset(-1, 0)
    slow.release().perform()
    assert float(page.find("#reader .width").get_property("value")) == 80
    type_("r")
    assert np.array_equal(page.pixels(), radiograph)
    drag(0, 120)
    assert page.pixels().mean() < radiograph.mean() - 10, "a higher level is darker"
    page.press("#reader .reset")
    type_("z")
    page.press("#reader .in")
    zoomed = page.pixels()
    assert np.abs(zoomed - radiograph).mean() > 1
    drag(-80, -40)
    assert np.abs(page.pixels() - zoomed).mean() > 1, "what is zoomed is moved"
    canvas.send_keys("0")
    assert np.array_equal(page.pixels(), radiograph)
    webdriver.ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -200).perform()
    page.until(lambda: np.abs(page.pixels() - radiograph).mean() > 1)
    type_("?")
    assert page.find("#reader dialog").is_displayed() and "Z, then drag" in page.find("#reader dialog").text


def test_a_sentence_lights_up_its_place_and_a_region_its_sentences(page, png):
    page.read(png)
    plain = page.pixels()
    assert len(page.sentences) > 1 and all("confidence" in one.text for one in page.sentences)
    page.find("#reader .words").click()
    page.until(lambda: "lit" in page.sentences[0].get_attribute("class"))
    places = page.find("#reader .place").text.removeprefix("Written most from: ").rstrip(".").split(", ")
    assert set(places) <= set(REGION_NAMES) and all(place in page.sentences[0].text for place in places)
    assert np.abs(page.pixels() - plain).sum() > 0
    for place in places:
        page.press(f"#reader .legend span:nth-of-type({1 + REGION_NAMES.index(place)}) .only")
        assert "lit" in page.sentences[0].get_attribute("class")
        assert page.find("#reader canvas").get_attribute("data-region") == place


def test_a_click_on_the_picture_chooses_the_region_that_is_strongest_there(page, png):
    page.press("#reader .auto")
    page.read(png)
    radiograph = page.pixels()
    page.press("#reader .write")
    page.until(lambda: page.ready == "report")
    page.press("#reader .legend span:nth-of-type(1) .only")
    row, column = np.unravel_index(np.abs(page.pixels() - radiograph).sum(2).argmax(), radiograph.shape[:2])
    page.press("#reader .legend span:nth-of-type(1) .only")
    canvas = page.find("#reader canvas")
    scale = canvas.size["width"] / radiograph.shape[1]
    x, y = (column + 0.5) * scale - canvas.size["width"] / 2, (row + 0.5) * scale - canvas.size["height"] / 2
    webdriver.ActionChains(page.browser).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()
    chosen = page.find("#reader .place").text.removeprefix("Only the ").rstrip(".")
    assert chosen in REGION_NAMES and canvas.get_attribute("data-region") == chosen
    pressed = page.all("#reader .legend .name[aria-pressed=true]")
    assert len(pressed) == 1 and pressed[0].text.startswith(chosen)


def test_a_batch_is_a_worklist(page, browser, png, dicom, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("not a picture")
    page.batch(png, bad, dicom)
    page.until(lambda: "2 of 3 have a report" in page.find("#batch-status").text)
    rows = page.all("#rows li")
    assert rows[0].get_attribute("class") == "refused" and "not an accepted image" in rows[0].text
    page.find("#worklist .sort").send_keys("name")
    assert [one.find_element(By.TAG_NAME, "b").text for one in page.all("#rows li")] == ["bad.png", "IM0001", png.name]
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for name, file in (("zip", "reports.zip"), ("csv", "findings.csv")):
        page.press(f"#worklist .{name}")
        page.until(lambda file=file: (tmp_path / file).is_file())
    opens = page.all("#rows button:enabled")[0]
    assert opens.accessible_name.startswith("Open IM0001")
    browser.set_network_conditions(offline=False, latency=1000, throughput=10**7)
    opens.send_keys(Keys.ENTER)
    assert "Opening the radiograph" in page.find("#reader .busy").text and not page.ready
    assert page.find("#reader .text").get_property("inert"), "the former study is held"
    browser.delete_network_conditions()
    page.until(lambda: page.ready == "report" and page.find("#reader .steps").is_displayed())
    assert not page.find("#reader .text").get_property("inert") and not page.find("#reader .busy").is_displayed()
    assert "Film 1 of 2" in page.find("#reader .steps").text and "IM0001" in page.status
    browser.execute_script("document.activeElement.blur()")
    for key, name in ((Keys.ARROW_DOWN, png.name), (Keys.ARROW_UP, "IM0001")):
        webdriver.ActionChains(browser).send_keys(key).perform()
        page.until(lambda name=name: page.ready == "report" and name in page.status)

    page.press("[role=tab][data-view=batch]")
    page.find("#worklist .sort").send_keys("what")
    names = [one.text for one in page.all("#rows .report b")]
    opens = page.all("#rows .report button")[-1]
    opens.send_keys(Keys.ENTER)
    page.until(lambda: page.ready == "report" and names[-1] in page.status)
    page.set_finding("nodule", "present")
    page.press("[role=tab][data-view=batch]")
    page.until(lambda: [one.text for one in page.all("#rows .report b")] == names[::-1])
    focus = "return document.activeElement.querySelector('b').textContent"
    assert browser.execute_script(f"document.querySelector('#rows .report button').focus(); {focus}") == names[-1]
    page.find("#worklist .files").send_keys(str(png))
    page.until(lambda: "1 of 1 have a report" in page.find("#batch-status").text)
    assert browser.execute_script(focus) == names[-1] and len(page.all("#rows li")) == 4
    page.press("[role=tab][data-view=read]")
    page.press("#reader .previous")
    page.until(lambda: page.ready == "report" and names[0] in page.status)
    assert not page.files


def test_three_files_on_the_radiographs_place_are_a_batch(page, png, dicom, tmp_path):
    again = tmp_path / "again.png"
    again.write_bytes(png.read_bytes())
    page.find("#reader .files").send_keys("\n".join(map(str, (png, dicom, again))))
    page.until(lambda: "3 of 3 have a report" in page.find("#batch-status").text)
    assert page.find("#worklist").is_displayed() and not page.find("#reader").is_displayed()


def test_another_session_sees_nothing_of_this_one(page, browser, address, png):
    page.read(png)
    browser.switch_to.new_window("tab")
    try:
        other = Page(browser, address)
        assert not other.words and "report 1" not in other.find("body").text
    finally:
        browser.close()
        browser.switch_to.window(browser.window_handles[0])


def test_a_dicom_file_without_a_suffix_is_read_by_its_content(page, png, dicom):
    page.press("#reader .auto")
    page.read(png)
    as_png = page.pixels()
    page.read(dicom)
    as_dicom = page.pixels()
    assert as_dicom.shape == as_png.shape and not np.array_equal(as_dicom, as_png)
    assert np.corrcoef(as_dicom.ravel(), as_png.ravel())[0, 1] > 0.98, "white and black are exchanged"


def test_a_file_that_is_no_picture_is_refused_in_words_and_the_former_report_goes(page, png, tmp_path):
    page.read(png)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    page.read(text)
    assert "not an accepted image" in page.status and page.ready == "empty" and not page.words
    assert "Traceback" not in page.find("body").text


def test_a_doubtful_picture_needs_a_click(page, tmp_path):
    tilted = Image.fromarray(np.round(draw_phantom(5, 320, ()).pixels * 255).astype(np.uint8)).rotate(45)
    tilted.save(tmp_path / "tilted.png")
    header = write_dicom(tmp_path / "slice.dcm", "CT")
    for file, words in ((tmp_path / "tilted.png", "may be about nothing in it"), (header, "this is a CT image")):
        page.read(file)
        assert words in page.status and page.ready == "image" and not page.words
        page.press("#reader .go-on")
        page.until(lambda: page.ready == "report")
        assert words in page.find("#reader .doubts").text and not page.all("#reader .go-on")


def test_a_radiograph_that_lies_on_its_side_is_put_right(page, png, tmp_path):
    with Image.open(png) as image:
        image.rotate(90, expand=True).save(tmp_path / "turned.png")
    page.read(tmp_path / "turned.png")
    assert "turned to the left; it has been put upright" in page.status
    height, width, _ = page.pixels().shape
    assert height > width


def test_the_example_is_a_synthetic_phantom_and_says_so(page):
    page.until(lambda: page.all("#reader .example img"))
    assert "Drawn by the program" in page.find("#reader .example").text
    page.press("#reader .example")
    page.until(lambda: page.ready == "report")
    assert "Drawn by the program" in page.find("#reader .credit").text
    assert not page.find("#reader .examples").is_displayed()


def test_two_studies_stand_side_by_side(page, png, dicom):
    page.read(png)
    page.read(dicom)
    page.press("[role=tab][data-view=compare]")
    for side in ("left", "right"):
        options = page.all(f"#compare-{side} .study option")
        assert len(options) >= 3
        options[-1 if side == "left" else -2].click()
        page.until(lambda side=side: page.find(f"#compare-{side} .room").get_attribute("data-ready") == "report")
        assert page.all(f"#compare-{side} .words") and not page.all(f"#compare-{side} .delete")
    page.press("[role=tab][data-view=read]")
    page.write_over(0, "A scar")
    page.find("[role=tab][data-view=compare]").click()
    page.until(lambda: page.find("#compare-left .words").text == "A scar.")


def test_nothing_is_fetched_from_elsewhere(page, address):
    notice = page.find("#bar .notice").text
    assert "Research software, not a medical device. Not for clinical decisions." in notice
    assert "right is on the left" in notice
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(name.startswith((address, "data:", "blob:")) for name in page.browser.execute_script(script))


def test_from_report_to_file_by_keyboard_alone(page, browser, png, tmp_path):
    """Each part that the key reaches has a name, and a line around it as long as it has the focus."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.press("#reader .auto")
    page.read(png)  # by its input: what the button opens is the system's window and none of the page's
    named = []

    def tab_to(name):
        for _ in range(120):
            webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
            one = browser.switch_to.active_element
            if one.tag_name == "body":
                continue  # from the end to the start
            named.append(one.accessible_name)
            page.until(lambda one=one: one.value_of_css_property("outline-width") in ("2px", "3px"))
            assert named[-1] and one.value_of_css_property("outline-style") == "solid", one.get_attribute("outerHTML")
            if name in named[-1]:
                return one
        raise AssertionError(f"{name} is not among {named}")

    tab_to("Write report").send_keys(Keys.ENTER)
    page.until(lambda: page.ready == "report")
    tab_to("A sentence of the findings")
    page.until(lambda: "Written most from" in page.find("#reader .place").text)
    tab_to("Save Text").send_keys(Keys.ENTER)
    page.until(lambda: (tmp_path / "report.txt").is_file())
    tab_to("Only heart")  # round the page's end
    assert {"The radiograph", "Window level", "Invert", "Show heart", "Only heart", "Read", "History"} <= {
        name.split(" with the regions")[0] for name in named
    }


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_everything_is_on_one_screen(page, browser, png, width, height):
    screen(browser, width, height)
    try:
        page.read(png)
        page.until(lambda: page.ready == "report")
        assert page.size == [width, height], "nothing is scrolled to"
        for selector in ("canvas", ".words", ".save.pdf", ".finding", ".tools", ".legend"):
            box = page.find(f"#reader {selector}").rect
            assert box["y"] >= 0 and box["y"] + box["height"] <= height and box["height"] > 5
        assert page.find("#reader canvas").rect["y"] < 70, "nothing but a slim bar stands above"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_a_phone_the_report_follows_the_film(page, browser, png, tmp_path):
    bad = tmp_path / "a_file_of_a_name_as_long_as_hospitals_like_to_have_them_0123456789.png"
    bad.write_text("no picture")
    screen(browser, 390, 844)
    try:
        page.read(png)
        order = [page.find(f"#reader {part}").rect["y"] for part in (".stage", ".words", ".bars", ".tools")]
        assert page.size[0] <= 390 and order == sorted(order) and order[1] < 844
        screen(browser, 320, 700)
        assert all(button.rect["x"] + button.rect["width"] <= 320 for button in page.all("#reader .finding .absent"))
        screen(browser, 390, 844)
        page.batch(bad)
        page.until(lambda: "not an accepted image" in page.find("#rows").text)
        assert page.size[0] <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
