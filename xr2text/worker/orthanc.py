"""A client for the part of Orthanc's REST API that the worker uses, by httpx.

https://orthanc.uclouvain.be/api/. A study's record is kept in metadata, which Orthanc changes only for who knows its
last state (`CheckRevisions` in its configuration).
"""

from datetime import datetime
from typing import Any

import httpx

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import MAX_BYTES, ImageError

PAGE = 1000  # changes in one request
_TIME = "%Y%m%dT%H%M%S"


class OrthancError(XR2TextError):
    """Orthanc is not set up as the worker needs it, or refuses a request."""


class UnavailableError(OrthancError):
    """Orthanc cannot be reached, or cannot do something now; it may be tried again later."""


class Orthanc:
    """A client of Orthanc's REST API: what the worker needs of it.

    Args:
        url: with its port.
        auth: user and password.
        metadata: number of the metadata that holds the record.
        transport: takes the network's place in tests.

    Raises, in all methods:
        UnavailableError, OrthancError.
    """

    def __init__(
        self,
        url: str,
        auth: tuple[str, str] | None = None,
        metadata: int = 4242,
        transport: httpx.BaseTransport | None = None,
    ):
        # Orthanc closes a connection that was idle for a second.
        limits = httpx.Limits(keepalive_expiry=0.5)
        try:
            self._http = httpx.Client(base_url=url, auth=auth, timeout=120, limits=limits, transport=transport)
        except httpx.InvalidURL as error:
            raise OrthancError(f"Orthanc's address is none: {error}.") from None
        self._metadata = metadata

    def check(self, send_to: str | None = None) -> None:
        """Raises OrthancError where this Orthanc does not check revisions, or does not know `send_to`."""
        system = _json(self._ask("GET", "/system"))
        if not system.get("CheckRevisions"):
            raise OrthancError('Orthanc must check revisions: set "CheckRevisions": true in its configuration.')
        if send_to is not None:
            self._destination(send_to)

    def last_change(self) -> int:
        """The number of the newest change."""
        return _json(self._ask("GET", "/changes?last"))["Last"]

    def stable_studies(self, since: int) -> tuple[list[str], int]:
        """The studies that became stable after the change number `since`, and the number of the newest change."""
        found: dict[str, None] = {}
        done = False
        while not done:
            page = _json(self._ask("GET", f"/changes?since={since}&limit={PAGE}"))
            found.update((change["ID"], None) for change in page["Changes"] if change["ChangeType"] == "StableStudy")
            since, done = page["Last"], page["Done"]
        return list(found), since

    def studies(self) -> list[str]:
        """The ids of all studies."""
        return _json(self._ask("GET", "/studies"))

    def study(self, study: str) -> dict[str, Any] | None:
        """Orthanc's description of a study; None where it was deleted."""
        answer = self._ask("GET", f"/studies/{study}", also=(404,))
        return None if answer.status_code == 404 else _json(answer)

    def series(self, study: str) -> list[dict[str, Any]]:
        """The study's series with their main tags and the ids of their instances; empty where it was deleted."""
        answer = self._ask("GET", f"/studies/{study}/series", also=(404,))
        return [] if answer.status_code == 404 else _json(answer)

    def file(self, instance: str) -> bytes:
        """The DICOM file of an instance. Raises ImageError where it is larger than MAX_BYTES or was deleted."""
        facts = self._ask("GET", f"/instances/{instance}", also=(404,))
        if facts.status_code == 404:
            raise ImageError("The image has been deleted from Orthanc.")
        if int(_json(facts)["FileSize"]) > MAX_BYTES:
            raise ImageError(f"The file is larger than {MAX_BYTES // 2**20} MiB, the largest that is accepted.")
        return self._ask("GET", f"/instances/{instance}/file").content

    def record(self, study: str) -> tuple[str | None, str | None]:
        """The study's record, and its revision tag for `write_record`; None and None where it has none."""
        answer = self._ask("GET", f"/studies/{study}/metadata/{self._metadata}", also=(404,))
        return (None, None) if answer.status_code == 404 else (answer.text, answer.headers["ETag"])

    def write_record(self, study: str, record: str, tag: str | None) -> str | None:
        """Writes the record if its revision is still `tag`.

        Returns:
            the tag of the new state; None where another has written since, or the study has gone.
        """
        headers = {"Content-Type": "text/plain"} | ({} if tag is None else {"If-Match": tag})
        path = f"/studies/{study}/metadata/{self._metadata}"
        answer = self._ask("PUT", path, also=(404, 409), content=record.encode(), headers=headers)
        if not answer.is_success:
            return None
        # The tag of this response is wrong where the database has no revisions.
        written, tag = self.record(study)
        return tag if written == record else None

    def store(self, content: bytes) -> tuple[str, str]:
        """Stores a DICOM file; an object that is there already stays. Returns the ids of instance and study."""
        answer = _json(self._ask("POST", "/instances", content=content))
        return answer["ID"], answer["ParentStudy"]

    def delete(self, instance: str) -> None:
        self._ask("DELETE", f"/instances/{instance}", also=(404,))

    def send(self, instances: list[str], name: str) -> None:
        """Makes Orthanc send instances to a modality or DICOMweb server, and waits until they are sent."""
        self._ask("POST", self._destination(name), json={"Resources": instances, "Synchronous": True})

    def seconds_since(self, then: str) -> float:
        """Seconds since `then` by Orthanc's clock, which has whole seconds."""
        now = self._ask("GET", "/tools/now").text
        return (datetime.strptime(now, _TIME) - datetime.strptime(then, _TIME)).total_seconds()

    def _destination(self, name: str) -> str:
        known = []
        for listed, path in (
            ("/modalities", "/modalities/{}/store"),
            ("/dicom-web/servers", "/dicom-web/servers/{}/stow"),
        ):
            answer = self._ask("GET", listed, also=(404,))  # without its plugin there is no /dicom-web
            names = _json(answer) if answer.is_success else []
            if name in names:
                return path.format(name)
            known += names
        raise OrthancError(
            f"Orthanc knows no modality or DICOMweb server {name!r}; it knows {', '.join(known) or 'none'}."
        )

    def _ask(self, method: str, path: str, also: tuple[int, ...] = (), **arguments: Any) -> httpx.Response:
        """Makes a request. Returns the response if it is a success or has one of the codes in `also`."""
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise UnavailableError(f"Orthanc does not answer ({type(error).__name__}).") from None
        code = answer.status_code
        if answer.is_success or code in also:
            return answer
        if code >= 500:
            raise UnavailableError(f"Orthanc cannot do what it is asked now (HTTP {code}).")
        reason = "the user or the password" if code in (401, 403) else f"what it is asked (HTTP {code})"
        raise OrthancError(f"Orthanc refuses {reason}.")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise UnavailableError(
            f"At {answer.url.copy_with(userinfo=b'')} something answers that is not Orthanc."
        ) from None
