"""Compares the region maps of lungs and heart with outlines of them, also on shifted and scaled images."""

import argparse
import sys
from pathlib import Path

from xr2text.cli.options import add_checkpoint

HELP = "compare the region maps with outlines of lungs and heart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("masks", type=Path, metavar="DIR", help="images/ and masks/right_lung, left_lung, heart/")
    add_checkpoint(parser)
    parser.add_argument("--held-out", action="store_true", help="only those that the training did not see")


def run(args: argparse.Namespace) -> int:
    from xr2text.evaluation.localization import localize, table
    from xr2text.model.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_pretrained(args.checkpoint)
    if args.held_out and checkpoint.held_out is None:
        print("the checkpoint does not say which were held out: every fifth is taken", file=sys.stderr)
    print(table(localize(checkpoint.model, args.masks, args.held_out, checkpoint.held_out, progress=True)))
    return 0
