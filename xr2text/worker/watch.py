"""Monitoring of the worker: a status summary, Prometheus metrics and a health check."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from xr2text.errors import XR2TextError
from xr2text.worker.orthanc import Orthanc
from xr2text.worker.work import Record, Worker

SILENCE = 300  # seconds without a response of Orthanc after which /health fails
STATES = {
    "waiting": "waiting", "claimed": "being read", "written": "waiting to be sent", "done": "done",
    "refused": "refused", "failed": "failed",
}  # fmt: skip


def status(orthanc: Orthanc) -> str:
    """A summary of all studies in Orthanc: how many are in which state, and why some have no report."""
    states, reasons = Counter(), {state: Counter() for state in STATES}
    for study in orthanc.studies():
        record = Record.of(orthanc.record(study)[0])
        states[record.state] += 1
        reasons[record.state].update(record.reasons)
    lines = []
    for state, words in STATES.items():
        lines.append(f"{words}: {states[state]}")
        if state != "done":
            lines += [f"  {count} × {reason}" for reason, count in reasons[state].most_common()]
    return "\n".join(lines)


class Metrics:
    """Counts and latencies, filled by `Worker`'s `observe`, and their server. Raises XR2TextError."""

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError:
            raise XR2TextError("a port needs prometheus-client: pip install 'xr2text[worker]'") from None

        self.registry = CollectorRegistry()
        buckets = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 3600, 86400)
        self.studies = Counter("xr2text_studies", "Studies answered", ["state"], registry=self.registry)
        self.seconds = Histogram(
            "xr2text_study_seconds", "From claim to answer", registry=self.registry, buckets=buckets
        )
        self.latency = Histogram(
            "xr2text_latency_seconds", "From the last image's arrival to the answer", registry=self.registry,
            buckets=buckets,
        )  # fmt: skip

    def observe(self, state: str, seconds: float, latency: float) -> None:
        self.studies.labels(state).inc()
        self.seconds.observe(seconds)
        self.latency.observe(latency)

    def serve(self, port: int, worker: Worker) -> None:
        """Serves /metrics and /health on `port`, in a thread that ends with the process."""
        from prometheus_client import make_wsgi_app

        metrics = make_wsgi_app(self.registry)

        def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] != "/health":
                return metrics(environ, start)
            silent = time.monotonic() - worker.heard
            status = HTTPStatus.OK if silent < SILENCE else HTTPStatus.SERVICE_UNAVAILABLE
            start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"Orthanc answered {silent:.0f} s ago.\n".encode()]

        class Quiet(WSGIRequestHandler):
            def log_message(self, *args: object) -> None: ...

        try:
            server = make_server("", port, app, handler_class=Quiet)
        except OSError as error:
            raise XR2TextError(f"port {port} cannot be served: {error}") from error
        threading.Thread(target=server.serve_forever, daemon=True).start()
