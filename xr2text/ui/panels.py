"""The page's pieces that are only shown: messages, bars, lists. HTML, so that they follow the light or dark theme."""

from collections.abc import Sequence
from html import escape

from xr2text.anatomy import REGIONS
from xr2text.inference.confidence import FindingReading

SHOWN_FINDINGS, SHOWN_WARNINGS = 10, 4
SEEN, NOT_SEEN = "#D55E00", "#8AA4B8"


def message(text: str, tone: str = "", details: tuple[str, ...] = ()) -> str:
    """A line in the page that stays, unlike a toast; `tone` is "", "good" or "bad"."""
    role = "alert" if tone == "bad" else "status"
    lines = "".join(f"<p>{escape(detail)}</p>" for detail in details)
    return f'<div class="message {tone}" role="{role}">{escape(text)}{lines}</div>'


def weights_chart(weights: dict[str, float]) -> str:
    """Horizontal bars in the regions' colours."""
    longest = max(weights.values())
    equal = 100 / len(weights) / longest
    rows = []
    for region in REGIONS:
        weight = weights[region.name]
        rows.append(_bar(region.name, 100 * weight / longest, region.colour, equal, "mark dashed", f"{weight:.1%}"))
    note = "How much the report drew on each region; the dashed line is an equal share."
    return _bars("Region weights", rows, note)


def findings_chart(readings: Sequence[FindingReading]) -> str:
    """The finding head's probabilities with their thresholds, those that are seen first."""
    if not readings:
        return ""
    rows = []
    for reading in sorted(readings, key=lambda reading: (not reading.seen, -reading.probability)):
        name = f"<b>{escape(reading.name)}</b>" if reading.seen else escape(reading.name)
        colour = SEEN if reading.seen else NOT_SEEN
        value = f"{reading.probability:.0%}"
        rows.append(_bar(name, 100 * reading.probability, colour, 100 * reading.threshold, "mark", value))
    note = "Calibrated probability of each finding; the line is where it counts as present."
    rest = rows[SHOWN_FINDINGS:]
    return _bars("Finding probabilities", rows[:SHOWN_FINDINGS], note) + _more(len(rest), _bars("", rest, ""))


def _bar(name: str, width: float, colour: str, at: float, mark: str, value: str) -> str:
    """A row: a bar `width` % wide, and a mark at `at` %."""
    bar = f'<div class="bar" style="width: {width:.1f}%; background: {colour}"></div>'
    line = f'<div class="{mark}" style="left: {at:.1f}%"></div>'
    return f'<span>{name}</span><div class="track">{bar}{line}</div><span>{value}</span>'


def _bars(title: str, rows: list[str], note: str) -> str:
    heading = f"<h2>{title}</h2>" if title else ""
    return f'<div class="bars">{heading}{"".join(rows)}<div class="note">{note}</div></div>'


def _more(count: int, content: str) -> str:
    return f"<details><summary>{count} more</summary>{content}</details>" if count else ""


def warnings_list(warnings: Sequence[str]) -> str:
    """What a reader of the report should know."""
    items = [f"<li>{escape(warning)}</li>" for warning in warnings]
    shown = f"<ul>{''.join(items[:SHOWN_WARNINGS])}</ul>" if items else "<p>Report and finding head agree.</p>"
    rest = items[SHOWN_WARNINGS:]
    more = _more(len(rest), f"<ul>{''.join(rest)}</ul>")
    return f'<div class="warnings"><h2>Warnings</h2>{shown}{more}</div>'


def batch_table(rows: Sequence[tuple[str, str, str]], opens: Sequence[object]) -> str:
    """The radiographs of a batch: file, result and impression of each. Where `opens` is not None, a click opens it."""
    lines = []
    for number, ((file, result, impression), opened) in enumerate(zip(rows, opens, strict=True)):
        name = escape(file)
        if opened is not None:
            name = f'<button type="button" aria-label="Open {name}">{name}</button>'
        cells = f'<th scope="row">{name}</th><td>{escape(result)}</td><td>{escape(impression)}</td>'
        lines.append(f'<tr class="{"opens" if opened is not None else ""}" data-row="{number}">{cells}</tr>')
    if not lines:
        return ""
    head = "".join(f'<th scope="col">{title}</th>' for title in ("File", "Result", "Impression"))
    return (
        f"<table><caption>Radiographs of the batch</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
