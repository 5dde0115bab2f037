"""Orthanc archives for tests: processes with folders and ports of their own, set up as configs/worker/orthanc.json."""

import json
import shutil
import socket
import subprocess
import time
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
SHIPPED = Path(__file__).parents[1] / "configs" / "worker" / "orthanc.json"

needs_orthanc = pytest.mark.skipif(
    not (ORTHANC and shutil.which("storescu") and shutil.which("dciodvfy")),
    reason="Orthanc, storescu or dciodvfy (Debian's orthanc, dcmtk, dicom3tools) is not installed",
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class OrthancServer:
    """An archive; `pacs` is another that it knows as the modality PACS."""

    def __init__(self, folder: Path, pacs: "OrthancServer | None" = None, **settings):
        self.port, self.dicom_port = free_ports(2)
        self.url, self.process, self.folder = f"http://127.0.0.1:{self.port}", None, folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": self.port,
            "DicomPort": self.dicom_port, "AuthenticationEnabled": False, "StableAge": 1, "Plugins": [],
            "DicomModalities": {"PACS": ["XR2TEXT", "127.0.0.1", pacs.dicom_port]} if pacs else {},
        } | settings  # fmt: skip
        self.config = folder / "orthanc.json"
        self.config.write_text(json.dumps(json.loads(SHIPPED.read_text()) | settings))

    def start(self) -> "OrthancServer":
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen([ORTHANC, str(self.config)], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/system")
                return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait()
            self.process = None

    def receive(self, *files: Path, wait: bool = True) -> subprocess.Popen:
        """Files sent by storescu in one association."""
        process = subprocess.Popen(["storescu", "127.0.0.1", str(self.dicom_port), *map(str, files)])
        if wait:
            assert process.wait() == 0
        return process

    def get(self, path: str):
        return httpx.get(self.url + path).raise_for_status().json()

    def records(self, metadata: int = 4242) -> dict[str, dict]:
        """The worker's record of each study that has one."""
        found = {}
        for study in self.get("/studies"):
            answer = httpx.get(f"{self.url}/studies/{study}/metadata/{metadata}")
            if answer.is_success:
                found[study] = answer.json()
        return found

    def wait_until_answered(self, studies: int, seconds: float = 300, states=("done", "refused", "failed")) -> dict:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            records = self.records()
            if len(records) >= studies and all(record["state"] in states for record in records.values()):
                return records
            time.sleep(0.3)
        raise AssertionError([record["state"] for record in records.values()])

    def objects(self, study: str, modality: str) -> list[Dataset]:
        """The study's objects of a modality."""
        found = []
        for series in self.get(f"/studies/{study}/series"):
            if series["MainDicomTags"]["Modality"] == modality:
                for instance in series["Instances"]:
                    found.append(dcmread(BytesIO(httpx.get(f"{self.url}/instances/{instance}/file").content)))
        return found
