"""A worker without a model, as a process that can be killed: what it reads is noted in a file."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from xr2text.worker.orthanc import Orthanc
from xr2text.worker.settings import WorkerConfig
from xr2text.worker.work import Worker

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stub_worker", "xr2text.export.dicom_sr"])


@dataclass
class StubReport:
    """What a Structured Report takes of a report."""

    findings: str = "The lungs are clear."
    impression: str = ""
    model: str = "example 0.1.0"
    edited: bool = False
    warnings: tuple[str, ...] = ()
    sentences: tuple = ()
    set_findings: dict[str, str] = field(default_factory=dict)
    lateral: None = None


class StubReporter:
    model_name = "example 0.1.0"

    def __init__(self, notes: Path, seconds: float):
        self.notes, self.seconds = notes, seconds

    def is_lateral(self, radiograph):
        return radiograph.view == "lateral"

    def report(self, image, lateral=None):
        time.sleep(self.seconds)
        with self.notes.open("a") as notes:
            notes.write(f"{os.getpid()}\n")
        return StubReport()


def work(settings: dict, notes: Path, seconds: float) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = WorkerConfig(**settings)
    Worker(Orthanc(config.orthanc, metadata=config.metadata), StubReporter(notes, seconds), config).run(stop)


def start_worker(settings: dict, notes: Path, seconds: float = 0.0) -> multiprocessing.Process:
    process = CONTEXT.Process(target=work, args=(settings, notes, seconds), daemon=True)
    process.start()
    return process
