"""The worklist of a batch: groups files into studies, and shows a row for each."""

from collections.abc import Iterable, Sequence
from typing import Any

from xr2text.imaging.radiograph import ImageError
from xr2text.inference.reporter import Reporter
from xr2text.ui.session import Opened, Row, open_radiograph, pair
from xr2text.ui.uploads import read_once
from xr2text.ui.viewer.viewer import picture

SHOWN = 3  # findings shown in each row


def batch_rows(reporter: Reporter, paths: Iterable[str]) -> list[Row]:
    """A row for each study. DICOM files of the two views of one study share a row."""
    rows: list[Row] = []
    for path in paths:
        name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
        try:
            opened = open_radiograph(read_once(path))
        except ImageError as error:
            rows.append(Row(name, refusal=str(error)))
            continue
        for place, row in enumerate(rows):
            if row.opened and _same_study(row.opened, opened) and (both := pair(reporter, row.opened, opened)):
                rows[place] = Row(f"{row.name} + {name}", both)
                break
        else:
            rows.append(Row(name, opened))
    return rows


def _same_study(first: Opened, second: Opened) -> bool:
    """Whether the headers of two files name the same study, and the first has no lateral view yet."""
    headers = first.source.header, second.source.header
    return None not in headers and not first.lateral and headers[0].StudyInstanceUID == headers[1].StudyInstanceUID


def worklist_view(rows: Sequence[Row], message: dict[str, Any] | None = None) -> dict[str, Any]:
    """The worklist as plain data."""
    return {"status": message, "rows": [_row_view(number, row) for number, row in enumerate(rows)]}


def _row_view(number: int, row: Row) -> dict[str, Any]:
    report = row.opened.bare if row.opened else None
    readings = report.finding_readings if report else ()
    seen = [reading for reading in readings if reading.seen and (reading.assessed or reading.set_to)]
    seen.sort(key=lambda reading: -reading.probability)
    return {
        "number": number,
        "name": row.name,
        "label": row.opened.label if row.opened else "",
        "image": picture(row.opened.thumbnail) if row.opened else "",
        "state": "refused" if row.refusal else "report" if report else "waiting",
        "text": row.refusal or (report.impression if report else "Waiting …"),
        "seen": [f"{reading.name} {reading.probability:.0%}" for reading in seen[:SHOWN]],
        "more": max(0, len(seen) - SHOWN),
        "warnings": len(report.doubts) if report else 0,
        "edited": row.is_edited,
        "need": _need(row),
    }


def _need(row: Row) -> float:
    """How urgently a study should be looked at: refused ones first, then by warnings and by how far findings exceed
    their thresholds."""
    if row.refusal:
        return 1000.0
    if row.opened is None or row.opened.bare is None:
        return -1.0
    report = row.opened.bare
    above = [reading.probability - reading.threshold for reading in report.finding_readings if reading.seen]
    return len(report.doubts) + sum(above) + 0.5 * len(above)
