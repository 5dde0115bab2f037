"""Downloads from a server on this machine that breaks off, and archives that are damaged."""

import http.server
import io
import json
import tarfile
import threading

import pytest

from xr2text.data.sources import download
from xr2text.data.sources.download import download_openi, fetch, unpack
from xr2text.data.study import DataError


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as opened:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            opened.addfile(about, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def server():
    """Serves `files`; a request gets at most `limit` bytes, then the connection is closed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files: dict[str, bytes] = {}  # noqa: RUF012
        asked: list[str] = []  # noqa: RUF012
        limit, tag = 10**9, '"1"'

        def do_GET(self):
            content = self.files.get(self.path)
            self.asked.append(self.headers.get("Range", ""))
            if content is None:
                return self.send_error(404)
            start = 0
            if self.headers.get("Range") and self.headers.get("If-Range") == self.tag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
            self.send_response(206 if start else 200)
            self.send_header("ETag", self.tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + self.limit])

        def log_message(self, *_):
            pass

    Handler.files, Handler.asked = {}, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    Handler.address = f"http://127.0.0.1:{running.server_port}"
    yield Handler
    running.shutdown()
    running.server_close()


def test_a_broken_download_goes_on_where_it_was(server, tmp_path):
    server.files["/a"] = bytes(range(256)) * 40
    server.limit = 3000
    fetch(f"{server.address}/a", tmp_path / "a", progress=False)
    assert (tmp_path / "a").read_bytes() == server.files["/a"]
    assert server.asked == ["", "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"old old old")
    (tmp_path / "a.part.version").write_text('"0"')
    server.files["/a"] = b"something new"
    fetch(f"{server.address}/a", tmp_path / "a", progress=False)
    assert (tmp_path / "a").read_bytes() == b"something new"


def test_a_download_that_was_whole_already_is_done(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"all of it")
    (tmp_path / "a.part.version").write_text('"1"')
    server.files["/a"] = b"all of it"
    fetch(f"{server.address}/a", tmp_path / "a", progress=False)
    assert (tmp_path / "a").read_bytes() == b"all of it"


def test_a_server_that_gives_nothing_is_told_of(server, tmp_path):
    server.files["/a"] = b"x" * 1000
    server.limit = 0
    with pytest.raises(DataError, match="broke off at 0 bytes"):
        fetch(f"{server.address}/a", tmp_path / "a", progress=False)
    with pytest.raises(DataError, match="the server answers 404"):
        fetch(f"{server.address}/b", tmp_path / "b", progress=False)
    with pytest.raises(DataError, match="broke off at 0 bytes"):
        fetch("http://127.0.0.1:9/a", tmp_path / "c", progress=False)
    assert not (tmp_path / "a").exists()


def test_open_i_is_fetched_checked_and_unpacked_once(server, tmp_path):
    server.files["/NLMCXR_reports.tgz"] = archive({"ecgen-radiology/1.xml": b"<a/>"})
    server.files["/NLMCXR_png.tgz"] = archive({f"CXR{number}.png": b"png" * number for number in range(9)})
    download_openi(tmp_path, server.address, progress=False)
    assert (tmp_path / "ecgen-radiology" / "1.xml").read_bytes() == b"<a/>"
    assert len(list((tmp_path / "png").iterdir())) == 9
    assert set(json.loads((tmp_path / download.RECORD).read_text())) == set(download.ARCHIVES)
    download_openi(tmp_path, server.address, progress=False)
    assert len(server.asked) == 2
    # Stopped while it unpacked: the rest is unpacked from the archive that is there.
    (tmp_path / ".NLMCXR_png.tgz.unpacked").unlink()
    (tmp_path / "png" / "CXR5.png").unlink()
    download_openi(tmp_path, server.address, progress=False)
    assert len(server.asked) == 2 and (tmp_path / "png" / "CXR5.png").read_bytes() == b"png" * 5
    # Changed on disk.
    (tmp_path / ".NLMCXR_png.tgz.unpacked").unlink()
    (tmp_path / "NLMCXR_png.tgz").write_bytes(archive({"CXR1.png": b"other"}))
    with pytest.raises(DataError, match=r"NLMCXR_png\.tgz is not as it was fetched"):
        download_openi(tmp_path, server.address, progress=False)


def test_a_damaged_archive_and_one_that_leads_elsewhere_are_refused(tmp_path):
    path = tmp_path / "a.tgz"
    whole = archive({f"{number}.png": bytes(range(256)) * 90 for number in range(5)})
    for content in (whole[:-30], whole[:200], b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tgz is damaged"):
            unpack(path, tmp_path / "out", progress=False)
    path.write_bytes(archive({"../out.png": b"x"}))
    with pytest.raises(DataError, match="leads out of"):
        unpack(path, tmp_path / "out", progress=False)
    assert not (tmp_path / "out.png").exists()
