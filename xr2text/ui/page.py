"""The page: the reading room, a batch, two studies side by side. Layout and events only.

Parts stand in the modules beside: `handlers` answers, `viewer` shows a study, `worklist` a batch, `session` keeps,
`uploads` takes files in. All events wait in one queue: no report of a former file lands beside a later one, and one
report at a time has the processor.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from inspect import isgenerator
from pathlib import Path
from typing import Any

import gradio as gr

from xr2text.export.text import NOTICE
from xr2text.inference.reporter import Reporter
from xr2text.ui import handlers
from xr2text.ui.corrections import corrections_folder, notice
from xr2text.ui.endpoints import add_endpoints
from xr2text.ui.examples import Examples
from xr2text.ui.handlers import MAX_BATCH
from xr2text.ui.session import Session, open_radiograph
from xr2text.ui.uploads import UNREADABLE, refuse_other_files, sent_paths
from xr2text.ui.viewer.viewer import viewer

SESSION_LIFE = 3600  # seconds that a session which nobody uses stays in memory
WAITING = 32  # longest queue; further requests are refused
IN_TURN = {"concurrency_id": "radiograph", "concurrency_limit": 1}
EDITED = ("label", "findings", "impression", "former_findings", "former_impression")
QUIET = {"show_progress": "hidden", "api_visibility": "private", **IN_TURN}
ANSWERED = "() => {{ document.dispatchEvent(new CustomEvent('xr2text:answered', {{ detail: {} }})); }}"


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


CSS, SAVE = _part("page.css"), _part("save.js")
THEME = gr.themes.Default(
    primary_hue="sky",
    neutral_hue="slate",
    radius_size="sm",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
)


def build_page(reporter: Reporter, examples: Examples) -> gr.Blocks:
    """Lays out the page and connects its events to the reporter."""
    folder = corrections_folder()
    with gr.Blocks(title="XR2Text", analytics_enabled=False, fill_width=True) as page:
        bar = _bar(reporter)
        room = viewer(
            "reader", "Drop a frontal chest radiograph here.", examples=[], keeping=notice(folder),
            lateral=reporter.takes_lateral,
        )  # fmt: skip
        template = _part("worklist.html").replace("{most}", str(MAX_BATCH))
        worklist = gr.HTML(
            html_template=template, js_on_load=_part("worklist.js"), elem_id="worklist", apply_default_css=False
        )
        with gr.Row(elem_id="compare", equal_height=False):
            sides = [
                viewer(f"compare-{side}", "Choose a study that you have read.", f"Study on the {side}")
                for side in ("left", "right")
            ]
        parts = {
            "session": gr.State(Session(), time_to_live=SESSION_LIFE, delete_callback=_forgetting(page)),
            "reader": room, "worklist": worklist,
            "carrier": gr.JSON(visible=False),  # carries a file that the browser saves
        }  # fmt: skip
        _tie_room(parts, reporter, examples, folder)
        _tie_batch(parts, reporter)
        _tie(parts, bar, "reopened", handlers.reopen, label=str)
        for side in sides:
            side.chosen(_using(handlers.compare, label=str), parts["session"], [side, parts["session"]], **QUIET)
        page.load(
            lambda: gr.HTML(examples=handlers.example_cards(examples.offered)), None, room, queue=False,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        add_endpoints(reporter, IN_TURN)
    refuse_other_files(page)
    return page.queue(max_size=WAITING, api_open=False)  # without api_open, all requests go through the queue


def _forgetting(page: gr.Blocks) -> Callable[[Session], None]:
    """A function that, when a session ends, also removes what gradio keeps of it: the last value of each component."""

    def forget(session: Session) -> None:
        page.state_holder.session_data.pop(session.key, None)
        page.state_holder.time_last_used.pop(session.key, None)

    return forget  # a plain function: gradio makes deep copies of the callback, which are cheap then


def _bar(reporter: Reporter) -> gr.HTML:
    template = _part("bar.html").replace("{notice}", NOTICE).replace("{model}", escape(reporter.model_name))
    return gr.HTML(html_template=template, js_on_load=_part("bar.js"), elem_id="bar", apply_default_css=False)


def _fields(handler: Callable[..., Any], **fields: type) -> Callable[[Session, gr.EventData, gr.Request], Any]:
    """Wraps a handler as gradio calls it: it gets the session, then the event's `fields`, each checked for its type."""

    def answer(session: Session, event: gr.EventData, request: gr.Request) -> Any:
        try:
            values = [getattr(event, name, None) for name in fields]
        except TypeError:  # an event without data
            values = [None for _ in fields]
        if not all(isinstance(value, kind) for value, kind in zip(values, fields.values(), strict=True)):
            raise gr.Error(UNREADABLE, print_exception=False)
        return handler(replace(session, key=request.session_hash), *values)

    return answer


def _answering(parts: dict[str, Any], handler: Callable[..., Any], **fields: type) -> tuple:
    """Function, inputs and outputs of an event. Parts of the page that an answer does not name stay as they are."""
    shown = [parts[name] for name in ("session", "reader", "worklist")]
    call = _fields(handler, **fields)

    def answer(session: Session, event: gr.EventData, request: gr.Request) -> Iterator[dict]:
        answers = call(session, event, request)
        for named in answers if isgenerator(answers) else [answers]:
            session = named.get("session", session)  # always returned, so that gradio counts it as used
            yield {parts[name]: value for name, value in {**named, "session": session}.items()}

    return answer, parts["session"], shown


def _using(handler: Callable[..., Any], **fields: type) -> Callable[[Session, gr.EventData, gr.Request], tuple]:
    """The same as `_fields`, but also returns the unchanged session, so that gradio counts it as used."""
    call = _fields(handler, **fields)

    def answer(session: Session, event: gr.EventData, request: gr.Request) -> tuple:
        return call(session, event, request), session

    return answer


def _saves(parts: dict[str, Any], event: Callable[..., Any], handler: Callable[..., Any], **fields: type) -> None:
    """Connects an event that makes a file, which the browser then saves."""
    outputs = [parts["carrier"], parts["session"]]
    made = event(_using(handler, **fields), parts["session"], outputs, trigger_mode="multiple", **QUIET)
    sent = made.success(None, parts["carrier"], None, js=SAVE, api_visibility="private")
    sent.then(lambda: None, None, parts["carrier"], queue=False, show_progress="hidden", api_visibility="private")


def _tie(parts: dict[str, Any], part: gr.HTML, name: str, handler: Callable[..., Any], **fields: type) -> None:
    """Connects an event of the page. The browser is told whether it arrived."""
    tied = getattr(part, name)(*_answering(parts, handler, **fields), trigger_mode="multiple", **QUIET)
    for end, arrived in ((tied.success, "true"), (tied.failure, "false")):
        script = ANSWERED.format(f"{{ name: '{name}', arrived: {arrived} }}")
        end(None, None, None, js=script, api_visibility="private")


def _tie_room(parts: dict[str, Any], reporter: Reporter, examples: Examples, folder: Path | None) -> None:
    """Connects the events of the reading room."""
    room = parts["reader"]

    def sent(session: Session, paths: list, where: str, write: bool) -> Iterator[handlers.Answer]:
        return handlers.open_files(reporter, session, sent_paths(paths), where, write)

    def example(session: Session, number: int, write: bool) -> Iterator[handlers.Answer]:
        offered = list(examples.offered.values())
        chosen = offered[min(max(number, 0), len(offered) - 1)]
        return handlers.open_study(reporter, session, open_radiograph(chosen.content, chosen.about), write)

    def write(session: Session, force: bool) -> handlers.Answer:
        return handlers.write_open(reporter, session, force)

    def set_finding(session: Session, label: str, finding: str, state: str) -> handlers.Answer:
        return handlers.set_finding(reporter, session, label, finding, state)

    def keep(session: Session, label: str) -> handlers.Answer:
        return handlers.keep(folder, session, label)

    events = {
        "sent": (sent, {"paths": list, "where": str, "write": bool}),
        "example": (example, {"number": int, "write": bool}),
        "write": (write, {"force": bool}),
        "edit": (handlers.edit, dict.fromkeys(EDITED, str)),
        "set": (set_finding, {"label": str, "finding": str, "state": str}),
        "undo": (handlers.undo, {"label": str}),
        "close": (handlers.close, {}),
        "keep": (keep, {"label": str}),
    }
    for name, (handler, fields) in events.items():
        _tie(parts, room, name, handler, **fields)
    _saves(parts, room.save, handlers.save, label=str, name=str)


def _tie_batch(parts: dict[str, Any], reporter: Reporter) -> None:
    """Connects the events of the worklist."""

    def many(session: Session, paths: list) -> Iterator[handlers.Answer]:
        return handlers.read_batch(reporter, session, sent_paths(paths))

    _tie(parts, parts["worklist"], "many", many, paths=list)
    _tie(parts, parts["worklist"], "row", handlers.open_row, label=str)
    _saves(parts, parts["worklist"].save, handlers.save_batch, name=str)
