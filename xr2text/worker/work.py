"""The worker: reads studies that became stable in Orthanc and stores reports. It keeps no state of its own.

The state of a study is recorded in its metadata. Orthanc's revision check ensures that only one of several workers has
a study. A claim that does not change for `lease_seconds` is taken as a dead worker's. The log names a study by a hash
of its UID.
"""

import hashlib
import heapq
import logging
import secrets
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from xr2text.errors import XR2TextError
from xr2text.export.dicom_sr import MANUFACTURER
from xr2text.imaging.radiograph import ImageError
from xr2text.worker.orthanc import Orthanc, OrthancError, UnavailableError
from xr2text.worker.settings import WorkerConfig
from xr2text.worker.study import Answer, Refusal, answer, documents

if TYPE_CHECKING:
    from xr2text.inference.reporter import Reporter

log = logging.getLogger(__name__)

FAULTS, DEATHS = 3, 20  # attempts after which a study has failed: after errors, after deaths of workers
UNSTABLE = 10.0  # seconds until an unstable study is looked at again
AWAY = (1.0, 30.0)  # first and longest pause between calls to an unreachable Orthanc, in seconds


class ClaimLostError(XR2TextError):
    """A study was deleted, or this worker's claim expired, while it was being read."""


class Record(BaseModel):
    """The state of a study. Done, refused and failed studies have their answer; written ones have yet to be sent."""

    state: Literal["waiting", "claimed", "written", "done", "refused", "failed"] = "waiting"
    token: str = ""  # name of the worker that wrote this, and a random part, new with each write
    images: str = ""  # hash of the answered images
    attempts: int = 0
    version: int = 0  # of the documents; 0: there are none
    report: str = ""  # UID of the newest Structured Report
    reported: bool = False  # the study has had a report, not only refusals; never reset
    objects: list[str] = []  # Orthanc's ids of the newest documents
    reasons: list[str] = []

    @classmethod
    def of(cls, text: str | None) -> "Record":
        """Reads the record from a study's metadata; a new record where there is none, or where it is another program's
        text."""
        try:
            return cls() if text is None else cls.model_validate_json(text)
        except ValidationError:
            return cls()

    @property
    def has_report(self) -> bool:
        return self.reported or self.state in ("done", "written")


def _digest(images: list[str]) -> str:
    return hashlib.sha256(" ".join(images).encode()).hexdigest()[:16]


@dataclass
class Task:
    """A study that has no answer yet, or one that is not sent yet."""

    study: str
    label: str  # hash of its UID, for the log
    arrived: str  # by Orthanc's clock
    images: list[str]
    digest: str  # of the images
    reason: str  # why there is nothing to read; or empty
    record: Record
    tag: str | None

    @property
    def answered(self) -> bool:
        return self.record.images == self.digest


class Worker:
    """Answers the studies of an Orthanc archive, see the module.

    Args:
        reporter: writes the reports.
        observe: called for each answered study with its state, the seconds that the worker took, and the seconds since
            its last image arrived.
    """

    def __init__(
        self,
        orthanc: Orthanc,
        reporter: "Reporter",
        config: WorkerConfig,
        observe: Callable[[str, float, float], None] = lambda state, seconds, latency: None,
    ):
        self.orthanc, self.reporter, self.config, self.observe = orthanc, reporter, config, observe
        self.name = secrets.token_hex(6)
        self.heard = time.monotonic()  # when Orthanc last answered
        self._due: list[tuple[float, str]] = []  # heap of (time, study) to be looked at
        self._when: dict[str, float] = {}  # the time by study
        self._all: deque[str] = deque()  # studies left of the search of all studies
        self._claims: dict[str, tuple[str, float]] = {}  # other workers' claims: token, and when it was first seen
        self._since, self._swept, self._send_after = 0, float("-inf"), 0.0

    def run(self, stop: Event) -> None:
        """Works until `stop` is set. Raises OrthancError where Orthanc cannot be worked with."""
        pause = AWAY[0]
        while not stop.is_set():
            looked = False
            try:
                self.poll()
                looked, pause = True, AWAY[0]
                if not self.work_through(stop):
                    stop.wait(self.config.poll_seconds)
            except UnavailableError as error:
                log.warning("%s The next call is in %.0f s.", error, pause)
                if not looked:
                    self._swept = float("-inf")  # search all studies again: changes may have been missed
                stop.wait(pause)
                pause = min(2 * pause, AWAY[1])

    def poll(self) -> None:
        """Asks Orthanc for studies that became stable and, from time to time, for all studies."""
        now = time.monotonic()
        if now - self._swept > 60 * self.config.sweep_minutes:
            self.orthanc.check(self.config.send_to)
            self._since = self.orthanc.last_change()
            self._all = deque(self.orthanc.studies())
            self._swept = now
        studies, self._since = self.orthanc.stable_studies(self._since)
        for study in studies:
            self._later(study, 0)
        self.heard = time.monotonic()

    def work_through(self, stop: Event) -> bool:
        """Handles the studies that are due; begins none after a poll's time. Returns whether more may be due."""
        until, study = time.monotonic() + self.config.poll_seconds, None
        while time.monotonic() < until and not stop.is_set() and (study := self._next()) is not None:
            try:
                if (task := self._task(study)) is not None:
                    self._do(task)
            except UnavailableError:
                self._later(study, self.config.lease_seconds / 10)
                raise
        return study is not None

    def _later(self, study: str, seconds: float) -> None:
        due = time.monotonic() + seconds
        if due < self._when.get(study, float("inf")):
            self._when[study] = due
            heapq.heappush(self._due, (due, study))

    def _next(self) -> str | None:
        while self._due and self._due[0][0] <= time.monotonic():
            due, study = heapq.heappop(self._due)
            if self._when.get(study) == due:
                del self._when[study]
                return study
        return self._all.popleft() if self._all else None

    def _task(self, study: str) -> Task | None:
        """Claims a study and returns what is to be done; None where there is nothing to do now."""
        facts = self.orthanc.study(study)
        text, tag = self.orthanc.record(study)
        record = Record.of(text)
        if facts is None or self._is_claimed(study, record):
            return None
        if not facts["IsStable"]:
            self._later(study, UNSTABLE)
            return None
        task = self._read(study, facts, record, tag)
        if task.answered and record.state in ("done", "refused", "failed"):
            return None
        if task.answered and time.monotonic() < self._send_after:
            self._later(study, self._send_after - time.monotonic())
            return None
        attempts = 1
        if record.state in ("waiting", "claimed"):
            mine = record.state == "claimed" and record.token.startswith(self.name)  # Orthanc went away meanwhile
            attempts = record.attempts + (not mine)
        if attempts > DEATHS:
            reason = f"{DEATHS} workers stopped while they read this study."
            self._write(task, state="failed", images=task.digest, attempts=0, reasons=[reason])
        elif self._write(task, state="claimed", attempts=attempts, reported=record.has_report):
            return task
        else:
            self._later(study, 0)  # another worker was first
        return None

    def _is_claimed(self, study: str, record: Record) -> bool:
        """Whether another worker has claimed the study. It is then looked at again when that claim expires."""
        claim = self._claims.pop(study, ("", 0.0))
        if record.state != "claimed" or record.token.startswith(self.name):
            return False
        if claim[0] != record.token:
            claim = record.token, time.monotonic()
        left = claim[1] + self.config.lease_seconds - time.monotonic()
        if left > 0:
            self._claims[study] = claim
            self._later(study, left)
        return left > 0

    def _read(self, study: str, facts: dict[str, Any], record: Record, tag: str | None) -> Task:
        tags, images, reason, series = facts["MainDicomTags"], [], "", self.orthanc.series(study)
        foreign = [entry for entry in series if entry["MainDicomTags"].get("Manufacturer") != MANUFACTURER]
        try:
            images = sorted(image for entry in self.config.rules.taken(foreign) for image in entry["Instances"])
            if not record.has_report and record.images != _digest(images):
                self.config.rules.check_age(tags.get("StudyDate", ""), datetime.now().date())
        except ImageError as error:
            reason, images = str(error), []
        label = hashlib.sha256(tags.get("StudyInstanceUID", "").encode()).hexdigest()[:12]
        return Task(study, label, facts["LastUpdate"], images, _digest(images), reason, record, tag)

    def _write(self, task: Task, **changes: object) -> bool:
        """Writes the task's record with `changes`. False where another has changed it, or the study is gone."""
        token = f"{self.name}-{secrets.token_hex(4)}"
        record = task.record.model_copy(update={**changes, "token": token})
        tag = self.orthanc.write_record(task.study, record.model_dump_json(), task.tag)
        if tag is not None:
            task.record, task.tag = record, tag
        return tag is not None

    def _do(self, task: Task) -> None:
        """Makes the documents of a claimed study, sends them, or both, as needed."""
        started, record = time.monotonic(), task.record
        try:
            answered = {} if task.answered else self._put_back(task)
            state = answered.get("state", "done")
            objects = answered.get("objects", record.objects)
            if self.config.send_to and objects and not self._send(objects):
                answered, state = answered | {"state": "written"}, "written"
                self._later(task.study, self.config.lease_seconds)
            self._write(task, **{"state": "done", "images": task.digest, "attempts": 0} | answered)
        except UnavailableError as error:
            log.warning("study %s: %s", task.label, error)
            self._release(task)
            raise
        except ClaimLostError as error:
            log.warning("study %s: %s", task.label, error)
            return
        except Exception as error:  # whatever one study's files do, the worker goes on with the next
            self._failed(task, error)
            return
        seconds = time.monotonic() - started
        log.info("study %s: %s, %d images, %.1f s", task.label, state, len(task.images), seconds)
        if answered:
            self.observe(state, seconds, self.orthanc.seconds_since(task.arrived))

    def _put_back(self, task: Task) -> dict[str, Any]:
        """Reads a study and stores its documents in it. Returns the new values of its record. Raises ClaimLostError."""
        record, config = task.record, self.config
        if task.reason:
            given = Answer(Refusal((task.reason,), self.reporter.model_name))
        else:
            given = answer(self.reporter, task.images, self.orthanc.file)
        kinds, state, reasons = config.documents, "done", given.reasons
        if isinstance(given.report, Refusal):
            kinds = ["sr"] if config.explain_refusals and given.source else []
            state, reasons = "refused", given.report.reasons
        if Record.of(self.orthanc.record(task.study)[0]).token != record.token:
            raise ClaimLostError("It was deleted or taken by another worker meanwhile; nothing is stored.")
        objects, report, number = [], record.report, record.version + 1
        for kind, instance, content in documents(given, kinds, task.digest, number, record.report or None):
            stored, study = self.orthanc.store(content)
            if study != task.study:
                self.orthanc.delete(stored)
                raise OrthancError("Orthanc files the documents under another study, so none is kept.")
            objects.append(stored)
            report = instance if kind == "sr" else report
        version = number if objects else record.version
        return {
            "state": state, "objects": objects, "report": report, "reasons": list(reasons), "version": version,
            "reported": record.has_report or state == "done",
        }  # fmt: skip

    def _send(self, objects: list[str]) -> bool:
        """Makes Orthanc send the documents. False where it could not; then nothing is sent for `lease_seconds`."""
        if time.monotonic() < self._send_after:
            return False
        try:
            self.orthanc.send(objects, self.config.send_to)
        except UnavailableError:
            log.warning("Orthanc could not send to %s; the documents wait.", self.config.send_to)
            self._send_after = time.monotonic() + self.config.lease_seconds
            return False
        return True

    def _release(self, task: Task) -> None:
        """Gives a claim back. Where Orthanc cannot be reached, the claim expires by itself."""
        try:
            self._write(task, state="waiting", attempts=task.record.attempts - 1)
        except OrthancError:
            log.warning("study %s: the claim could not be given back", task.label)

    def _failed(self, task: Task, error: Exception) -> None:
        """Records a fault. It is final as an XR2TextError or at attempt FAULTS; else the study is tried again."""
        if isinstance(error, XR2TextError):
            reason, final = str(error), True
        else:  # its text may quote patient data
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = (
                f"A fault of the program: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}."
            )
            final = task.record.attempts >= FAULTS
        log.error("study %s: attempt %d: %s", task.label, task.record.attempts, reason)
        if final:
            self._write(task, state="failed", images=task.digest, attempts=0, reasons=[reason])
            self.observe("failed", 0.0, self.orthanc.seconds_since(task.arrived))
        else:
            self._write(task, state="waiting", reasons=[reason])
            self._later(task.study, self.config.lease_seconds)
