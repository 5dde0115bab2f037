import csv

import cv2
import numpy as np
import pytest

from xr2text.config import DataConfig
from xr2text.data.sources.manifest import manifest_studies
from xr2text.data.study import Faults
from xr2text.ui import handlers
from xr2text.ui.corrections import VARIABLE, corrections_folder, notice
from xr2text.ui.session import Session, open_radiograph


def stands(session):
    return session.opened.bare.findings, session.opened.bare.impression


@pytest.fixture
def read(reporter, make_dicom):
    content = make_dicom(PatientName="Doe^Jane", ViewPosition="PA").read_bytes()
    return handlers.write_open(reporter, Session(open_radiograph(content)))["session"]


def test_nothing_is_kept_unless_whoever_runs_the_page_asks_for_it(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert corrections_folder() is None and notice(None) == ""
    monkeypatch.setenv(VARIABLE, "/a/folder")
    assert str(corrections_folder()) == "/a/folder" and "keeps" in notice(corrections_folder())


def test_a_correction_is_a_study_to_train_on_and_of_nobody(reporter, read, tmp_path):
    label = read.opened.label
    session = handlers.edit(read, label, "There is a nodule.", "A nodule.", *stands(read))["session"]
    session = handlers.set_finding(reporter, session, label, "nodule", "present")["session"]
    answer = handlers.keep(tmp_path / "kept", session, label)
    assert answer["reader"].value["kept"] and answer["session"].studies[-1].kept
    (study,) = manifest_studies(tmp_path / "kept", DataConfig(source="manifest"), Faults())
    assert "There is a nodule." in study.findings and study.impression == "A nodule."
    assert study.split in ("train", "val")
    assert np.array_equal(cv2.imread(str(study.images[0].path), cv2.IMREAD_UNCHANGED), session.opened.grey)
    everything = b"".join(file.read_bytes() for file in (tmp_path / "kept").rglob("*") if file.is_file())
    assert b"nodule=present" in everything and b"Doe" not in everything and b"Jane" not in everything


def test_a_later_correction_of_a_radiograph_takes_the_place_of_the_former(reporter, read, tmp_path):
    label = read.opened.label
    session = handlers.keep(tmp_path, read, label)["session"]
    session = handlers.edit(session, label, "The heart is large.", "", *stands(session))["session"]
    assert not session.opened.kept, "what was changed since is not kept yet"
    handlers.keep(tmp_path, session, label)
    (study,) = manifest_studies(tmp_path, DataConfig(source="manifest"), Faults())
    assert study.findings == "The heart is large." and len(list((tmp_path / "images").iterdir())) == 1


def test_two_corrections_are_enough_to_train_and_to_validate_on(reporter, pixels, tmp_path):
    def keep(moved):
        content = cv2.imencode(".png", np.round(np.roll(pixels, 5 * moved, 1) * 255).astype(np.uint8))[1].tobytes()
        opened = handlers.write_open(reporter, Session(open_radiograph(content)))["session"]
        handlers.keep(tmp_path, opened, opened.opened.label)
        studies = manifest_studies(tmp_path, DataConfig(source="manifest"), Faults())
        return [study.split for study in studies]

    for moved in range(7):
        splits = keep(moved)
    assert splits == ["train", "val", "train", "train", "train", "train", "val"]
    assert sorted(keep(1)) == sorted(splits), "kept again, it stays where it was"


def test_a_table_that_somebody_has_edited_keeps_its_columns(read, tmp_path):
    (tmp_path / "manifest.csv").write_text("image,id,findings,note\na.png,a,Clear lungs.,mine\n")
    handlers.keep(tmp_path, read, read.opened.label)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        before, kept = csv.DictReader(file)
    assert (before["image"], before["note"], before["split"]) == ("a.png", "mine", "")
    assert kept["split"] == "val" and kept["findings"] and not kept["note"]
    for damaged in (b"id,findings\na,b,c\n", b"id,findings\na,\xe9\n"):
        (tmp_path / "manifest.csv").write_bytes(damaged)
        answer = handlers.keep(tmp_path, read, read.opened.label)
        assert "manifest.csv is damaged" in answer["reader"].value["status"]["text"]
        assert (tmp_path / "manifest.csv").read_bytes() == damaged


def test_a_folder_that_cannot_be_written_is_said_in_words(read, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused = handlers.keep(None, read, read.opened.label)
    assert "keeps no corrections" in refused["reader"].value["status"]["text"]
    answer = handlers.keep(tmp_path / "file", read, read.opened.label)
    assert "could not be kept" in answer["reader"].value["status"]["text"] and "session" not in answer
