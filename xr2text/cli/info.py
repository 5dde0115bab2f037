"""Prints the number of parameters of each part of a model, given by a checkpoint or, without weights, by a config."""

import argparse
from pathlib import Path

HELP = "print a model's parameters, part by part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="CONFIG_OR_CHECKPOINT", type=Path, help="a YAML config or a checkpoint folder"
    )


def run(args: argparse.Namespace) -> int:
    from xr2text.model.summary import describe

    print(describe(args.source))
    return 0
