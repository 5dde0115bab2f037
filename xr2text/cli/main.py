"""The command line: parses the arguments and runs a command. Errors that a person can mend are printed as sentences."""

import argparse
import sys
from typing import NoReturn

from xr2text.cli import data, deploy, evaluate, findings, info, localize, report, worker
from xr2text.cli.options import leave_by
from xr2text.errors import XR2TextError

COMMANDS = {
    "report": report, "evaluate": evaluate, "localize": localize, "findings": findings, "data": data, "info": info,
    "deploy": deploy, "worker": worker,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 all done, 1 done in part, 2 not done."""
    parser = argparse.ArgumentParser(prog="xr2text", description="Reports of frontal chest radiographs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.__doc__))
    args = parser.parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except XR2TextError as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return 2


def command() -> NoReturn:
    """Runs `main` and ends the process with its exit code."""
    leave_by(main)
