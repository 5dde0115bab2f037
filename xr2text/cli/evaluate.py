"""Scores the reports of a data set's split beside baselines; alone, or as a process of `accelerate launch`."""

import argparse
from pathlib import Path

from xr2text.cli.options import LAYOUTS, add_checkpoint, positive, written_to

HELP = "score the reports of a data set's split beside baselines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--source", required=True, choices=LAYOUTS, help="layout of the data set")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the data set's folder; hub: or its id")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--split-file", type=Path, metavar="FILE", help="indiana, openi: an R2Gen annotation.json")
    parser.add_argument("--train-root", type=Path, metavar="DIR", help="where train and val lie, if not in --root")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="table, metrics, predictions, pictures")
    parser.add_argument("--predictions", type=Path, metavar="CSV", help="score these (columns id, findings) instead")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N")
    parser.add_argument("--no-meteor", action="store_true", help="skip METEOR, whose Java program takes minutes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from xr2text.config import DataConfig
    from xr2text.evaluation.evaluate import EvaluationSettings, evaluate
    from xr2text.evaluation.processes import Processes
    from xr2text.model.xr2text import XR2Text
    from xr2text.text.findings.table import FINDING_NAMES

    paths = {"root": args.root, "split_file": args.split_file}
    settings = EvaluationSettings(
        split=args.split, batch_size=args.batch_size, meteor=not args.no_meteor, predictions=args.predictions,
        train_root=args.train_root,
    )  # fmt: skip
    with written_to(args.out), Processes.from_environment() as processes:
        model = XR2Text.from_pretrained(args.checkpoint)
        read = set(model.config.findings) <= set(FINDING_NAMES)  # else the head has the source's own names
        labels = "reports" if read else "indexed"
        data = DataConfig(args.source, labels=labels, **{name: path and str(path) for name, path in paths.items()})
        evaluate(model, data, settings, args.out, processes)
        if processes.is_main:
            print((args.out / "table.md").read_text(encoding="utf-8"))
            print(f"written to {args.out}")
    return 0
