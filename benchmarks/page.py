"""The page as a reader has it, in headless Chromium; as a command, the README's picture of it.

    python -m benchmarks.page benchmarks/page.png [--file RADIOGRAPH] [--checkpoint DIR]

Needs Chromium and its driver (Debian: apt install chromium chromium-driver) and requirements-dev.txt. Without a file,
the radiograph is a phantom.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.common import CHECKPOINT
from xr2text.phantom.drawing import draw_phantom

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS, ANSWER_SECONDS = 120, 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def start_app(folder: Path, checkpoint: str) -> tuple[subprocess.Popen, str, float]:
    """The app, its address, and the seconds until its page answers. `folder` takes its log and uploads."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "XR2TEXT_CHECKPOINT": checkpoint, "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"),
    }  # fmt: skip
    started = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}/", time.monotonic() - started
        if process.poll() is not None or time.monotonic() - started > START_SECONDS:
            process.kill()
            raise SystemExit(f"the app did not start:\n{(folder / 'log.txt').read_text()}")
        time.sleep(0.05)


class PageReader:
    """A reader who chooses a file, presses the button, and reads what the page says.

    Args:
        url: the page's address.
        folder: for the browser's profile.
    """

    def __init__(self, url: str, folder: Path):
        browser, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
        if not (browser and driver):
            raise SystemExit("the page needs Chromium and its driver (Debian: apt install chromium chromium-driver)")
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for switch in (
            "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "hide-scrollbars",
            "window-size=1280,1000", f"user-data-dir={folder}",
        ):  # fmt: skip
            options.add_argument(f"--{switch}")
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.browser.get(url)
        self.empty = False  # whether the last file was no image
        self._until(lambda: self._find("#file input[type=file]"))

    def ask(self, file: Path) -> tuple[str, str]:
        """("report", its text) or ("refused", the sentence)."""
        if self.empty:
            self._press()  # the page then asks for a file, which differs from what it will say of this one
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
        return "report", "\n".join(sentence.text for sentence in sentences)

    def save_picture(self, file: Path) -> None:
        """The whole page, as it stands."""
        time.sleep(2)  # the overlay fades in
        height = self.browser.execute_script("return document.documentElement.scrollHeight")
        self.browser.set_window_size(1280, height + 140)
        time.sleep(1)
        self.browser.save_screenshot(str(file))

    def close(self) -> None:
        self.browser.quit()

    def _press(self) -> str:
        return self._answer(self._find("#generate").click)

    def _answer(self, act: Callable[[], None]) -> str:
        """What the page says next."""
        former = self._status
        act()
        self._until(lambda: self._status not in ("", former))
        return self._status

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
        WebDriverWait(self.browser, ANSWER_SECONDS, 0.05, ignored_exceptions=ignored).until(lambda _: condition())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--file", type=Path, help="a radiograph in place of the phantom")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = args.file
        if file is None:
            file = folder / "phantom.png"
            cv2.imwrite(str(file), np.round(draw_phantom(0, 1024).pixels * 255).astype(np.uint8))
        app, url, _ = start_app(folder, str(Path(args.checkpoint).resolve()))
        try:
            reader = PageReader(url, folder / "browser")
            print("\n".join(reader.ask(file.resolve())))
            reader.save_picture(args.picture)
            reader.close()
        finally:
            app.terminate()
            app.wait()


if __name__ == "__main__":
    main()
