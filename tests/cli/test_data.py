"""`data check` and `data prepare` as they are called."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import yaml
from mimic_tree import make_tree

from xr2text.cli import data
from xr2text.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("made") / "mimic", 40)


@pytest.fixture
def tree(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "mimic"))


def radiograph(tree, study):
    return sorted(tree.glob(f"files/*/*/s{study}/*.jpg"))[0]


def test_check_writes_its_text_and_says_by_its_exit_code_whether_training_would_fail(tree, tmp_path, capsys):
    out = ["--out", str(tmp_path / "check"), "--processes", "1"]
    assert main(["data", "check", "mimic_cxr", "--root", str(tree), *out]) == 0
    assert "training can start" in (tmp_path / "check" / "check.md").read_text()
    assert (tmp_path / "check" / "studies.png").is_file()
    radiograph(tree, 50000002).unlink()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "x", "output": "y", "data": {"source": "mimic_cxr", "root": str(tree)}}))
    assert main(["data", "check", str(config), *out]) == 1
    assert "training would fail" in capsys.readouterr().out
    assert main(["data", "check", "mimic_cxr", "--root", str(tmp_path / "nowhere"), *out]) == 2
    assert main(["data", "check", "nonsense", *out]) == 2
    assert "accepted: indiana, openi, r2gen, mimic_cxr, hub, manifest" in capsys.readouterr().err


def prepare(tree, cache, *options):
    return ["data", "prepare", "mimic_cxr", "--root", str(tree), "--cache", str(cache), "--set", "model.image_size=64",
            *options]  # fmt: skip


def entries(cache):
    return sorted(Path(cache).glob("images-64px/*/*.png"))


def test_prepare_says_what_it_could_not_prepare(tree, tmp_path, capsys):
    damaged = radiograph(tree, 50000020)
    damaged.write_bytes(b"\xff\xd8\xff broken")
    arguments = prepare(tree, tmp_path / "cache", "--processes", "1")
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "39 made, 0 kept, 1 not readable" in said.out and f"not prepared: {damaged}: This JPEG" in said.err
    assert main(["data", "prepare", "mimic_cxr", "--root", str(tree)]) == 2
    assert main(["data", "prepare", "mimic_cxr", "--root", "nowhere", "--cache", str(tmp_path / "c")]) == 2
    assert main([*arguments, "--download"]) == 2
    assert "--download fetches Open-i's archives" in capsys.readouterr().err


def workers_of(folder):
    """Processes whose environment tells of this run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RUN_OF={folder}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            pass
    return found


@pytest.mark.slow
def test_a_killed_preparation_leaves_only_whole_entries_and_goes_on(tree, tmp_path):
    for path in tree.rglob("*.jpg"):  # large, so that they take a while
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), 0), (2000, 2400)))
    cache, environment = tmp_path / "cache", os.environ | {"RUN_OF": str(tmp_path)}
    command = [sys.executable, "-m", "xr2text", *prepare(tree, cache, "--processes", "2")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while len(entries(cache)) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while workers_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(tmp_path) == []  # the killed process's workers have gone with it
    before = {entry: entry.stat().st_mtime_ns for entry in entries(cache)}
    assert 5 <= len(before) < 40
    assert all(cv2.imread(str(entry), cv2.IMREAD_GRAYSCALE) is not None for entry in before)
    assert main(prepare(tree, cache, "--processes", "1")) == 0
    assert len(entries(cache)) == 40 and all(entry.stat().st_mtime_ns == time for entry, time in before.items())


@pytest.mark.slow
def test_processes_of_a_launch_share_the_preparation(tree, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "xr2text", *prepare(tree, tmp_path / "cache", "--processes", "1")]
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | launched | {"RANK": rank, "LOCAL_RANK": rank}
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=250)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(f"20 made, 0 kept, 0 not readable (share {rank + 1} of 2)" in said[rank] for rank in range(2))
    assert len(entries(tmp_path / "cache")) == 40


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_every_set_holds(command):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    args = parser.parse_args([command, "r2gen", "--set", "a=1", "b=2", "--set", "c=3"])
    assert args.set == ["a=1", "b=2", "c=3"]
