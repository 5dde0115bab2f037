"""Scaling, threshold and measures of a checkpoint's findings by cross-validation over its training studies:

    python -m scripts.cross_validate configs/iu_xray.yaml checkpoints/xr2text-iu

Trains the config once for each fold of the patients, without that fold, and reads the studies of it: so each training
study that has a report is judged by a model that never saw its patient. What comes of all of them is written into the
checkpoint, and the table of its model card is printed. A stopped call goes on where it was.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator

from scripts.ablation import trained
from xr2text.config import load_config
from xr2text.errors import XR2TextError
from xr2text.model.checkpoint import Checkpoint
from xr2text.training.card import findings_table
from xr2text.training.data import load_split_studies, make_loader, prepare_data
from xr2text.training.validate import fit_calibration, predict


def judged_fold(config_file: str, overrides: list[str], run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Finding logits and labels [N, F] of the patients that the training of these overrides, which is started or goes
    on where it is not there, leaves out."""
    config, accelerator = load_config(config_file, overrides), Accelerator()
    checkpoint = Checkpoint.from_pretrained(trained([config_file], overrides, run))
    model = checkpoint.model.to(accelerator.device)
    data = prepare_data(config, load_split_studies(config), checkpoint.tokenizer, model.transform)
    _, logits, labels = predict(model, make_loader(data.val, config, accelerator), accelerator)
    return logits, labels


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="YAML file of the training that taught the finding head")
    parser.add_argument("checkpoint", help="its folder")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/folds"), metavar="DIR")
    args = parser.parse_args(argv)
    if args.folds < 2:
        parser.error("--folds: at least 2, so that there are patients to train on")
    try:
        checkpoint = Checkpoint.from_pretrained(args.checkpoint)
        findings = load_config(args.config, args.set).model.findings
    except XR2TextError as error:
        parser.error(str(error))
    if not findings or findings != checkpoint.model.config.findings:
        parser.error(f"{args.checkpoint} and {args.config} predict other findings, or none")
    parts = []
    for fold in range(args.folds):
        overrides = [*args.set, f"data.tuning_fraction={1 / args.folds}", f"data.tuning_fold={fold}"]
        parts.append(judged_fold(args.config, overrides, args.runs / f"{fold + 1}-of-{args.folds}"))
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    checkpoint.model.calibration = fit_calibration(logits, labels, findings)
    checkpoint.save_pretrained(args.checkpoint, card=checkpoint.card)
    print(findings_table(checkpoint.model.calibration))


if __name__ == "__main__":
    main()
