"""Deployment against a fake of the Hub that speaks what huggingface_hub does: repositories, LFS and commits."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xr2text.cli.deploy import DeployError, deploy, space_files

ROOT = Path(__file__).parents[2]
TOKEN = "hf_of_somebody"


class FakeHub(BaseHTTPRequestHandler):
    """Keeps what is uploaded in `server.files`; weights go through LFS."""

    def log_message(self, *_):
        pass

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        if "/tree/main" in self.path:
            return self.answer([{"type": "file", "path": path, "size": 1, "oid": "0"} for path in self.server.files])
        return self.answer({"id": "somebody/xr2text", "sha": "0" * 40, "siblings": []})

    def do_PUT(self):
        content = self.body()
        self.server.blobs[hashlib.sha256(content).hexdigest()] = content
        self.answer({})

    def do_POST(self):
        body, hub = self.body(), self.server
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.path.startswith("/lfs"):
            return self.answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            hub.created.append(json.loads(body))
            return self.answer({"url": f"{hub.url}/spaces/somebody/xr2text", "name": "somebody/xr2text"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path.endswith("/variables"):
            hub.variables.append(json.loads(body))
            return self.answer({})
        if "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return self.answer({"files": files})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}}
                for one in json.loads(body)["objects"]
            ]
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.blobs[value["oid"]]
                elif line["key"] == "deletedFile":
                    del hub.files[value["path"]]
            return self.answer(
                {"success": True, "commitOid": "1" * 40, "commitUrl": f"{hub.url}/spaces/somebody/xr2text/commit/1"}
            )
        return self.answer({"error": f"no such place: {self.path}"}, 404)


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.files, server.blobs, server.created, server.variables = {}, {}, [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(hub, tmp_path):
    """Runs the command as a process of its own, since huggingface_hub reads its address once."""

    def run(*arguments, token=TOKEN):
        environment = {
            **os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        command = [sys.executable, "-m", "xr2text", "deploy", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_a_space_gets_exactly_the_files_that_it_needs(hub, run):
    hub.files |= {"xr2text/of_an_earlier_version.py": b"", "notes.txt": b"the owner's own"}
    done = run("somebody/xr2text")
    assert done.returncode == 0, done.stderr
    assert "spaces/somebody/xr2text" in done.stdout
    assert set(hub.files) == {*space_files(), "notes.txt"}
    assert (
        hub.files["checkpoints/xr2text-iu/model.safetensors"]
        == (ROOT / "checkpoints" / "xr2text-iu" / "model.safetensors").read_bytes()
    )
    assert hub.files["app.py"] == (ROOT / "app.py").read_bytes()
    (created,) = hub.created
    assert created["type"] == "space" and created["sdk"] == "gradio" and not hub.variables
    assert TOKEN not in done.stdout + done.stderr


def test_a_space_may_load_its_model_from_the_hub(hub, run):
    done = run("somebody/xr2text", "--model", "somebody/weights", "--private")
    assert done.returncode == 0, done.stderr
    assert {path.split("/")[1] for path in hub.files if path.startswith("checkpoints/")} == {"xr2text-gate"}
    assert "app.py" in hub.files
    assert [(one["key"], one["value"]) for one in hub.variables] == [("XR2TEXT_CHECKPOINT", "somebody/weights")]
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"  # by the library's version


@pytest.mark.parametrize(
    ("space", "token", "words"),
    [("somebody/xr2text", "wrong", "hf auth login"), ("no name/at/all", TOKEN, "OWNER/NAME")],
)
def test_what_the_hub_refuses_is_said_in_words(hub, run, space, token, words):
    done = run(space, token=token)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not hub.files


def test_a_copy_without_its_checkpoint_is_not_deployed(tmp_path):
    for name in (
        "app.py",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "xr2text/module.py",
        "checkpoints/xr2text-gate/gate.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(DeployError, match="no checkpoints/xr2text-iu"):
        deploy("somebody/xr2text", root=tmp_path)


def test_a_space_needs_neither_tests_nor_data():
    files = space_files()
    assert {"app.py", "requirements.txt", "README.md", "xr2text/anatomy.py"} <= set(files)
    assert all(path.split("/")[0] in {"app.py", "requirements.txt", "README.md", "LICENSE", "xr2text", "checkpoints"}
               for path in files)  # fmt: skip
    assert not any("__pycache__" in path or path.startswith(".") for path in files)
