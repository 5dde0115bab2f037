"""The page as a reader in a browser has it."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote import errorhandler
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 30


class Page:
    """The parts of the page that a reader sees and touches."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.until(lambda: self.ready == "empty")

    def until(self, condition):
        ignored = ("StaleElementReferenceException", "NoSuchElementException")
        kinds = [getattr(errorhandler, name) for name in ignored]
        return WebDriverWait(self.browser, SECONDS, 0.05, ignored_exceptions=kinds).until(lambda _: condition())

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    @property
    def status(self):
        return self.find("#reader-status").text

    @property
    def words(self):
        """The sentences' texts."""
        return [words.text for words in self.all("#reader .words")]

    @property
    def ready(self):
        """What the reading room shows: "empty", "image" or "report"; "" while it is at work."""
        return self.find("#reader .room").get_attribute("data-ready")

    @property
    def size(self):
        """Width and height of all that can be scrolled to."""
        script = "const page = document.documentElement; return [page.scrollWidth, page.scrollHeight]"
        return self.browser.execute_script(script)

    def write_over(self, place, text):
        """Types a sentence in place of another, and stays in it; a message may lie over it."""
        self.browser.execute_script("document.querySelectorAll('#reader .words')[arguments[0]].focus()", place)
        keys = webdriver.ActionChains(self.browser).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL)
        keys.send_keys(text).perform()

    def pixels(self):
        """[h, w, 3] of the picture as it is drawn."""
        address = self.browser.execute_script("return document.querySelector('#reader canvas').toDataURL()")
        with Image.open(BytesIO(base64.b64decode(address.split(",")[1]))) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    @property
    def sentences(self):
        return self.all("#reader .sentence")

    @property
    def files(self):
        """What lies among the server's uploads."""
        return [path for path in self.uploads.rglob("*") if path.is_file()]

    def press(self, selector):
        """A click from the keyboard's side: the pointer hovers nowhere."""
        self.browser.execute_script("document.querySelector(arguments[0]).click()", selector)

    def read(self, *paths):
        """Opens files and waits for what the page makes of them."""
        self.find("#reader .files").send_keys("\n".join(map(str, paths)))
        self.until(lambda: self.ready)

    def batch(self, *paths):
        """Gives files to the worklist."""
        self.press("[role=tab][data-view=batch]")
        self.find("#worklist .files").send_keys("\n".join(map(str, paths)))

    def set_finding(self, name, state):
        """Presses a button of a finding's row and waits for the new report."""
        self.browser.execute_script(SET, name, state)
        self.until(lambda: self.ready == "report")


SET = """
const rows = [...document.querySelectorAll("#reader .finding")];
rows.find((row) => row.querySelector(".name").textContent === arguments[0]).querySelector(`.${arguments[1]}`).click();
"""
