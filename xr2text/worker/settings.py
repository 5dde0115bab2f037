"""The worker's settings, and its rules for which series it reads."""

from datetime import date, timedelta
from typing import Any, Literal

from pydantic import Field

from xr2text.config import Count, Settings
from xr2text.files import shipped
from xr2text.imaging.dicom import RADIOGRAPHY
from xr2text.imaging.radiograph import ImageError


class Rules(Settings):
    """Which studies and series the worker reads. An empty list accepts any value."""

    modalities: list[str] = sorted(RADIOGRAPHY)  # add OT and SC for secondary captures
    # Body parts as the archive has them, such as CHEST; a known other part is refused in any case.
    body_parts: list[str] = Field([])
    stations: list[str] = Field([])  # station names
    max_age_days: int | None = Field(None, ge=0)  # since the study's date; a study without a date is then not taken

    def check_age(self, study_date: str, today: date) -> None:
        """Raises ImageError where the study's date "YYYYMMDD" is missing or too long ago."""
        if self.max_age_days is None:
            return
        oldest = (today - timedelta(days=self.max_age_days)).strftime("%Y%m%d")
        if not study_date.isdigit() or study_date < oldest:
            raise ImageError(f"The study has no date or is older than {self.max_age_days} days.")

    def taken(self, series: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The series, given with their `MainDicomTags`, that the rules accept.

        Raises:
            ImageError: the rules accept none; the message names the rule.
        """
        for rule, tag in (("modalities", "Modality"), ("body_parts", "BodyPartExamined"), ("stations", "StationName")):
            accepted = {value.upper() for value in getattr(self, rule)}
            if accepted:
                series = [entry for entry in series if entry["MainDicomTags"].get(tag, "").strip().upper() in accepted]
            if not series:
                raise ImageError(f"The study has no series that the worker's rules take ({rule}).")
        return series


class WorkerConfig(Settings):
    orthanc: str = Field("http://127.0.0.1:8042", pattern="^https?://")
    checkpoint: str = str(shipped("xr2text-iu"))  # folder or hub id
    rules: Rules = Rules()
    # What is put back: sr (Structured Report), sc (Secondary Capture: overlays and sentences), pdf (encapsulated).
    documents: list[Literal["sr", "sc", "pdf"]] = Field(["sr", "sc"], min_length=1)
    explain_refusals: bool = False  # store an SR that says why there is no report
    send_to: str | None = None  # a modality or DICOMweb server that Orthanc knows, to which the documents are sent
    metadata: int = Field(4242, ge=1024, le=65535)  # number of the study's metadata that holds the worker's record
    lease_seconds: Count = 120  # seconds after which an unchanged claim is taken as a dead worker's
    poll_seconds: float = Field(1.0, gt=0)  # seconds between two requests for Orthanc's changes
    sweep_minutes: Count = 60  # minutes between two searches of all studies
    port: int | None = Field(None, ge=1, le=65535)  # of /metrics (Prometheus) and /health
