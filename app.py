"""The page: a radiograph in, its report out, beside the image of what the report was written from.

    python app.py [--mcp]

Environment: XR2TEXT_CHECKPOINT names the checkpoint, a folder or a model on the Hugging Face hub; XR2TEXT_USER and
XR2TEXT_PASSWORD ask for a login; XR2TEXT_CORRECTIONS names a folder that corrections are kept in; gradio's own
variables (GRADIO_SERVER_NAME, GRADIO_SERVER_PORT, ...) hold.
"""

import argparse
import importlib.util
import os
import signal
import threading

from xr2text.cli.options import lasting_imports, leave_by
from xr2text.errors import XR2TextError
from xr2text.files import shipped

with lasting_imports():
    from xr2text.inference.reporter import Reporter
    from xr2text.phantom.drawing import draw_phantom
    from xr2text.ui.endpoints import MAX_FILE_SIZE
    from xr2text.ui.examples import Examples
    from xr2text.ui.page import CSS, THEME, build_page
    from xr2text.ui.uploads import upload_folder

SESSIONS = 24  # whose radiographs are kept at a time


def load_reporter() -> Reporter:
    """The checkpoint of XR2TEXT_CHECKPOINT, or the one that ships; ends the process in words where there is none."""
    try:
        reporter = Reporter.from_pretrained(os.environ.get("XR2TEXT_CHECKPOINT") or shipped("xr2text-iu"))
    except XR2TextError as error:
        hint = "XR2TEXT_CHECKPOINT names a checkpoint folder or a model on the Hugging Face hub."
        raise SystemExit(f"The model could not be loaded: {error}\n{hint}") from None
    if importlib.util.find_spec("spaces"):  # on a ZeroGPU Space each report asks for the GPU
        import spaces

        reporter.report, reporter.rewrite = spaces.GPU(reporter.report), spaces.GPU(reporter.rewrite)
    return reporter


def login() -> tuple[str, str] | None:
    """The user and password that the environment asks for; ends the process in words where one of them is missing."""
    user, password = os.environ.get("XR2TEXT_USER"), os.environ.get("XR2TEXT_PASSWORD")
    if bool(user) != bool(password):
        raise SystemExit("Set both XR2TEXT_USER and XR2TEXT_PASSWORD, or neither.")
    return (user, password) if user and password else None


def main() -> None:
    parser = argparse.ArgumentParser(description="The page of XR2Text.")
    parser.add_argument("--mcp", action="store_true", help="also offer the API's endpoints as MCP tools")
    args = parser.parse_args()
    auth = login()
    if args.mcp and auth:
        raise SystemExit("--mcp knows no login: leave XR2TEXT_USER and XR2TEXT_PASSWORD unset, or leave out --mcp.")
    if args.mcp and importlib.util.find_spec("mcp") is None:
        raise SystemExit("--mcp needs a package: pip install 'gradio[mcp]'")
    examples = Examples()
    reporter = load_reporter()
    # The first report of a process is slower than the rest; it is written while the page is laid out.
    threading.Thread(target=reporter.report, args=[draw_phantom(0).radiograph]).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop ends like Ctrl-C
    with upload_folder():
        build_page(reporter, examples).launch(
            theme=THEME, css=CSS, share=False, ssr_mode=False, max_file_size=MAX_FILE_SIZE, auth=auth,
            state_session_capacity=SESSIONS, mcp_server=args.mcp, run_history=False, footer_links=["api"],
        )  # fmt: skip


if __name__ == "__main__":
    leave_by(main)
