import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_files import dataset, file_bytes

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.cli.report import radiograph_files, unique_names
from xr2text.inference.gate import DOUBTFUL, Gate, GateResult
from xr2text.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    """A phantom, taller than wide."""
    path = tmp_path_factory.mktemp("radiographs") / "phantom.png"
    cv2.imwrite(str(path), np.round(draw_phantom(1, (300, 240)).pixels * 255).astype(np.uint8))
    return path


@pytest.fixture
def run(tiny_checkpoint, tmp_path):
    """Runs `report` on files into tmp_path/out."""

    def run(*arguments):
        return main(
            ["report", *map(str, arguments), "--out", str(tmp_path / "out"), "--checkpoint", str(tiny_checkpoint)]
        )

    return run


def test_a_folder_per_file_and_on_past_a_bad_one(run, png, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    assert run(png, bad, tmp_path / "missing.png", png, "--maps") == 1
    errors = capsys.readouterr().err
    assert f"{bad}: This file is not an accepted image" in errors and "missing.png: The file does not exist" in errors
    assert "2 of 4 files" in errors and "Traceback" not in errors
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["phantom", "phantom-2"]
    folder = tmp_path / "out" / "phantom"
    assert sorted(path.name for path in folder.iterdir()) == ["maps.npz", "overlay.png", "report.json", "report.txt"]
    written = json.loads((folder / "report.json").read_text())
    assert {"findings", "impression", "sentences", "regions", "model", "warnings"} <= written.keys()
    assert written["sha256"] == hashlib.sha256(png.read_bytes()).hexdigest() and "phantom.png" not in str(written)
    with np.load(folder / "maps.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape == (7, 300, 240) and list(stored["regions"]) == list(REGION_NAMES)


def test_documents_and_no_overlay(run, tmp_path, capsys):
    pixels = np.round(draw_phantom(1, 300).pixels * 4095).astype(np.uint16)
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4"}
    (tmp_path / "1.2.840.55").write_bytes(file_bytes(dataset(pixels, 12, **uids)))
    assert run(tmp_path / "1.2.840.55", "--no-overlay", "--also", "dicom-sr", "fhir") == 0
    folder = tmp_path / "out" / "1.2.840.55"
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.dcm", "report.fhir.json", "report.json", "report.txt",
    ]  # fmt: skip


def test_a_document_that_cannot_be_made_is_named(run, png, tmp_path, capsys):
    assert run(png, "--also", "dicom-sr") == 1
    assert "not all documents: A DICOM Structured Report refers to" in capsys.readouterr().err
    assert (tmp_path / "out" / "phantom" / "report.txt").exists()


def test_a_doubtful_image_needs_force(run, png, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Gate, "forward", lambda self, image: GateResult(DOUBTFUL, image, (), "It is strange."))
    assert run(png) == 1
    assert "It is strange. --force writes it all the same." in capsys.readouterr().err
    assert run(png, "--force") == 0
    assert "It is strange." in (tmp_path / "out" / "phantom" / "report.txt").read_text()


def test_a_finding_is_set_for_every_file(make_tiny, run, png, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(png, "--finding", "nodule=maybe")
    assert "is not NAME=present or NAME=absent" in capsys.readouterr().err
    assert run(png, "--finding", "nodule=present") == 2
    assert "no finding head" in capsys.readouterr().err
    make_tiny(("nodule",)).save_pretrained(tmp_path / "with findings")
    arguments = [str(png), "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "with findings")]
    assert main(["report", *arguments, "--finding", "nodule=present"]) == 0
    written = json.loads((tmp_path / "out" / "phantom" / "report.json").read_text())
    assert written["findings_seen"][0]["set_by_person"] == "present"
    assert "Findings set by a person: nodule present." in (tmp_path / "out" / "phantom" / "report.txt").read_text()


def test_what_cannot_begin_ends_in_words(run, png, tmp_path, capsys):
    assert main(["report", str(png), "--out", str(tmp_path), "--checkpoint", "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 2
    assert "holds no radiograph" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_a_program(tiny_checkpoint, png, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xr2text", "report", str(png), "--out", str(tmp_path),
         "--checkpoint", str(tiny_checkpoint)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "phantom" / "maps.npz").exists()


def test_the_radiographs_of_a_folder_in_order(tmp_path):
    for name in ("b/2.png", "b/10.JPG", "a/IM1", "notes.txt", "b/.hidden.png", "a/DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    found = radiograph_files([tmp_path / "b" / "2.png", tmp_path])
    names = [file.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["b/2.png", "a/IM1", "b/10.JPG", "b/2.png", "notes.txt"]


def test_files_of_equal_stems_have_folders_of_their_own():
    files = ["a/x.png", "b/x.dcm", "x-2.png", "c/x.png", "1.2.840.1.55", "d/1.2.840.1.55", "IM.0001"]
    assert unique_names(map(Path, files)) == [
        "x", "x-2", "x-2-2", "x-3", "1.2.840.1.55", "1.2.840.1.55-2", "IM.0001",
    ]  # fmt: skip
    assert len(set(unique_names([Path("x.png")] * 20_000))) == 20_000
