"""The page's endpoints by plain HTTP."""

import json

import requests


def send(address, path, caller=requests):
    """Uploads a file; the answer names its path on the server."""
    with path.open("rb") as file:
        return caller.post(f"{address}gradio_api/upload", files={"files": (path.name, file)}, timeout=30)


def body(path):
    """What /report takes: a file's path, not to force, and no findings."""
    return {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, False, None]}


def ask(address, path, caller=requests):
    """/report of an upload: (True, the report) or (False, why there is none)."""
    event = caller.post(f"{address}gradio_api/call/report", json=body(path), timeout=30).json()["event_id"]
    state, answer = caller.get(f"{address}gradio_api/call/report/{event}", timeout=60).text.strip().split("\n")[-2:]
    answer = json.loads(answer.removeprefix("data: "))
    return (True, answer[0]) if state == "event: complete" else (False, answer and answer.get("error"))
