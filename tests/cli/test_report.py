import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from dicom_files import IDENTITY, dataset, file_bytes
from pydicom import dcmread
from pydicom.uid import generate_uid

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.cli.report import ReportFolders, radiograph_files
from xr2text.inference.gate import DOUBTFUL, REFUSED, Gate, GateResult
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
    assert (written["file"], written["sha256"]) == ("phantom.png", hashlib.sha256(png.read_bytes()).hexdigest())
    assert not any("phantom.png" in (folder / name).read_text("latin1") for name in ("report.txt", "overlay.png"))
    with np.load(folder / "maps.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape == (7, 300, 240) and list(stored["regions"]) == list(REGION_NAMES)


def test_a_lateral_view_goes_with_one_frontal_radiograph(run, png, tmp_path, capsys):
    assert run(png, "--lateral", png, "--no-overlay") == 0
    written = json.loads((tmp_path / "out" / "phantom" / "report.json").read_text())
    assert written["lateral_view"] is False and "lateral view was not read" in str(written["warnings"])
    assert run(png, png, "--lateral", png) == 2 and "one frontal FILE; there are 2" in capsys.readouterr().err


def test_a_lateral_file_that_cannot_be_read_is_named(run, png, tmp_path, capsys):
    assert run(png, "--lateral", tmp_path / "typo.dcm") == 2
    assert f"--lateral {tmp_path / 'typo.dcm'}: The file does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_both_views_are_evidence_of_the_structured_report(make_tiny, tmp_path):
    make_tiny(lateral_queries=2).save_pretrained(tmp_path / "checkpoint")
    phantom = draw_phantom(1, 300)
    for name, pixels, view in (("frontal", phantom.pixels, "PA"), ("lateral", phantom.lateral.pixels, "LL")):
        uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": generate_uid()}
        made = dataset(np.round(pixels * 4095).astype(np.uint16), 12, ViewPosition=view, **uids)
        (tmp_path / name).write_bytes(file_bytes(made))
    files = [str(tmp_path / "frontal"), "--lateral", str(tmp_path / "lateral"), "--no-overlay", "--also", "dicom-sr"]
    options = ["--force", "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "checkpoint")]
    assert main(["report", *files, *options]) == 0
    written = dcmread(tmp_path / "out" / "frontal" / "report.dcm")
    (study,) = written.CurrentRequestedProcedureEvidenceSequence
    images = [image for series in study.ReferencedSeriesSequence for image in series.ReferencedSOPSequence]
    expected = {dcmread(tmp_path / name).SOPInstanceUID for name in ("frontal", "lateral")}
    assert {image.ReferencedSOPInstanceUID for image in images} == expected


def test_a_lateral_view_of_another_study_needs_force(make_tiny, tmp_path, capsys):
    make_tiny(lateral_queries=2).save_pretrained(tmp_path / "checkpoint")
    phantom = draw_phantom(1, 300)
    for name, pixels, study in (("frontal", phantom.pixels, "1.2.3"), ("lateral", phantom.lateral.pixels, "1.2.4")):
        uids = {"StudyInstanceUID": study, "SeriesInstanceUID": study, "SOPInstanceUID": study}
        (tmp_path / name).write_bytes(file_bytes(dataset(np.round(pixels * 4095).astype(np.uint16), 12, **uids)))
    views = [str(tmp_path / "frontal"), "--lateral", str(tmp_path / "lateral"), "--no-overlay"]
    command = ["report", *views, "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "checkpoint")]
    doubts = []
    for position in ("PA", "LL"):
        for name in ("frontal", "lateral"):
            film = dcmread(tmp_path / name)
            film.ViewPosition = "PA" if name == "frontal" else position
            film.save_as(tmp_path / name)
        assert main(command) == 1 and not (tmp_path / "out" / "frontal").exists()
        doubts.append(capsys.readouterr().err)
    assert "whether the second image is a lateral view" in doubts[0] and "of another study" in doubts[1]
    assert main([*command, "--force"]) == 0


def test_documents_of_an_earlier_report_are_written_anew(make_tiny, png, tmp_path):
    make_tiny(("nodule",)).save_pretrained(tmp_path / "checkpoint")
    options = [str(png), "--no-overlay", "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "checkpoint")]
    assert main(["report", *options, "--also", "fhir"]) == 0
    assert main(["report", *options, "--finding", "nodule=present"]) == 0
    folder = tmp_path / "out" / "phantom"
    assert "nodule present" in (folder / "report.fhir.json").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["report.fhir.json", "report.json", "report.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_name_that_is_no_text_and_a_file_that_may_not_be_read_stop_nothing(run, png, tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / os.fsdecode(b"M\xfcller.png")).write_bytes(png.read_bytes())
    (folder / "IM0001").symlink_to(tmp_path / "gone")
    (folder / "IM0002").write_bytes(b"")
    assert run(folder, "--no-overlay") == 0
    (report,) = (tmp_path / "out").rglob("report.json")
    assert json.loads(report.read_text())["file"] == "M\ufffdller.png"


def test_of_two_views_of_a_study_the_lateral_is_found(run, tmp_path, capsys, monkeypatch):
    for name in ("frontal", "lateral"):
        phantom = draw_phantom(1, 300)
        pixels = phantom.pixels if name == "frontal" else phantom.lateral.pixels
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.round(pixels * 255).astype(np.uint8))
    assert run(tmp_path / "lateral.png", tmp_path / "frontal.png", "--study", "--no-overlay") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frontal"]
    shutil.rmtree(tmp_path / "out")
    for index in range(2):  # in a launch both processes read the two files, and one writes the report
        state = Mock(num_processes=2, process_index=index, device="cpu")
        monkeypatch.setattr("xr2text.cli.report._launch", lambda state=state: state)
        assert run(tmp_path / "lateral.png", tmp_path / "frontal.png", "--study", "--no-overlay") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frontal"]
    assert run(tmp_path / "frontal.png", "--study") == 2 and "takes two FILEs; there are 1" in capsys.readouterr().err
    (tmp_path / "cut.png").write_bytes((tmp_path / "frontal.png").read_bytes()[:1000])
    assert run(tmp_path / "cut.png", tmp_path / "lateral.png", "--study") == 2
    assert f"{tmp_path / 'cut.png'}: " in capsys.readouterr().err
    for name, words in (("frontal", "Neither image is surely a lateral view"), ("lateral", "Both images are lateral")):
        assert run(*[tmp_path / f"{name}.png"] * 2, "--study") == 2
        assert words in capsys.readouterr().err


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
    assert run(png, "--finding", "nodule=present", "--finding", "nodule=absent") == 2
    assert "one finding is set to both present and absent" in capsys.readouterr().err
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
    assert done.returncode == 0 and "Traceback" not in done.stderr and "leaked" not in done.stderr, done.stderr
    assert not (tmp_path / "phantom" / "maps.npz").exists()


@pytest.mark.slow
def test_processes_share_the_files(tiny_checkpoint, png, tmp_path):
    """The one with a refusal among its files waits for the other."""
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    files = [str(file) for file in (bad, png, png, png)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "xr2text",
         "report", *files, "--out", str(tmp_path / "out"), "--no-overlay", "--checkpoint", str(tiny_checkpoint)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"},
    )  # fmt: skip
    refused = re.findall(r"(\d) of \d files without", done.stderr)
    assert refused == ["1"], done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["phantom", "phantom-2", "phantom-3"]


def test_the_radiographs_of_a_folder_in_order(tmp_path):
    written = ("out/1/report.json", "out/1/overlay.png", "out/1/report.dcm")  # of an earlier run
    for name in ("b/2.png", "b/10.JPG", "a/IM1", "notes.txt", "b/.hidden.png", "a/DICOMDIR", *written):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(128) + (b"{}" if name.endswith(".json") else b"DICM"))
    found = radiograph_files([tmp_path / "b" / "2.png", tmp_path])
    names = [file.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["b/2.png", "a/IM1", "b/10.JPG", "b/2.png", "notes.txt"]


def named(files, folders):
    return [folders.folder(Path(file), str(number))[0].name for number, file in enumerate(files)]


def test_files_of_equal_stems_have_folders_of_their_own(tmp_path):
    files = ["a/x.png", "b/x.dcm", "x-2.png", "c/x.png", "1.2.840.1.55", "d/1.2.840.1.55", "IM.0001", "1.2.3.png"]
    assert named(files, ReportFolders(tmp_path)) == [
        "x", "x-2", "x-2-2", "x-3", "1.2.840.1.55", "1.2.840.1.55-2", "IM.0001", "1.2.3",
    ]  # fmt: skip
    assert len(set(named(["x.png"] * 20_000, ReportFolders(tmp_path)))) == 20_000


def test_a_file_has_its_folder_again_and_no_other_files(tmp_path):
    for name, digest in (("x", "1"), ("x-2", "2"), ("x-3", "3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"sha256": digest}))
    (tmp_path / "x-4").mkdir()
    (tmp_path / "x-4" / "report.json").write_text("half a file")
    folders = ReportFolders(tmp_path)
    given = [folders.folder(Path("x.png"), digest) for digest in ("3", "1", "9", "2", "3")]
    assert [folder.name for folder, _ in given] == ["x-3", "x", "x-5", "x-2", "x-6"]
    assert [others and others.name for _, others in given] == [None, None, "x-4", None, None]


def test_another_film_of_the_same_name_replaces_nothing(run, png, tmp_path, capsys):
    def digests():
        found = {}
        for file in (tmp_path / "out").glob("*/report.json"):
            found[file.parent.name] = json.loads(file.read_text())["sha256"]
        return found

    other = tmp_path / png.name
    cv2.imwrite(str(other), np.round(draw_phantom(2, (300, 240)).pixels * 255).astype(np.uint8))
    first, second = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (png, other))
    assert run(png, "--no-overlay") == 0 and digests() == {"phantom": first}
    assert "another file" not in capsys.readouterr().err
    assert run(other, "--no-overlay") == 0 and digests() == {"phantom": first, "phantom-2": second}
    assert f"{tmp_path / 'out' / 'phantom'} has the report of another file" in capsys.readouterr().err
    assert run(other, png, "--no-overlay") == 0 and digests() == {"phantom": first, "phantom-2": second}


ODD = {"StudyDate": "2020.01.01", "StudyTime": "10:10:10", "PatientSex": "m", "SOPInstanceUID": "9a5094b2563a1ef3"}


@pytest.mark.parametrize("keyword", ODD)
def test_a_header_that_is_odd_ends_in_a_sentence_and_the_next_file_goes_on(run, tmp_path, keyword, capfd, caplog):
    pixels = np.round(draw_phantom(1, 300).pixels * 4095).astype(np.uint16)
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "PatientName": "Zebulon Quirke"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (tmp_path / "a.dcm").write_bytes(file_bytes(dataset(pixels, 12, **(uids | {keyword: ODD[keyword]}))))
    (tmp_path / "b.dcm").write_bytes(file_bytes(dataset(pixels, 12, **uids)))
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(tmp_path, "--no-overlay", "--also", "dicom-sr", "--identity") == 1
    said = capfd.readouterr().err
    assert f"{tmp_path / 'a.dcm'}: the report is there, but not all documents: A DICOM Structured Report takes" in said
    assert "is not as DICOM requires it" in said and "1 of 2 files" in said
    assert {path.name for path in (tmp_path / "out" / "a").iterdir()} == {"report.json", "report.txt"}
    assert b"Zebulon Quirke" in (tmp_path / "out" / "b" / "report.dcm").read_bytes()
    for text in (said, caplog.text, *(str(warning.message) for warning in caught)):
        assert not any(word in text for word in IDENTITY) and (keyword == "PatientSex" or ODD[keyword] not in text)


def test_a_file_at_fault_whose_image_is_refused_may_be_forced(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Gate, "forward", lambda self, image: GateResult(REFUSED, image, (), "It is no radiograph."))
    pixels = np.round(draw_phantom(1, 300).pixels * 4095).astype(np.uint16)
    (tmp_path / "a.dcm").write_bytes(file_bytes(dataset(pixels, 12, WindowCenter=128, WindowWidth=256)))
    assert run(tmp_path / "a.dcm") == 1
    assert "It is no radiograph. The file's window does not fit its pixels" in capsys.readouterr().err
    assert run(tmp_path / "a.dcm", "--force", "--no-overlay") == 0
    text = (tmp_path / "out" / "a" / "report.txt").read_text()
    assert "It is no radiograph." in text and "window does not fit" in text
