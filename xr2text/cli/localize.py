"""Prints how well the region maps of lungs and heart lie on outlines of them, also on images that are moved."""

import argparse
from pathlib import Path

from xr2text.cli.options import add_checkpoint, positive

HELP = "compare the region maps with outlines of lungs and heart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("masks", type=Path, metavar="DIR", help="images/ and masks/right_lung, left_lung, heart/")
    add_checkpoint(parser)
    parser.add_argument(
        "--holdout", type=positive, default=0, metavar="N",
        help="only every N-th radiograph: those that a training with data.mask_holdout=N did not see",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from xr2text.evaluation.localization import localize, table
    from xr2text.model.xr2text import XR2Text

    model = XR2Text.from_pretrained(args.checkpoint)
    print(table(localize(model, args.masks, progress=True, holdout=args.holdout)))
    return 0
