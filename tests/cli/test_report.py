import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.cli.report import unique_names
from xr2text.inference.gate import DOUBTFUL, Gate, GateResult
from xr2text.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A phantom as a PNG, taller than wide."""
    path = tmp_path_factory.mktemp("films") / "film.png"
    cv2.imwrite(str(path), np.round(draw_phantom(1, (300, 240)).pixels * 255).astype(np.uint8))
    return path


def test_the_command_writes_a_folder_per_file_and_goes_on_past_a_bad_one(tiny_checkpoint, film, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    code = main(["report", str(film), str(bad), str(film), "--out", str(tmp_path / "out"), "--maps",
                 "--checkpoint", str(tiny_checkpoint)])  # fmt: skip
    assert code == 1
    errors = capsys.readouterr().err
    assert "bad.png" in errors and "1 of 3 files" in errors and "Traceback" not in errors
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film", "film-2"]
    folder = tmp_path / "out" / "film"
    assert sorted(path.name for path in folder.iterdir()) == ["maps.npz", "overlay.png", "report.json", "report.txt"]
    written = json.loads((folder / "report.json").read_text())
    assert {"findings", "impression", "sentences", "regions", "model", "warnings"} <= written.keys()
    assert [region["name"] for region in written["regions"]] == list(REGION_NAMES)
    with np.load(folder / "maps.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape == (7, 300, 240) and list(stored["regions"]) == list(REGION_NAMES)


@pytest.mark.slow
def test_the_command_succeeds_as_a_program(tiny_checkpoint, film, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xr2text", "report", str(film), "--out", str(tmp_path),
         "--checkpoint", str(tiny_checkpoint)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "film" / "maps.npz").exists()


def test_the_command_names_a_missing_checkpoint(film, tmp_path, capsys):
    assert main(["report", str(film), "--out", str(tmp_path), "--checkpoint", "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err


def test_files_of_one_stem_do_not_overwrite_each_other():
    files = [Path("a/film.png"), Path("b/film.dcm"), Path("film-2.png")]
    assert unique_names(files) == ["film", "film-2", "film-2-2"]


def test_the_command_asks_for_force(tiny_checkpoint, film, monkeypatch, tmp_path, capsys):
    command = ["report", str(film), "--out", str(tmp_path / "out"), "--checkpoint", str(tiny_checkpoint)]
    monkeypatch.setattr(Gate, "forward", lambda self, given: GateResult(DOUBTFUL, given, (), "It is strange."))
    assert main(command) == 1
    assert "It is strange. --force writes it all the same." in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert "It is strange." in (tmp_path / "out" / "film" / "report.txt").read_text()
