"""The page as a reader has it, in headless Chromium; as a command, the README's picture of it.

    python -m benchmarks.page benchmarks/page.png [--phone benchmarks/phone.png] [--examples DIR] [--checkpoint DIR]

Needs Chromium and its driver (Debian: apt install chromium chromium-driver) and requirements-dev.txt. The radiograph is
one of NIH ChestX-ray14 (Wang et al., CVPR 2017; provided by the NIH Clinical Center), which may be shown.
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

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.common import CHECKPOINT
from xr2text.ui.examples import PUBLIC

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS, ANSWER_SECONDS = 120, 60
EXAMPLE = f"NIH {Path(next(iter(PUBLIC))).stem}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def start_app(folder: Path, checkpoint: str, **variables: str) -> tuple[subprocess.Popen, str, float]:
    """The app, its address, and the seconds until its page answers. `folder` takes its log and uploads;
    `variables` are added to its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "XR2TEXT_CHECKPOINT": checkpoint, "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"),
        **variables,
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
    """A reader in a browser, who opens a file and reads what the page says.

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
            "window-size=1280,800", f"user-data-dir={folder}",
        ):  # fmt: skip
            options.add_argument(f"--{switch}")
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.browser.get(url)
        self._until(lambda: self._ready == "empty")

    def ask(self, file: Path) -> tuple[str, str]:
        """Sends a file. Returns ("report", its text) or ("refused", the sentence)."""
        self._find("#reader .files").send_keys(str(file))
        return self._answer()

    def show_example(self, name: str) -> tuple[str, str]:
        """The same as `ask`, for an example on the empty page."""
        selector = f"#reader .example[aria-label$='{name}']"
        self._until(lambda: self._find(selector))
        self._find(selector).click()
        return self._answer()

    def light_up(self, number: int) -> None:
        """Clicks a sentence, whose region then lights up."""
        self.browser.find_elements(By.CSS_SELECTOR, "#reader .words")[number].click()

    def save_picture(self, file: Path, width: int = 1280, height: int = 800) -> None:
        """Saves a screenshot at this window size; below 600 pixels it is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(1)  # the page is laid out anew
        self.browser.save_screenshot(str(file))

    def close(self) -> None:
        self.browser.quit()

    def _answer(self) -> tuple[str, str]:
        """What the page says of a file, once it has finished."""
        self._until(lambda: self._ready)
        if self._ready != "report":
            return "refused", self._find("#reader-status b").text
        words = self.browser.find_elements(By.CSS_SELECTOR, "#reader .words")
        return "report", "\n".join(sentence.text for sentence in words)

    @property
    def _ready(self) -> str:
        return self._find("#reader .room").get_attribute("data-ready")

    def _find(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def _until(self, condition: Callable[[], object]) -> None:
        ignored = (NoSuchElementException, StaleElementReferenceException)
        WebDriverWait(self.browser, ANSWER_SECONDS, 0.05, ignored_exceptions=ignored).until(lambda _: condition())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--phone", type=Path, help="also a picture of it on a phone")
    parser.add_argument("--examples", type=Path, help="a folder with the public examples, where there is no network")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in PUBLIC if args.examples else ():
            (folder / "cache" / "xr2text").mkdir(parents=True, exist_ok=True)
            shutil.copy(args.examples / file, folder / "cache" / "xr2text" / file)
        cache = {"XDG_CACHE_HOME": str(folder / "cache")} if args.examples else {}
        app, url, _ = start_app(folder, str(Path(args.checkpoint).resolve()), **cache)
        try:
            reader = PageReader(url, folder / "browser")
            print("\n".join(reader.show_example(EXAMPLE)))
            reader.light_up(0)
            reader.save_picture(args.picture)
            if args.phone:
                reader.save_picture(args.phone, 390, 844)
            reader.close()
        finally:
            app.terminate()
            app.wait()


if __name__ == "__main__":
    main()
