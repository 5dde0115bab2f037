"""Works beside an Orthanc archive: reads each study with a chest radiograph that it receives, and puts the draft of a
report back into the same study. Any number of workers may share an archive. docs/worker.md says how to set it up.

Settings come from --config, YAML files, and the options; Orthanc's user and password from the environment's
ORTHANC_USER and ORTHANC_PASSWORD.
"""

import argparse
import logging
import os
import signal
import threading
import warnings

from xr2text.cli.options import lasting_imports

HELP = "read what an Orthanc archive receives, put reports back"
SILENT = ("pydicom", "openjpeg", "highdicom")  # their messages quote patient data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", nargs="+", default=[], metavar="FILE", help="YAML files, each over those before it")
    add("--orthanc", metavar="URL", help="default: http://127.0.0.1:8042")
    add("--checkpoint", help="folder or Hugging Face Hub id; default: the one that ships")
    add("--send-to", metavar="NAME", help="a modality or DICOMweb server of Orthanc's, which gets the documents")
    add("--port", help="for Prometheus at /metrics and a health check at /health")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help='such as "rules.max_age_days=7"')
    add("--status", action="store_true", help="print how many studies wait, are done, refused and failed, and why")


def run(args: argparse.Namespace) -> int:
    """0: stopped by a signal, or the status is printed."""
    from xr2text.config import load_config
    from xr2text.worker.orthanc import Orthanc
    from xr2text.worker.settings import WorkerConfig

    given = {name: getattr(args, name) for name in ("orthanc", "checkpoint", "send_to", "port")}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    config = load_config(args.config, [*options, *args.set], WorkerConfig)
    user = os.environ.get("ORTHANC_USER")
    auth = (user, os.environ.get("ORTHANC_PASSWORD", "")) if user else None
    orthanc = Orthanc(config.orthanc, auth, config.metadata)
    if args.status:
        from xr2text.worker.watch import status

        print(status(orthanc))
        return 0
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("xr2text").setLevel(logging.INFO)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    with lasting_imports():
        from xr2text.inference.reporter import Reporter
        from xr2text.worker.watch import Metrics
        from xr2text.worker.work import Worker

    metrics = Metrics() if config.port else None
    worker = Worker(
        orthanc, Reporter.from_pretrained(config.checkpoint), config, *([metrics.observe] if metrics else [])
    )
    if metrics:
        metrics.serve(config.port, worker)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker.run(stop)
    return 0
