"""The cache of resized images: the same pixels, whole or not there, never out of date."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mimic_tree import make_tree

from xr2text.cli.main import main
from xr2text.config import ConfigError, DataConfig, layout_config
from xr2text.data import cache as cache_module
from xr2text.data.cache import ImageCache, canvas_of
from xr2text.data.index import open_studies
from xr2text.data.prepare import prepare_images, shown_images
from xr2text.data.sources import ImageFile, PhantomImage, UnreadableImageError
from xr2text.data.sources.hub import TableImage
from xr2text.files import ABANDONED, atomic_write, remove_drafts


@pytest.fixture
def film(tmp_path):
    """16 bits, washed out, of an odd shape."""
    path = tmp_path / "film.png"
    grey = np.random.default_rng(0).integers(30000, 36000, (131, 97)).astype(np.uint16)
    cv2.imwrite(str(path), grey)
    return ImageFile(path, "frontal")


def same(one, other):
    assert np.array_equal(one[0], other[0]) and one[1] == other[1]


@pytest.mark.parametrize("size", [64, 200])
def test_an_entry_holds_what_the_original_gives(film, tmp_path, size):
    cache = ImageCache(tmp_path / "cache", size)
    expected = canvas_of(film, size)
    same(cache.read(film), expected)
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1
    same(cache.read(film), expected)
    assert cache.prepare(film) == "kept"


def test_an_entry_is_read_in_place_of_the_original(film, tmp_path, monkeypatch):
    cache = ImageCache(tmp_path / "cache", 64)
    expected = cache.read(film)
    monkeypatch.setattr(cache_module, "canvas_of", lambda *_: pytest.fail("the original was decoded"))
    same(cache.read(film), expected)


def test_an_entry_is_made_anew_with_its_original_or_the_recipe(film, tmp_path, monkeypatch):
    cache = ImageCache(tmp_path / "cache", 64)
    cache.read(film)
    cv2.imwrite(str(film.path), np.full((90, 90), 200, np.uint8))
    same(cache.read(film), canvas_of(film, 64))
    assert cache.prepare(film) == "kept"
    monkeypatch.setattr(cache_module, "RECIPE", 99)
    assert cache.prepare(film) == "made" and cache.prepare(film) == "kept"
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 1


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_damaged_entry_is_made_anew(film, tmp_path, keep):
    cache = ImageCache(tmp_path / "cache", 64)
    expected = cache.read(film)
    entry = cache.path(film)
    entry.write_bytes(entry.read_bytes()[:keep])
    same(cache.read(film), expected)
    assert cache.prepare(film) == "kept"


def test_an_original_that_cannot_be_read_leaves_no_entry(film, tmp_path):
    cache = ImageCache(tmp_path / "cache", 64)
    film.path.write_bytes(film.path.read_bytes()[:200])
    assert "film.png: This PNG file is damaged" in cache.prepare(film)
    film.path.unlink()
    with pytest.raises(UnreadableImageError, match=r"film\.png: The file cannot be found"):
        cache.read(film)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_rows_of_a_table_have_entries_of_their_own_and_phantoms_none(tmp_path):
    images = [cv2.imencode(".png", np.full((80, 70), value, np.uint8))[1].tobytes() for value in (50, 150)]
    pq.write_table(pa.table({"image": [{"bytes": one} for one in images]}), tmp_path / "a.parquet")
    cache = ImageCache(tmp_path / "cache", 64)
    for row, value in ((0, 50), (1, 150), (0, 50)):
        assert cache.read(TableImage(tmp_path / "a.parquet", row))[0].max() == value
    assert cache.read(PhantomImage(1, 64))[0].shape == (64, 64)
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 2
    with pytest.raises(ConfigError, match=r"data\.cache"):
        DataConfig("phantom", cache=str(tmp_path))


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a" / "b") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    with atomic_write(tmp_path / "a" / "b") as draft:
        draft.write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b").read_text() == "whole"
    young, old = tmp_path / "a" / ".x.host.1.draft", tmp_path / "a" / ".y.host.1.draft"
    for path in (young, old):
        path.touch()
    os.utime(old, (time.time() - ABANDONED - 1,) * 2)
    remove_drafts(tmp_path)
    assert young.exists() and not old.exists()


# data prepare ---------------------------------------------------------------------------------------------------------


def settings(tree, cache, *overrides):
    given = ["data.source=mimic_cxr", f"data.root={tree}", f"data.cache={cache}", "model.image.size=64"]
    return layout_config([*given, *overrides])


def test_what_training_and_evaluation_show_is_prepared_by_shares(tree, tmp_path):
    config = settings(tree, tmp_path / "cache")
    splits = open_studies(config.data, 64)
    shown = shown_images(config, splits)
    assert len(shown) == 60 and all(image.view == "frontal" for image in shown)  # no lateral film is opened
    shares = [prepare_images(config, splits, rank, 4, progress=False) for rank in range(4)]
    assert [one.made for one in shares] == [15, 15, 15, 15]
    again = prepare_images(config, splits, progress=False)
    assert (again.kept, again.made, again.errors) == (60, 0, ())


def command(tree, cache, *options):
    return [sys.executable, "-m", "xr2text", "data", "prepare", "mimic_cxr", "--root", str(tree), "--cache", str(cache),
            "--set", "model.image.size=64", *options]  # fmt: skip


def entries(cache):
    return sorted(Path(cache).glob("images-64px/*/*.png"))


def workers_of(folder):
    """Processes whose command line or open folder tells of this run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RUN_OF={folder}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            pass
    return found


def test_a_killed_run_leaves_only_whole_entries_and_goes_on(tmp_path):
    tree = make_tree(tmp_path / "mimic", 150, side=500)
    cache, environment = tmp_path / "cache", os.environ | {"RUN_OF": str(tmp_path)}
    process = subprocess.Popen(command(tree, cache, "--processes", "2"), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(entries(cache)) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while workers_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(tmp_path) == []  # the killed process's own have gone with it
    there = entries(cache)
    assert 20 <= len(there) < 150
    assert all(cv2.imread(str(entry), cv2.IMREAD_GRAYSCALE) is not None for entry in there)
    times = {entry: entry.stat().st_mtime_ns for entry in there}
    done = subprocess.run(command(tree, cache, "--processes", "1"), capture_output=True, text=True, check=True)
    assert f"{150 - len(there)} made, {len(there)} kept, 0 not readable" in done.stdout
    assert len(entries(cache)) == 150 and all(entry.stat().st_mtime_ns == was for entry, was in times.items())


def test_the_command_says_what_it_could_not_prepare(tree, tmp_path, capsys):
    film = sorted(tree.glob("files/*/*/s50000020/*.jpg"))[0]
    film.write_bytes(b"\xff\xd8\xff broken")
    arguments = command(tree, tmp_path / "cache", "--processes", "1")[3:]
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert "59 made, 0 kept, 1 not readable" in told.out and f"not prepared: {film}: This JPEG" in told.err
    assert main(["data", "prepare", "mimic_cxr", "--root", str(tree)]) == 2
    assert main(["data", "prepare", "mimic_cxr", "--root", "nowhere", "--cache", str(tmp_path / "c")]) == 2
    assert main([*arguments, "--download"]) == 2
    assert "--download fetches Open-i's archives" in capsys.readouterr().err


def test_processes_of_a_launch_share_the_work(tree, tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    started = [
        subprocess.Popen(
            command(tree, tmp_path / "cache", "--processes", "1"), stdout=subprocess.PIPE, text=True,
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                              "MASTER_PORT": str(port)},
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert all(f"30 made, 0 kept, 0 not readable (share {rank + 1} of 2)" in told[rank] for rank in range(2))
    assert len(entries(tmp_path / "cache")) == 60
