import secrets
import time

import gradio as gr
import requests

from xr2text.export.text import NOTICE
from xr2text.ui.uploads import NOT_SENT, UNREADABLE


def test_the_page_bears_its_notice_and_model(page, real_reporter):
    texts = " ".join(block.html_template for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert NOTICE in texts and real_reporter.model_name in texts and "right is on the left" in texts


def test_nothing_is_reported_home(page):
    assert page.analytics_enabled is False


def test_an_event_that_is_none_of_the_pages_is_refused_in_words(address, page):
    """Who sends other data than the page's scripts do is told so."""
    room, event = event_of(page, "sent")
    for data in ({"paths": ["/etc/passwd"], "where": "frontal", "write": True}, {"paths": 3}, None):
        answer = ask_event(address, room, event, data)
        assert '"success":false' in answer.replace(" ", "") and "passwd" not in answer
        assert any(words in answer for words in (NOT_SENT, UNREADABLE))


def test_of_a_session_that_nobody_uses_nothing_is_kept(address, page, monkeypatch):
    state = next(block for block in page.blocks.values() if isinstance(block, gr.State))
    monkeypatch.setattr(state, "time_to_live", 2)
    session = secrets.token_hex(8)
    assert '"success":true' in ask_event(
        address, *event_of(page, "example"), {"number": 0, "write": False}, session
    ).replace(" ", "")
    sessions, until = page.state_holder.session_data, time.monotonic() + 20
    assert "data:image/png" in str(sessions[session].config_values)
    while session in sessions and time.monotonic() < until:
        time.sleep(0.2)
    assert session not in sessions


def event_of(page, name):
    """The room's part of the page, and the number of an event of it."""
    config = page.get_config_file()
    room = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "reader")
    return room, next(one["id"] for one in config["dependencies"] if [room, name] in map(list, one["targets"]))


def ask_event(address, part, number, data, session=None):
    """What the queue answers to an event of a part of the page."""
    session = session or secrets.token_hex(8)
    body = {"data": [None], "fn_index": number, "event_data": data, "trigger_id": part, "session_hash": session}
    requests.post(f"{address}gradio_api/queue/join", json=body, timeout=30)
    with requests.get(f"{address}gradio_api/queue/data?session_hash={session}", stream=True, timeout=30) as answer:
        return next(line for line in answer.iter_lines(decode_unicode=True) if "process_completed" in line)
