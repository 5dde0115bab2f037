"""A reader at the page, in headless Chromium: chooses a file, presses the button, and reads what the page says."""

import shutil
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60


class PageReader:
    """Args:
    url: the page's address.
    folder: for the browser's own files.
    """

    def __init__(self, url: str, folder: Path):
        browser, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
        if not (browser and driver):
            raise SystemExit("the page needs Chromium and its driver (Debian: apt install chromium chromium-driver)")
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for switch in (
            "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run",
            "window-size=1280,1000", f"user-data-dir={folder}",
        ):  # fmt: skip
            options.add_argument(f"--{switch}")
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.browser.get(url)
        self.empty = False  # whether the last file was no picture
        self._until(lambda: self._find("#file input[type=file]"))

    def ask(self, file: Path) -> tuple[str, str]:
        """("report", its text) or ("refused", the sentence)."""
        if self.empty:
            self._press()  # the page then says that there is no film, which is not what it will say of this file
        answer = self._answer(lambda: self._find("#file input[type=file]").send_keys(str(file)))
        self.empty = not answer.startswith("Radiograph of")
        if self.empty:
            return "refused", answer
        self._until(lambda: self._ready == "image")
        answer = self._press()
        if not answer.startswith("Report written"):
            return "refused", answer
        self._until(lambda: self._ready == "report")
        sentences = self.browser.find_elements(By.CSS_SELECTOR, "#reader .sentence")
        return "report", "\n".join(one.text for one in sentences)

    def _press(self) -> str:
        return self._answer(self._find("#generate").click)

    def _answer(self, act: Callable[[], None]) -> str:
        """What the page says next."""
        former = self._status
        act()
        self._until(lambda: self._status not in ("", former))
        return self._status

    def close(self) -> None:
        self.browser.quit()

    @property
    def _status(self) -> str:
        return self._find("#status").text

    @property
    def _ready(self) -> str:
        return self._find("#reader .reader").get_attribute("data-ready")

    def _find(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def _until(self, condition: Callable[[], object]) -> None:
        ignored = (NoSuchElementException, StaleElementReferenceException)
        WebDriverWait(self.browser, SECONDS, 0.05, ignored_exceptions=ignored).until(lambda _: condition())
