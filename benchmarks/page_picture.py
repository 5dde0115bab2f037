"""Takes the README's picture of the page: the synthetic phantom, reported by the shipped checkpoint.

    python -m benchmarks.page_picture benchmarks/page.png [--file RADIOGRAPH] [--checkpoint DIR]

Needs Chromium and its driver.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[1]


def take(picture: Path, file: Path | None, checkpoint: Path | None, width: int) -> str:
    """Saves the screenshot and returns the words that the page shows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    if checkpoint is not None:
        environment["XR2TEXT_CHECKPOINT"] = str(checkpoint.resolve())
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for switch in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "hide-scrollbars"):
        options.add_argument(f"--{switch}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        deadline = time.monotonic() + 120
        while not _listens(port):
            if app.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the app did not start")
            time.sleep(0.5)
        browser.set_window_size(width, 1100)
        browser.get(f"http://127.0.0.1:{port}")
        wait = WebDriverWait(browser, 120)

        def status() -> str:
            return browser.find_element(By.CSS_SELECTOR, "#status").text

        if file is None:
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#examples button, #examples .gallery-item"))
            browser.find_element(By.CSS_SELECTOR, "#examples button, #examples .gallery-item").click()
        else:
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#file input[type=file]"))
            browser.find_element(By.CSS_SELECTOR, "#file input[type=file]").send_keys(str(file.resolve()))
        wait.until(lambda _: "Drop a frontal" not in status())
        if "pixels" in status():
            browser.find_element(By.CSS_SELECTOR, "#generate").click()
            wait.until(lambda _: "Report written" in status() and browser.find_element(By.ID, "weights").text)
        time.sleep(2)  # the picture fades in
        browser.set_window_size(width, browser.execute_script("return document.documentElement.scrollHeight") + 140)
        time.sleep(1)
        picture.parent.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(picture))
        texts = [
            browser.find_element(By.CSS_SELECTOR, f"#{name} textarea").get_property("value")
            for name in ("findings", "impression")
        ]
        return "\n".join([status(), *texts])
    finally:
        browser.quit()
        app.terminate()
        app.wait(timeout=30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--file", type=Path, help="a radiograph in place of the phantom")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    args = parser.parse_args()
    print(take(args.picture, args.file, args.checkpoint, args.width))


if __name__ == "__main__":
    main()
