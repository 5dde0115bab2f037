"""What the worker does when things go wrong, with an archive in memory and no model."""

import threading
from datetime import datetime
from io import BytesIO
from types import SimpleNamespace
from urllib.request import urlopen

import httpx
import numpy as np
import pytest
from dicom_files import IDENTITY, dataset, file_bytes
from example_report import make_report
from orthanc_server import free_ports
from pydicom import dcmread
from pydicom.uid import generate_uid

from xr2text.cli.main import main
from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import ImageError
from xr2text.worker import work
from xr2text.worker.orthanc import Orthanc, UnavailableError
from xr2text.worker.settings import WorkerConfig
from xr2text.worker.watch import Metrics, status
from xr2text.worker.work import Record, Worker


class Archive:
    """Orthanc's part, in memory; `broken` names methods that cannot be done now."""

    def __init__(self):
        self.files, self.metadata, self.changes, self.sent, self.broken = {}, {}, [], [], set()

    def __getattribute__(self, name):
        if name != "broken" and name in self.broken:
            raise UnavailableError("Orthanc does not answer.")
        return super().__getattribute__(name)

    def add(self, study="s1", **elements):
        pixels = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
        uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": generate_uid(), "SOPInstanceUID": generate_uid()}
        self.files[f"{study}/{len(self.files)}"] = file_bytes(dataset(pixels, **uids | elements))
        self.changes.append(study)

    def check(self, send_to): ...

    def last_change(self):
        return len(self.changes)

    def stable_studies(self, since):
        return self.changes[since:], len(self.changes)

    def studies(self):
        return sorted({name.split("/")[0] for name in self.files})

    def study(self, study):
        tags = {"StudyInstanceUID": "1.2.3"}
        return {"IsStable": True, "LastUpdate": "", "MainDicomTags": tags} if study in self.studies() else None

    def series(self, study):
        found = {}
        for name, content in self.files.items():
            if name.startswith(study):
                header = dcmread(BytesIO(content), stop_before_pixels=True)
                tags = {tag: str(header.get(tag, "")) for tag in ("Modality", "Manufacturer", "BodyPartExamined")}
                found.setdefault(header.SeriesInstanceUID, {"MainDicomTags": tags, "Instances": []})[
                    "Instances"
                ].append(name)
        return list(found.values())

    def file(self, name):
        return self.files[name]

    def record(self, study):
        return self.metadata.get(study, (None, None))

    def write_record(self, study, record, tag):
        if self.record(study)[1] != tag:
            return None
        self.metadata[study] = record, (tag or "") + "+"
        return self.metadata[study][1]

    def store(self, content):
        uid = dcmread(BytesIO(content)).SOPInstanceUID
        self.files.setdefault(f"s1/{uid}", content)
        return f"s1/{uid}", "s1"

    def delete(self, name):
        del self.files[name]

    def send(self, objects, name):
        self.sent += objects

    def seconds_since(self, then):
        return 3.0

    def state(self, study="s1"):
        return Record.of(self.record(study)[0])

    def written(self):
        return [dcmread(BytesIO(content)) for name, content in self.files.items() if len(name) > 10]


@pytest.fixture
def archive():
    made = Archive()
    made.add()
    return made


@pytest.fixture
def clock(monkeypatch):
    """The worker's clock: it stands unless it is moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(work.time, "monotonic", lambda: clock.now)
    return clock


class Reporter:
    model_name = "example 0.1.0"

    def __init__(self, error=None):
        self.error = error

    def is_lateral(self, radiograph):
        return radiograph.view == "lateral"

    def report(self, image, lateral=None):
        if self.error:
            raise self.error
        return make_report()


def worker_of(archive, error=None, observe=None, **settings):
    config = WorkerConfig(**{"documents": ["sr"], **settings})
    return Worker(archive, Reporter(error), config, *([observe] if observe else []))


def once(worker):
    worker.poll()
    worker.work_through(threading.Event())


def test_a_study_is_answered_once(archive, clock):
    seen = []
    worker = worker_of(archive, observe=lambda *result: seen.append(result))
    for _ in range(3):
        once(worker)
        archive.changes.append("s1")
    once(worker_of(archive))
    assert archive.state().state == "done" and archive.state().version == 1 and len(archive.written()) == 1
    assert seen == [("done", 0.0, 3.0)]


def test_a_late_image_makes_a_new_version(archive, clock):
    worker = worker_of(archive)
    once(worker)
    archive.add(ViewPosition="LL")
    once(worker)
    first, second = archive.written()
    assert second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[
        0
    ].ReferencedSOPInstanceUID == (first.SOPInstanceUID)
    assert archive.state().version == second.InstanceNumber == 2


def test_images_that_were_answered_before_make_a_version_of_their_own(archive, clock):
    worker, (right,) = worker_of(archive), archive.files
    once(worker)
    archive.add()
    wrong = next(name for name in archive.files if name != right and len(name) < 10)
    once(worker)
    archive.delete(wrong)
    archive.changes.append("s1")
    once(worker)
    *_, third = sorted(archive.written(), key=lambda made: made.InstanceNumber)
    assert archive.state().report == third.SOPInstanceUID and archive.state().version == third.InstanceNumber == 3


def test_a_study_that_is_deleted_while_it_is_read_stays_deleted(archive, clock, monkeypatch, caplog):
    seen = []
    worker = worker_of(archive, observe=lambda *result: seen.append(result))

    def report(image, lateral=None):
        archive.files.clear()
        archive.metadata.clear()
        return make_report()

    monkeypatch.setattr(worker.reporter, "report", report, raising=False)
    once(worker)
    assert archive.files == {} and archive.metadata == {} and seen == [] and "It was deleted" in caplog.text


def test_a_claim_is_left_alone_until_it_runs_out(archive, clock):
    archive.metadata["s1"] = Record(state="claimed", token="other-1", attempts=1).model_dump_json(), "x"
    worker = worker_of(archive, lease_seconds=60)
    once(worker)
    clock.now += 59
    once(worker)
    assert archive.state().token == "other-1"
    clock.now += 2
    once(worker)
    assert archive.state().state == "done"


def test_what_ends_worker_after_worker_fails(archive, clock):
    archive.metadata["s1"] = Record(state="claimed", token="other-1", attempts=work.DEATHS).model_dump_json(), "x"
    worker = worker_of(archive, lease_seconds=60)
    once(worker)
    clock.now += 61
    once(worker)
    assert archive.state().state == "failed" and "workers stopped" in archive.state().reasons[0]


def test_a_fault_is_tried_again_and_named_without_its_text(archive, clock, caplog):
    worker = worker_of(archive, error=RuntimeError(f"the patient is {IDENTITY[0]}"), lease_seconds=60)
    for attempt in range(work.FAULTS):
        assert attempt == 0 or archive.state().state == "waiting"
        once(worker)
        clock.now += 61
    once(worker)
    assert archive.state().state == "failed" and "A fault of the program: RuntimeError in" in archive.state().reasons[0]
    assert IDENTITY[0] not in caplog.text + archive.record("s1")[0] and "attempt 3" in caplog.text
    assert "1.2.3" not in caplog.text


@pytest.mark.parametrize("broken", ["file", "store", "series"])
def test_an_archive_that_cannot_now_is_asked_again(archive, clock, broken):
    worker = worker_of(archive, lease_seconds=60)
    for _ in range(work.DEATHS + work.FAULTS):
        archive.broken = {broken}
        with pytest.raises(UnavailableError):
            once(worker)
        clock.now += 7
    archive.broken = set()
    once(worker)
    assert archive.state().state == "done" and len(archive.written()) == 1


def test_the_worker_waits_for_an_archive_that_is_away(archive, monkeypatch):
    archive.broken, stop, waits = {"studies"}, threading.Event(), []

    def wait(seconds):
        waits.append(seconds)
        archive.broken = {"studies"} if len(waits) < 7 else set()
        if len(waits) > 8:
            stop.set()

    monkeypatch.setattr(stop, "wait", wait)
    worker_of(archive).run(stop)
    assert waits[:7] == [1, 2, 4, 8, 16, 30, 30] and archive.state().state == "done"


def test_a_study_that_the_archive_cannot_give_holds_no_other_up(archive, monkeypatch):
    for study in ("s0", "s2"):
        archive.add(study)
    give, stop, looks = archive.file, threading.Event(), []

    def file(name):
        if name.startswith("s0"):
            raise UnavailableError("Orthanc cannot do what it is asked now (HTTP 500).")
        return give(name)

    def wait(seconds):
        looks.append(seconds)
        if len(looks) > 5:
            stop.set()

    monkeypatch.setattr(archive, "file", file, raising=False)
    monkeypatch.setattr(
        archive, "store", lambda content: ("x", next(s for s in ("s1", "s2") if archive.state(s).state == "claimed"))
    )
    monkeypatch.setattr(stop, "wait", wait)
    worker_of(archive).run(stop)
    assert [archive.state(study).state for study in ("s0", "s1", "s2")] == ["waiting", "done", "done"]


def test_a_report_outlives_the_age_at_which_studies_are_taken(archive, clock, monkeypatch):
    worker = worker_of(archive, rules={"max_age_days": 7}, explain_refusals=True)
    facts = archive.study("s1")

    def dated(date):
        return lambda study: facts | {"MainDicomTags": facts["MainDicomTags"] | {"StudyDate": date}}

    monkeypatch.setattr(archive, "study", dated(datetime.now().strftime("%Y%m%d")), raising=False)
    once(worker)
    assert archive.state().state == "done"
    monkeypatch.setattr(archive, "study", dated("20200101"), raising=False)
    archive.changes.append("s1")
    once(worker)
    assert archive.state().state == "done" and archive.state().version == 1
    archive.metadata.clear()
    for _ in range(2):
        archive.changes.append("s1")
        once(worker)
        assert archive.state().state == "refused" and "older than 7 days" in archive.state().reasons[0]
    archive.changes.append("s1")
    once(worker_of(archive))  # whose rules take it
    assert archive.state().state == "done" and archive.state().reported


def test_documents_that_cannot_be_sent_wait(archive, clock):
    archive.broken = {"send"}
    worker = worker_of(archive, send_to="PACS", lease_seconds=60)
    once(worker)
    assert archive.state().state == "written" and archive.sent == []
    archive.broken = set()
    archive.add()
    once(worker)  # a new version is made, and waits too
    assert archive.state().state == "written" and archive.state().version == 2 and archive.sent == []
    clock.now += 61
    once(worker)
    assert archive.state().state == "done" and archive.sent == archive.state().objects
    assert len(archive.sent) == 1 and len(archive.written()) == 2


def test_documents_under_another_study_are_taken_back(archive, clock, monkeypatch):
    store = archive.store
    monkeypatch.setattr(archive, "store", lambda content: (store(content)[0], "s2"))
    once(worker_of(archive))
    assert archive.state().state == "failed" and "another study" in archive.state().reasons[0]
    assert archive.written() == []


@pytest.mark.parametrize("explain", [False, True])
def test_a_refusal_is_explained_by_choice(archive, clock, explain):
    once(worker_of(archive, error=ImageError("It is a hand."), explain_refusals=explain))
    assert archive.state().state == "refused" and archive.state().reasons == ["It is a hand."]
    assert len(archive.written()) == explain
    assert "refused: 1\n  1 × It is a hand.\n" in status(archive)


def test_another_programs_metadata_is_no_record():
    assert Record.of('{"state": "odd"}') == Record.of("text") == Record.of(None) == Record()


def test_an_archive_that_does_not_answer_is_named(capsys):
    assert main(["worker", "--orthanc", f"http://127.0.0.1:{free_ports(1)[0]}", "--status"]) == 2
    assert "worker: Orthanc does not answer (ConnectError)." in capsys.readouterr().err
    assert main(["worker", "--orthanc", "http://127.0.0.1:abc", "--status"]) == 2
    assert "worker: Orthanc's address is none: Invalid port: 'abc'." in capsys.readouterr().err


def test_an_address_where_something_else_answers_is_named():
    page = httpx.MockTransport(lambda request: httpx.Response(200, html="<p>Welcome</p>"))
    with pytest.raises(UnavailableError, match=r"At http://pacs/changes\?last something answers that is not Orthanc"):
        Orthanc("http://user:secret@pacs:80", transport=page).last_change()


def test_counts_and_health_are_served(archive):
    metrics, (port,) = Metrics(), free_ports(1)
    worker = worker_of(archive, observe=metrics.observe)
    metrics.serve(port, worker)
    once(worker)
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert 'xr2text_studies_total{state="done"} 1.0' in text and "xr2text_latency_seconds_sum 3.0" in text
    assert urlopen(f"http://127.0.0.1:{port}/health").status == 200
    worker.heard -= 1000
    with pytest.raises(OSError, match="503"):
        urlopen(f"http://127.0.0.1:{port}/health")
    with pytest.raises(XR2TextError, match="cannot be served"):
        metrics.serve(port, worker)
