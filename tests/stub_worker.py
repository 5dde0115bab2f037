"""A worker without a model, as a process that can be killed: what it reads is noted in a file, what it writes is the
example's report.
"""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from example_report import make_report

from xr2text.worker.orthanc import Orthanc
from xr2text.worker.settings import WorkerConfig
from xr2text.worker.work import Worker

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stub_worker", "xr2text.export.secondary_capture"])


class StubReporter:
    gate, model_name = None, "example 0.1.0"

    def __init__(self, notes: Path, seconds: float = 0.0):
        self.notes, self.seconds, self.example = notes, seconds, make_report()

    def report(self, image, lateral=None):
        time.sleep(self.seconds)
        with self.notes.open("a") as notes:
            notes.write(f"{os.getpid()}\n")
        return replace(self.example, radiograph=image, geometry=self.example.geometry.fit(*image.pixels.shape, 256))


def work(settings: dict, notes: Path, seconds: float) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = WorkerConfig(**settings)
    Worker(Orthanc(config.orthanc, metadata=config.metadata), StubReporter(notes, seconds), config).run(stop)


def start_worker(settings: dict, notes: Path, seconds: float = 0.0) -> multiprocessing.Process:
    process = CONTEXT.Process(target=work, args=(settings, notes, seconds), daemon=True)
    process.start()
    return process
