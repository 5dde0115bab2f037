"""The page as its reader meets it: the real app as its own process, in a headless browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.phantom import draw_phantom

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parent.parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="neither Chromium nor its driver is installed")

SECONDS = 30


@pytest.fixture(scope="module")
def address(tiny_checkpoint, tmp_path_factory):
    """The running app's address."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "XR2TEXT_CHECKPOINT": str(tiny_checkpoint),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # matplotlib would index the fonts anew in an empty cache
        "HTTPS_PROXY": "http://127.0.0.1:9",  # where nobody answers: the example films stay away
    }
    url = f"http://127.0.0.1:{port}/"
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 2 * SECONDS
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the app did not start:\n{log.read_text()}"
            time.sleep(0.3)
        yield url
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
        assert "phantom_of_jane_doe" not in log.read_text()
        process.terminate()
        process.wait(timeout=SECONDS)
        left = [path for path in (folder / "uploads").rglob("*") if path.is_file()]
        assert not left, "a stop deletes the uploads, though a page is open"
    finally:
        process.kill()
        process.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for switch in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage",
        "disable-background-networking", "disable-component-update", "disable-sync", "window-size=1280,1000",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(f"--{switch}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The parts of the page that a reader sees and touches."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.until(lambda: browser.find_elements(By.CSS_SELECTOR, "#file input[type=file]"))

    def until(self, condition):
        ignored = ("StaleElementReferenceException", "NoSuchElementException")
        kinds = [getattr(webdriver.remote.errorhandler, name) for name in ignored]
        return WebDriverWait(self.browser, SECONDS, ignored_exceptions=kinds).until(lambda _: condition())

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    @property
    def status(self):
        return self.find("#status").text

    @property
    def report(self):
        return [self.find(f"#{name} textarea").get_property("value") for name in ("findings", "impression")]

    @property
    def picture(self):
        """The address of the picture: gradio names it by the hash of its content. None where there is no picture."""
        found = self.browser.find_elements(By.CSS_SELECTOR, "#picture img")
        return found[0].get_attribute("src") if found else None

    def pixels(self):
        """[h, w, 3] of the picture as it was sent."""
        with urllib.request.urlopen(self.picture, timeout=SECONDS) as response, Image.open(response) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def upload(self, path):
        clear = self.browser.find_elements(By.CSS_SELECTOR, "#file button[aria-label='Clear']")
        if clear:
            clear[0].click()
            self.until(lambda: self.browser.find_elements(By.CSS_SELECTOR, "#file input[type=file]"))
        self.find("#file input[type=file]").send_keys(str(path))

    def generate(self):
        self.find("#generate").click()
        self.until(lambda: "Report written" in self.status)

    def new_picture(self, former):
        self.until(lambda: self.picture not in (None, former))
        return self.pixels()


@pytest.fixture
def page(browser, address):
    return Page(browser, address)


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "phantom_of_jane_doe.png"
    Image.fromarray(np.round(draw_phantom(5, (320, 256), ()).pixels * 255).astype(np.uint8)).save(path)
    return path


def write_dicom(path, modality):
    """The phantom with white as 0 (MONOCHROME1)."""
    pixels = np.round((1 - draw_phantom(5, (320, 256), ()).pixels) * 4095).astype(np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = ComputedRadiographyImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.PatientName = "Doe^Jane"
    data.Modality, data.BodyPartExamined, data.ViewPosition = modality, "CHEST", "PA"
    data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME1", 1
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """A computed radiograph under a name without a suffix."""
    return write_dicom(tmp_path_factory.mktemp("films") / "IM0001", "CR")


def test_from_a_file_to_a_report_and_its_regions(page, png):
    page.upload(png)
    page.until(lambda: "256 × 320" in page.status)
    radiograph = page.new_picture(None)
    assert radiograph.shape[:2] == (1024, 819)
    assert (radiograph[..., 0] == radiograph[..., 2]).all(), "the radiograph alone is grey"

    plain = page.picture
    page.generate()
    assert "".join(page.report)
    everything = page.new_picture(plain)
    assert (everything != radiograph).any()
    chart = page.find("#weights").text
    assert all(name in chart for name in REGION_NAMES)
    assert chart.count("%") == 7

    boxes = page.browser.find_elements(By.CSS_SELECTOR, "#regions input[type=checkbox]")
    assert [box.get_attribute("name") for box in boxes] == list(REGION_NAMES)
    assert all(box.is_selected() for box in boxes)
    former = page.picture
    boxes[REGION_NAMES.index("left lung")].click()
    without = page.new_picture(former)
    change = np.abs(without - everything).sum(axis=2)
    assert change[:, 409:].sum() > change[:, :409].sum(), "the left lung lies on the right of the picture"

    former = page.picture
    page.find("#opacity input[type=range]").send_keys(Keys.END)
    opaque = page.new_picture(former)
    assert np.abs(opaque - radiograph).sum() > np.abs(without - radiograph).sum()

    for box in boxes:
        if box.is_selected():
            box.click()
    page.until(lambda: np.array_equal(page.pixels(), radiograph))

    seen = set()
    for box in boxes:  # each region by itself has an overlay of its own
        former = page.picture
        box.click()
        alone = page.new_picture(former)
        assert (alone != radiograph).any()
        seen.add(page.picture)
        former = page.picture
        box.click()
        page.new_picture(former)
    assert len(seen) == 7


def test_a_dicom_file_without_a_suffix_is_read_by_its_content(page, png, dicom):
    page.upload(png)
    page.until(lambda: "256 × 320" in page.status)
    as_png = page.new_picture(None)
    former = page.picture
    page.upload(dicom)
    as_dicom = page.new_picture(former)
    assert as_dicom.shape == as_png.shape
    assert np.corrcoef(as_dicom.ravel(), as_png.ravel())[0, 1] > 0.98, "white and black are exchanged"
    page.generate()
    assert "".join(page.report)


def test_a_file_that_is_no_picture_is_refused_in_words_and_the_former_report_goes(page, png, tmp_path):
    page.upload(png)
    page.until(lambda: page.picture)
    page.generate()
    text = tmp_path / "film.png"
    text.write_text("not a picture")
    page.upload(text)
    page.until(lambda: "not an accepted image" in page.status)
    page.until(lambda: page.report == ["", ""] and page.picture is None and page.find("#weights").text == "")
    page.find("#generate").click()
    time.sleep(1)
    assert "not an accepted image" in page.status
    assert "Traceback" not in page.find("body").text


def test_a_ct_slice_is_refused_in_words(page, tmp_path):
    page.upload(write_dicom(tmp_path / "slice.dcm", "CT"))
    page.until(lambda: "This is a CT image" in page.status)
    page.find("#generate").click()
    time.sleep(1)
    assert "This is a CT image" in page.status and page.report == ["", ""] and page.picture is None


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


def test_the_page_fits_a_phone(page):
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 400
        assert page.find("#notice").is_displayed()
        assert page.find("#generate").is_displayed()
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
