import hashlib
import logging
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xr2text.imaging.read import read_radiograph
from xr2text.ui.examples import CREDIT, PHANTOM_SIZE, PUBLIC, Example, Examples, fetch

CONTENT = b"stands in for a radiograph"
NAMES = list(PUBLIC)


class QuietHandler(SimpleHTTPRequestHandler):
    served = 0

    def log_message(self, *args):
        pass

    def do_GET(self):
        type(self).served += 1
        if self.path.startswith("/slow/"):
            time.sleep(1.0)
        super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A file server on the loopback whose files carry the pinned hash; gives its address."""
    monkeypatch.setattr(QuietHandler, "served", 0)
    site = tmp_path / "site"
    for folder in (site, site / "slow"):
        folder.mkdir()
        for name in NAMES:
            (folder / name).write_bytes(CONTENT)
    for name in NAMES:
        monkeypatch.setitem(PUBLIC, name, "sha256:" + hashlib.sha256(CONTENT).hexdigest())
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/"
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_radiograph_is_fetched_once(server, tmp_path):
    cache = tmp_path / "cache"
    assert fetch(NAMES[0], cache, server) == (cache / NAMES[0]).read_bytes() == CONTENT
    assert fetch(NAMES[0], cache, server) == CONTENT
    assert QuietHandler.served == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / NAMES[0]).write_bytes(b"cut")
    assert fetch(NAMES[0], tmp_path, server) == CONTENT


def test_other_content_is_refused_and_not_kept(server, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC, NAMES[0], "sha256:" + "0" * 64)
    cache = tmp_path / "cache"
    assert fetch(NAMES[0], cache, server) is None
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/", "slow/"])
def test_a_server_without_the_file_or_without_an_answer_gives_none(server, tmp_path, place):
    start = time.perf_counter()
    assert fetch(NAMES[0], tmp_path / "cache", server + place, timeout=0.3) is None
    assert time.perf_counter() - start < 0.9


def test_no_network_gives_none_without_a_traceback(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert fetch(NAMES[0], tmp_path, "http://127.0.0.1:9/") is None
    assert all(record.exc_info is None for record in caplog.records)


def test_a_cache_that_cannot_be_made_gives_none(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert fetch(NAMES[0], tmp_path / "file" / "cache", server) is None


def test_the_phantom_is_offered_at_once_and_the_public_ones_once_they_came(server, tmp_path):
    slow = Examples(tmp_path / "a", server + "slow/", timeout=0.5)
    assert list(slow.offered) == ["Synthetic phantom"]
    slow.fetching.join()
    assert list(slow.offered) == ["Synthetic phantom"]
    assert read_radiograph(slow.offered["Synthetic phantom"].content).height == PHANTOM_SIZE
    examples = Examples(tmp_path / "b", server)
    examples.fetching.join()
    assert list(examples.offered) == ["Synthetic phantom", "NIH 00000001_000", "NIH 00027426_000"]
    assert examples.offered["NIH 00000001_000"] == Example(CONTENT, CREDIT)
