"""Deployment against a fake of the Hub that speaks what huggingface_hub does: repositories, LFS and commits."""

import base64
import hashlib
import json
import os
import re
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

    def do_HEAD(self):
        """A model's file; "somebody" has one model."""
        found = self.path.startswith("/somebody/weights/")
        self.send_response(200 if found else 404)
        for name, value in {"ETag": '"0"', "X-Repo-Commit": "0" * 40, "Content-Length": "2"}.items():
            self.send_header(name, value)
        if not found:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def do_DELETE(self):
        self.server.variables = [one for one in self.server.variables if one["key"] != json.loads(self.body())["key"]]
        self.answer({})

    def do_GET(self):
        if self.path.endswith("/variables"):
            return self.answer({one["key"]: {"value": one["value"]} for one in self.server.variables})
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

    def run(*arguments, token=TOKEN, address=None):
        environment = {
            **os.environ, "HF_ENDPOINT": address or hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
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
    weights = [path for path in hub.files if path.endswith(".safetensors")]
    assert weights == ["checkpoints/xr2text-gate/gate.safetensors"]
    assert "app.py" in hub.files
    assert [(one["key"], one["value"]) for one in hub.variables] == [("XR2TEXT_CHECKPOINT", "somebody/weights")]
    assert run("somebody/xr2text").returncode == 0  # the shipped one again
    assert not hub.variables and "checkpoints/xr2text-iu/model.safetensors" in hub.files
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"  # by the library's version


@pytest.mark.parametrize(
    ("space", "token", "words"),
    [("somebody/xr2text", "wrong", "hf auth login"), ("no name/at/all", TOKEN, "OWNER/NAME")],
)
def test_what_the_hub_refuses_is_said_in_words(hub, run, space, token, words):
    done = run(space, token=token)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not hub.files


@pytest.mark.parametrize(
    ("model", "words"),
    [("checkpoints/xr2text-iu", "is a folder here"), ("somebody/none", "has no checkpoint of this name"),
     ("no name/at/all", "OWNER/NAME")],
)  # fmt: skip
def test_a_model_that_the_space_could_not_load_is_refused(hub, run, model, words):
    done = run("somebody/xr2text", "--model", model)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not hub.created and not hub.files


def test_a_hub_that_cannot_be_reached_is_said_in_words(run):
    done = run("somebody/xr2text", address="http://127.0.0.1:9")
    assert done.returncode == 2 and "did not take it" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_links_of_a_space_work_there(with_checkpoint):
    files = space_files(with_checkpoint=with_checkpoint)
    for page in (file for file in files if file.endswith(".md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text()):
            assert os.path.normpath(Path(page).parent / link) in files, f"{page} links to {link}"


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
    assert not any(path.startswith(("tests/", "data/", "scripts/", "configs/")) for path in files)
    assert all(path.endswith((".md", ".png")) for path in files if path.startswith(("docs/", "benchmarks/")))
    assert not any("__pycache__" in path or path.startswith(".") for path in files)
