"""The page's pieces that are only shown: messages, bars, doubts. HTML, so that they follow the light or dark theme."""

from html import escape

from xr2text.anatomy import REGIONS
from xr2text.inference.confidence import FindingReading
from xr2text.inference.reporter import Report

SHOWN_FINDINGS, SHOWN_DOUBTS = 10, 4


def message(text: str, kind: str = "", details: tuple[str, ...] = ()) -> str:
    """A line in the page that stays, unlike a toast; `kind` is "", "good" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    lines = "".join(f"<p>{escape(detail)}</p>" for detail in details)
    return f'<div class="message {kind}" role="{role}">{escape(text)}{lines}</div>'


def weights_chart(weights: dict[str, float]) -> str:
    """Horizontal bars in the regions' colours."""
    longest = max(weights.values())
    equal = 100 / len(weights) / longest
    rows = []
    for region in REGIONS:
        weight = weights[region.name]
        bar = f'<div class="bar" style="width: {100 * weight / longest:.1f}%; background: {region.colour}"></div>'
        mark = f'<div class="mark dashed" style="left: {equal:.1f}%"></div>'
        rows.append(f'<span>{region.name}</span><div class="track">{bar}{mark}</div><span>{weight:.1%}</span>')
    note = "How much the report drew on each region; the dashed line is an equal share."
    return _bars("Region weights", rows, note)


def findings_chart(readings: tuple[FindingReading, ...]) -> str:
    """The finding head's probabilities with their thresholds, those that are seen first."""
    if not readings:
        return ""
    ordered = sorted(readings, key=lambda one: (not one.seen, -one.probability))
    rows = [_finding_row(one) for one in ordered]
    note = "Calibrated probability of each finding; the line is where it counts as present."
    more = ""
    if rest := rows[SHOWN_FINDINGS:]:
        more = f"<details><summary>{len(rest)} more</summary>{_bars('', rest, '')}</details>"
    return _bars("Finding probabilities", rows[:SHOWN_FINDINGS], note) + more


def _finding_row(one: FindingReading) -> str:
    bar = f'<div class="bar{" seen" if one.seen else ""}" style="width: {100 * one.probability:.1f}%"></div>'
    mark = f'<div class="mark" style="left: {100 * one.threshold:.1f}%"></div>'
    name = f"<b>{escape(one.name)}</b>" if one.seen else escape(one.name)
    return f'<span>{name}</span><div class="track">{bar}{mark}</div><span>{one.probability:.0%}</span>'


def _bars(title: str, rows: list[str], note: str) -> str:
    heading = f"<h2>{title}</h2>" if title else ""
    return f'<div class="bars">{heading}{"".join(rows)}<div class="note">{note}</div></div>'


def doubts_list(report: Report) -> str:
    """What a reader of the report should doubt."""
    if not report.doubts:
        return '<div class="doubts"><h2>To be doubted</h2><p>Report and finding head agree.</p></div>'
    items = [f"<li>{escape(one)}</li>" for one in report.doubts]
    more = ""
    if rest := items[SHOWN_DOUBTS:]:
        more = f"<details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details>"
    return f'<div class="doubts"><h2>To be doubted</h2><ul>{"".join(items[:SHOWN_DOUBTS])}</ul>{more}</div>'
