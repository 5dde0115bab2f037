import json
import logging
import os
import time
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import pytest
import requests
from page_client import ask, send

import app
from xr2text.ui.uploads import NOT_SENT, UNREADABLE, sent_paths, sweep, upload_folder

SENTENCES = (
    NOT_SENT, UNREADABLE, "No file was sent.", "The file is no longer there; please choose it again.",
    "Send the file itself, not its address.",
)  # fmt: skip


def test_what_nobody_came_to_read_goes_by_its_age(tmp_path):
    old, young = tmp_path / "a" / "old.png", tmp_path / "b" / "young.png"
    for path in (old, young):
        path.parent.mkdir()
        path.write_bytes(b"content")
    os.utime(old, (time.time() - 1000, time.time() - 1000))
    sweep(tmp_path, 900)
    assert not old.parent.exists() and young.exists()


def test_the_uploads_go_with_their_process(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "new"))
    monkeypatch.setattr("gradio.mcp.DEFAULT_TEMP_DIR", "elsewhere", raising=False)
    with upload_folder() as folder:
        assert folder.parent == tmp_path / "new" and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "upload.png").write_bytes(b"content")
    assert not folder.exists()


def test_an_event_names_uploads_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    inside = str(tmp_path / "uploads" / "a" / "film.png")
    assert sent_paths([inside]) == [inside] and sent_paths([]) == []
    for paths in (["/etc/passwd"], [f"{tmp_path}/uploads/../other.png"], ["a\0b"], "film.png", [None], [{}]):
        with pytest.raises(gr.Error):
            sent_paths(paths)


def test_equal_files_of_two_readers_are_two_files(address, png, uploads):
    first, second = (send(address, png).json()[0] for _ in range(2))
    assert first != second
    assert ask(address, first)[1]["findings"] and uploads() == [Path(second)]
    assert ask(address, second)[1]["findings"] and not uploads()
    assert ask(address, first) == (False, "The file is no longer there; please choose it again.")


def ask_by_number(page, address, number):
    """An event of the page, as its browser would send it, but with a path in each of its inputs."""
    data = [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}} for _ in page.fns[number].inputs]
    body = {"data": data, "fn_index": number, "session_hash": f"outside{number}", "event_data": {"row": 0}}
    requests.post(f"{address}gradio_api/queue/join", json=body, timeout=30).raise_for_status()
    query = f"{address}gradio_api/queue/data?session_hash=outside{number}"
    with requests.get(query, stream=True, timeout=30) as answer:
        (done,) = (json.loads(line[6:]) for line in answer.iter_lines() if b'"process_completed"' in line)
    assert done["success"] or done["output"]["error"] in SENTENCES, (number, done)


def test_no_path_outside_the_uploads_is_readable(page, address, png, uploads, caplog, capfd):
    folder = Path(send(address, png).json()[0]).parents[1]
    outside = [
        str(png), "/etc/passwd", f"{folder}/../../etc/passwd", "../../etc/passwd", str(folder), "/proc/self/environ",
        "http://127.0.0.1:9/image.png", str(Path(app.__file__)), "", "\0", f"{folder}/{'x' * 5000}", 3,
    ]  # fmt: skip
    caplog.set_level(logging.INFO)
    for path in outside:
        answered, text = ask(address, path)
        assert not answered, path
        assert text in SENTENCES and (not path or str(path) not in text), (path, text)
    for number in (number for number, event in page.fns.items() if event.fn):  # what the page itself calls
        ask_by_number(page, address, number)
    shown = caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in shown and "passwd" not in shown and str(folder) not in shown
    for path in map(str, outside):
        for prefix in ("file=", "file/"):
            answer = requests.get(f"{address}gradio_api/{prefix}{quote(path)}", timeout=30)
            assert answer.status_code in (403, 404), (path, answer.status_code)
    assert png.exists() and len(uploads()) == 1
    uploads()[0].unlink()


def test_a_file_beyond_the_limit_is_refused_and_not_kept(address, tmp_path, uploads):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(2**20 + 1))
    answer = send(address, large)
    assert answer.status_code == 413 and "maximum allowed size" in answer.text and not uploads()
