"""The whole recipe of a checkpoint: the trainings of its configs, then cross-validation of its finding head.

    python -m scripts.recipe configs/iu_xray.yaml configs/iu_xray_reports.yaml

Each config goes on from the one before. Then the first, which teaches the finding head, is trained once more for each
fold of the patients, without it, and reads its studies: so each training study that has a report is judged by a model
that never saw its patient. Scaling, threshold and measures of the findings that come of all of them are written into
the checkpoint, and the table of its model card is printed. A stopped call goes on where it was: what RUNS/CONFIG holds
is not trained again, also where train.py has put it there. After a change of the code or the settings, remove it.
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
    config, folder = load_config(config_file, overrides), trained([config_file], overrides, run)
    checkpoint, accelerator = Checkpoint.from_pretrained(folder), Accelerator()
    model = checkpoint.model.to(accelerator.device)
    data = prepare_data(config, load_split_studies(config), checkpoint.tokenizer, model.transform)
    _, logits, labels = predict(model, make_loader(data.val, config, accelerator), accelerator)
    return logits, labels


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="YAML files; the first teaches the finding head")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of all of them")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    args = parser.parse_args(argv)
    if args.folds < 2:
        parser.error("--folds: at least 2, so that there are patients to train on")
    try:
        first, *_ = [load_config(config, args.set) for config in args.configs]
    except XR2TextError as error:
        parser.error(str(error))
    if not first.training.losses.findings:
        parser.error(f"{args.configs[0]} teaches no finding head: training.losses.findings has no weight")
    folder = trained(args.configs, args.set, args.runs)
    parts = []
    for fold in range(args.folds):
        overrides = [*args.set, f"data.tuning_fraction={1 / args.folds}", f"data.tuning_fold={fold}"]
        parts.append(judged_fold(args.configs[0], overrides, args.runs / "folds" / f"{fold + 1}-of-{args.folds}"))
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    checkpoint = Checkpoint.from_pretrained(folder)
    checkpoint.model.calibration = fit_calibration(logits, labels, checkpoint.model.config.findings)
    checkpoint.save_pretrained(folder, card=checkpoint.card)
    print(f"{findings_table(checkpoint.model.calibration)}\n\ncheckpoint: {folder}")


if __name__ == "__main__":
    main()
