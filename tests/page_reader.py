"""The page as a reader in a browser has it."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote import errorhandler
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 30


class Page:
    """The parts of the page that a reader sees and touches."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.until(lambda: browser.find_elements(By.CSS_SELECTOR, "#file input[type=file]"))

    def until(self, condition):
        ignored = ("StaleElementReferenceException", "NoSuchElementException")
        kinds = [getattr(errorhandler, name) for name in ignored]
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
    def ready(self):
        """What the viewer shows: "empty", "image" or "report"; "" while it loads."""
        return self.find("#reader .reader").get_attribute("data-ready")

    @property
    def width(self):
        return self.browser.execute_script("return document.documentElement.scrollWidth")

    def pixels(self):
        """[h, w, 3] of the picture as it is drawn."""
        address = self.browser.execute_script("return document.querySelector('#reader canvas').toDataURL()")
        with Image.open(BytesIO(base64.b64decode(address.split(",")[1]))) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    @property
    def sentences(self):
        return self.browser.find_elements(By.CSS_SELECTOR, "#reader .sentence")

    @property
    def files(self):
        """What lies among the server's uploads."""
        return [path for path in self.uploads.rglob("*") if path.is_file()]

    def press(self, selector):
        """A click from the keyboard's side: the pointer hovers nowhere."""
        self.browser.execute_script("document.querySelector(arguments[0]).click()", selector)

    def upload(self, path):
        self.find("#file input[type=file]").send_keys(str(path))

    def generate(self):
        self.find("#generate").click()
        self.until(lambda: "Report written" in self.status and self.ready == "report")
