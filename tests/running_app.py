"""The real app as its own process."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

ROOT = Path(__file__).parent.parent
SECONDS = 240


@contextmanager
def running_app(checkpoint: Path, folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """Its address. What it says goes to `folder`/log.txt, and its uploads to `folder`/uploads, of which none may be
    left when it has been stopped.

    Args:
        options: of its command line.
        environment: variables beside those that every test sets.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "XR2TEXT_CHECKPOINT": str(checkpoint),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # matplotlib would index the fonts anew in an empty cache
        "HTTPS_PROXY": "http://127.0.0.1:9",  # where nobody answers: the public examples stay away
        **environment,
    }
    url, log = f"http://127.0.0.1:{port}/", folder / "log.txt"
    command = [sys.executable, "app.py", *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the app did not start:\n{log.read_text()}"
            time.sleep(0.3)
        yield url
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
        process.terminate()
        process.wait(timeout=SECONDS)
        left = [path for path in (folder / "uploads").rglob("*") if path.is_file()]
        assert not left, "a stop deletes the uploads, though a page is open"
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False
