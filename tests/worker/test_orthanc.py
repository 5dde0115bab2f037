"""The worker beside a real Orthanc."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from dicom_files import IDENTITY, dataset, file_bytes
from orthanc_server import OrthancServer, needs_orthanc
from pydicom.uid import generate_uid
from stub_worker import start_worker

from xr2text.cli.main import main
from xr2text.phantom.drawing import draw_phantom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_orthanc]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pacs(tmp_path):
    server = OrthancServer(tmp_path / "pacs").start()
    yield server
    server.stop()


@pytest.fixture
def orthanc(tmp_path, pacs):
    server = OrthancServer(tmp_path / "orthanc", pacs).start()
    yield server
    server.stop()


class Films:
    """DICOM films in files."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder, self.uids = folder, []

    def __call__(self, pixels=None, study=None, **elements) -> Path:
        uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
        uids["StudyInstanceUID"] = study or uids["StudyInstanceUID"]
        self.uids += uids.values()
        if pixels is None:
            pixels = np.round(draw_phantom(900, 320).pixels * 4095).astype(np.uint16)
        made = dataset(pixels, 12, **{"StudyDate": "20261128", "StudyTime": "101010", **uids, **elements})
        path = self.folder / f"{len(self.uids)}.dcm"
        path.write_bytes(file_bytes(made))
        return path


@pytest.fixture
def film(tmp_path):
    return Films(tmp_path / "films")


@pytest.fixture
def small():
    return np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)


def errors_of(made, path) -> list[str]:
    made.save_as(path)
    found = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True).stderr
    return [line for line in found.splitlines() if line.startswith("Error")]


def test_films_come_back_as_reports_or_with_a_reason(orthanc, pacs, film, tiny_checkpoint, tmp_path, capsys):
    study = generate_uid()
    wrong = {
        "hand": film(BodyPartExamined="HAND"),
        "CT": film(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT"),
        "frames": film(NumberOfFrames=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3"),
        "damaged": film(Rows=500),
        "noise": film(np.random.default_rng(0).integers(0, 4096, (320, 320), dtype=np.uint16)),
    }
    orthanc.receive(film(study=study), *wrong.values())
    command = [sys.executable, "-m", "xr2text", "worker", "--orthanc", orthanc.url, "--send-to", "PACS", "--checkpoint",
               str(tiny_checkpoint), "--set", "documents=[sr,sc,pdf]", "explain_refusals=true"]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        records = orthanc.wait_until_answered(1 + len(wrong))
        assert sorted(record["state"] for record in records.values()) == ["done", *["refused"] * len(wrong)]
        reasons = " ".join(reason for record in records.values() for reason in record["reasons"])
        for words in ("body part (hand)", "(modalities)", "several images", "damaged", "no chest radiograph"):
            assert words in reasons
        done = next(study for study, record in records.items() if record["state"] == "done")
        orthanc.receive(film(study=study, ViewPosition="LL"))
        until = time.monotonic() + 200
        while len(orthanc.objects(done, "SR")) < 2 and time.monotonic() < until:
            time.sleep(0.5)
        orthanc.wait_until_answered(1)
    finally:
        worker.terminate()
        assert worker.wait(120) == 0
    first, second = sorted(orthanc.objects(done, "SR"), key=lambda one: one.InstanceNumber)
    (before,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (
        first.PatientID == IDENTITY[2]
        and first.PreliminaryFlag == "PRELIMINARY"
        and "PredecessorDocumentsSequence" not in first
    )
    written = [*orthanc.objects(done, "SR"), *orthanc.objects(done, "OT"), *orthanc.objects(done, "DOC")]
    assert len(written) == 6
    for made in written:
        assert errors_of(made, tmp_path / "made.dcm") == []
    assert len(pacs.objects(done, "SR")) == len(pacs.objects(done, "OT")) == 2
    assert main(["worker", "--orthanc", orthanc.url, "--status"]) == 0
    assert f"refused: {len(wrong)}\n" in capsys.readouterr().out
    log = (tmp_path / "log").read_text()
    assert "done" in log and not any(word in log for word in (*IDENTITY, *film.uids))


def settings_for(orthanc, **more) -> dict:
    return {"orthanc": orthanc.url, "lease_seconds": 3, "poll_seconds": 0.2, "documents": ["sr"], **more}


def test_two_workers_answer_a_hundred_films_once_each(orthanc, film, small, tmp_path):
    notes = tmp_path / "notes"
    workers = [start_worker(settings_for(orthanc, lease_seconds=60), notes) for _ in range(2)]
    associations = [orthanc.receive(*(film(small) for _ in range(5)), wait=False) for _ in range(20)]
    assert all(association.wait() == 0 for association in associations)
    records = orthanc.wait_until_answered(100)
    assert [record["state"] for record in records.values()] == ["done"] * 100
    assert all(len(orthanc.objects(study, "SR")) == 1 for study in records)
    readers = notes.read_text().split()
    assert len(readers) == 100 and len(set(readers)) == 2
    for worker in workers:
        worker.terminate()


def test_kills_and_an_archive_that_goes_away_lose_and_double_nothing(orthanc, pacs, film, small, tmp_path):
    chance = random.Random(0)
    settings = settings_for(orthanc, send_to="PACS")
    worker, sent = start_worker(settings, tmp_path / "notes", 0.2), 0
    for kill in range(10):
        orthanc.receive(*(film(small) for _ in range(3)))
        sent += 3
        if kill in (3, 7):  # what has not become stable yet is then never among Orthanc's changes
            orthanc.stop(kill=True)
            time.sleep(1)
            orthanc.start()
        if kill == 5:
            pacs.stop()
        time.sleep(chance.uniform(0.5, 2.5))
        os.kill(worker.pid, signal.SIGKILL)
        worker = start_worker(settings, tmp_path / "notes", 0.2)
    pacs.start()
    records = orthanc.wait_until_answered(sent)
    worker.terminate()
    assert [record["state"] for record in records.values()] == ["done"] * sent
    assert [len(orthanc.objects(study, "SR")) for study in records] == [1] * sent
    assert [len(pacs.objects(study, "SR")) for study in records] == [1] * sent


def test_an_archive_without_the_revision_check_is_refused(tmp_path, capsys):
    server = OrthancServer(tmp_path, CheckRevisions=False).start()
    try:
        worker = start_worker({"orthanc": server.url}, tmp_path / "notes")
        worker.join(120)
        assert worker.exitcode == 1
    finally:
        server.stop()


def test_two_writers_of_a_record(orthanc, film, small):
    from xr2text.worker.orthanc import Orthanc, OrthancError

    orthanc.receive(film(small))
    (study,) = orthanc.get("/studies")
    one, other = Orthanc(orthanc.url), Orthanc(orthanc.url)
    assert one.record(study) == (None, None)
    tag = one.write_record(study, "first", None)
    assert tag and other.write_record(study, "second", None) is None
    again = other.write_record(study, "third", tag)
    assert again and one.write_record(study, "fourth", tag) is None and one.record(study) == ("third", again)
    assert one.write_record("none", "text", None) is None
    with pytest.raises(OrthancError, match="no modality or DICOMweb server 'X'; it knows PACS"):
        one.check("X")
    assert httpx.get(f"{orthanc.url}/studies/{study}").is_success
