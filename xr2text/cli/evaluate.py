"""Scores the reports of a data set's split beside baselines; alone, or as a process of `accelerate launch`."""

import argparse
from pathlib import Path

from xr2text.cli.options import LAYOUTS, add_checkpoint, positive, written_to

HELP = "score the reports of a data set's split beside baselines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", required=True, choices=LAYOUTS, help="layout of the data set")
    add("--root", required=True, metavar="DIR", help="the data set's folder; hub: or its id")
    add("--split", default="test", choices=("train", "val", "test"))
    add("--split-file", metavar="FILE", help="indiana, openi: an R2Gen annotation.json")
    add("--train-root", type=Path, metavar="DIR", help="where train and val lie, if not in --root")
    add("--out", required=True, type=Path, metavar="DIR", help="table, metrics, predictions, pictures")
    add("--predictions", type=Path, metavar="CSV", help="score these (columns id, findings) instead")
    add("--batch-size", type=positive, default=16, metavar="N")
    add("--no-meteor", action="store_true", help="skip METEOR, whose Java program takes minutes")
    add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    from xr2text.config import DataConfig
    from xr2text.evaluation.evaluate import evaluate
    from xr2text.model.checkpoint import Checkpoint

    data = DataConfig(source=args.source, root=args.root, split_file=args.split_file)
    with written_to(args.out):
        metrics = evaluate(
            Checkpoint.from_pretrained(args.checkpoint), data, args.out, args.split, args.batch_size,
            meteor=not args.no_meteor, predictions_file=args.predictions, train_root=args.train_root,
        )  # fmt: skip
    if metrics is not None:  # on the main process
        print((args.out / "table.md").read_text(encoding="utf-8"))
        print(f"written to {args.out}")
    return 0
