"""The report as its reader edits it: the real app as its own process, in a headless browser."""

import time

import pytest
from headless import needs_browser

pytest.importorskip("selenium", reason="selenium is not installed")
from reading_room import address, browser, dicom, page, png, write_dicom  # noqa: F401  (fixtures)
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

pytestmark = [pytest.mark.slow, needs_browser]

FILES = {
    "txt": "report.txt",
    "json": "report.json",
    "png": "overlay.png",
    "pdf": "report.pdf",
    "fhir": "report.fhir.json",
}


def test_the_report_is_edited_where_it_is_read_and_that_is_what_is_saved(page, browser, png, tmp_path):
    page.read(png)
    assert not browser.execute_script(LEAVES)
    written = page.words
    first = page.find("#reader .words")
    first.click()
    first.send_keys(Keys.CONTROL, "a")
    first.send_keys("There is a nodule in the left lung", Keys.ENTER, "It is new")
    page.press("#reader .status")
    browser.execute_script("document.activeElement.blur()")
    page.until(lambda: page.ready == "report" and "edited" in page.status)
    assert page.words[:2] == ["There is a nodule in the left lung.", "It is new."]
    assert page.words[2:] == written[1:]
    assert "written by a person" in page.sentences[0].text
    assert page.find("#reader .edits").text.startswith("Yours: 2 written, 1 taken out.")
    assert browser.execute_script(LEAVES), "the browser asks before it is lost"
    box = page.find("#reader .words")
    lines = "arguments[0].focus(); arguments[0].innerHTML = 'No effusion<br>Old scar\\nA nodule'; arguments[0].blur()"
    browser.execute_script(lines, box)
    page.until(lambda: page.ready == "report" and page.words[0] == "No effusion.")
    assert page.words[:4] == ["No effusion.", "Old scar.", "A nodule.", "It is new."], "each line is a sentence"
    page.press("#reader .undo")
    page.until(lambda: page.ready == "report" and page.words[1] == "It is new.")
    page.press("#reader .sentence:nth-of-type(2) .delete")
    page.until(lambda: page.ready == "report" and len(page.words) == len(written))
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for name, file in FILES.items():
        page.press(f"#reader .save.{name}")
        page.until(lambda file=file: (tmp_path / file).is_file())
    assert not page.find("#reader .save.dicom-sr").is_enabled(), "there is no DICOM file to refer to"
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "There is a nodule in the left lung." in text and "It is new" not in text and "edited by a person" in text
    assert "jane" not in "".join(path.name for path in tmp_path.iterdir()) and not page.files
    for _ in range(2):
        webdriver.ActionChains(browser).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
        page.until(lambda: page.ready == "report")
    assert page.words == written and not page.find("#reader .edits").is_displayed()


LEAVES = """
const event = new Event("beforeunload", { cancelable: true });
window.dispatchEvent(event);
return event.defaultPrevented;
"""


def test_what_is_typed_outlives_the_answer_to_another_edit(page, browser, png):
    page.read(png)
    written = page.words
    browser.set_network_conditions(offline=False, latency=1000, throughput=10**7)
    try:
        for place, text in enumerate(("There is a nodule.", "There is a scar.")):
            box = page.all("#reader .words")[place]
            box.click()
            box.send_keys(Keys.CONTROL, "a")
            box.send_keys(text)
            if place == 0:
                browser.execute_script("document.activeElement.blur()")
        time.sleep(4)  # the answer to the first comes meanwhile
        assert box.text == "There is a scar."
    finally:
        browser.delete_network_conditions()
    browser.execute_script("document.activeElement.blur()")
    page.until(lambda: page.ready == "report" and "1 taken out" not in page.find("#reader .edits").text)
    assert page.words == ["There is a nodule.", "There is a scar.", *written[2:]]


def test_what_is_typed_is_kept_though_another_study_comes_or_the_queue_is_full(page, browser, png, dicom):
    page.read(png)
    first, written = page.find("#bar .history").get_property("value"), page.words
    page.write_over(0, "There is a nodule")
    page.read(dicom)  # while it is typed
    page.until(lambda: page.ready == "report" and page.find("#bar .history").get_property("value") != first)
    assert "There is a nodule." not in page.words and "Report written" in page.status

    next(one for one in page.all("#bar .history option") if one.text == first).click()
    page.until(lambda: page.ready == "report" and first in page.status)
    assert page.words == ["There is a nodule.", *written[1:]]
    browser.execute_script(FULL)
    for text in ("There is a scar", "There is an old scar"):
        page.write_over(0, text)
        browser.execute_script("document.activeElement.blur()")
    page.set_finding("nodule", "present")
    page.until(lambda: "sent again" in page.status)
    assert page.words == ["There is an old scar", *written[1:]], "the text stays"
    browser.execute_script("window.fetch = window.asked")
    page.until(lambda: page.ready == "report" and page.words[0] == "There is an old scar.")
    assert page.words == ["There is an old scar.", *written[1:]]


def test_edits_arrive_in_their_order(page, browser, png):
    page.read(png)
    written = page.words
    browser.execute_script(SLOW_FIRST)
    for text in ("There is a scar", "There is an old scar"):
        page.write_over(0, text)
        browser.execute_script("document.activeElement.blur()")
    page.until(lambda: page.ready == "report" and page.words == ["There is an old scar.", *written[1:]])


# The first event takes five seconds more to reach the server, time enough for a second one to be there before.
SLOW_FIRST = """
const send = window.fetch;
let first = true;
window.fetch = async (url, ...rest) => {
  if (first && String(url.url ?? url).includes("queue/join")) {
    first = false;
    await new Promise((go) => setTimeout(go, 5000));
  }
  return send(url, ...rest);
};
"""
FULL = """
window.asked = window.fetch;
window.fetch = (url, ...rest) => String(url.url ?? url).includes("queue/join")
  ? Promise.resolve(new Response('{"detail": "The queue is full."}', { status: 503 }))
  : window.asked(url, ...rest);
"""


def test_a_finding_is_set_and_set_back(page, browser, png):
    page.read(png)
    before = page.find("#reader .bars").text
    names = [name.text for name in page.all("#reader .finding .name")]
    browser.execute_script("document.querySelectorAll('#reader .finding .present')[1].focus()")
    webdriver.ActionChains(browser).send_keys(Keys.SPACE).perform()
    page.until(lambda: page.ready == "report" and f"{names[1]} set to present" in page.find("#reader .edits").text)
    assert "is set to present" in page.status and "by you" in page.all("#reader .finding")[1].text
    assert [name.text for name in page.all("#reader .finding .name")] == names, "it stays in its place"
    assert browser.switch_to.active_element.accessible_name.startswith(f"{names[1]}: back to"), "and the focus in it"
    webdriver.ActionChains(browser).double_click(page.all("#reader .finding .present")[1]).perform()
    page.until(lambda: page.ready == "report" and "as the model sees it" in page.status)
    assert page.find("#reader .bars").text == before


def test_a_report_may_be_all_a_persons_own(page, browser, png):
    page.read(png)
    count = len(page.words)
    last = page.all("#reader .delete")[-1]
    webdriver.ActionChains(browser).move_to_element(last).double_click(last).perform()
    page.until(lambda: page.ready == "report" and len(page.words) < count)
    assert len(page.words) == count - 1, "a double click deletes one sentence"
    for left in range(count - 2, -1, -1):
        browser.execute_script("document.querySelector('#reader .delete').focus()")
        webdriver.ActionChains(browser).send_keys(Keys.ENTER).perform()
        page.until(lambda left=left: page.ready == "report" and len(page.words) == left)
        page.until(lambda: browser.switch_to.active_element.tag_name == "button")
    assert not page.find("#reader .write").is_displayed() and page.find("#reader .finding").is_displayed()
    page.find("#reader .impression .add").click()
    webdriver.ActionChains(browser).send_keys("No acute disease").perform()
    browser.execute_script("document.activeElement.blur()")
    page.until(lambda: page.ready == "report" and page.words == ["No acute disease."])
