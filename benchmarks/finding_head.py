"""What each classifier of the finding head is worth: AUC of findings by cross-validation, on patients left out.

    python -m benchmarks.finding_head configs/iu_xray.yaml --out benchmarks/finding_head.md

Reads the trainings of the folds that `scripts.recipe` has left in `--runs`. Only studies with a lateral view count, so
that all columns are of the same studies; the AUC is the mean over the folds.

Shapes: A classifiers, N studies, F findings.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.metrics import roc_auc_score

from benchmarks.common import machine, publish
from scripts.recipe import fold_runs, load_fold
from xr2text.config import load_config
from xr2text.model.lateral import LateralImages
from xr2text.training.data import progress_bar

COLUMNS = {"whole image": (0,), "tokens": (1,), "lateral view": (2,), "without the lateral view": (0, 1),
           "all three": (0, 1, 2)}  # fmt: skip
LEAST_CASES = 15  # of a finding, in each fold


@torch.inference_mode()
def fold_answers(config_file: str, overrides: list[str], folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [A, N, F] of the studies with a lateral view that this fold's training has left out, and labels [N, F]."""
    accelerator, answers, labels = Accelerator(), [], []
    model, loader = load_fold(config_file, overrides, folder, accelerator)
    for batch in progress_bar(loader, folder.parts[-3], accelerator):
        lateral = LateralImages.of(batch)
        if lateral is None:
            continue
        visual = model.encode_image(batch["pixel_values"], batch["box"], lateral)
        found, given = model.finding_head.answers(visual)
        answers.append(found[:, given[-1]].cpu())
        labels.append(batch["finding_labels"][given[-1]].cpu())
    return torch.cat(answers, 1), torch.cat(labels)


def areas(answers: torch.Tensor, labels: torch.Tensor, finding: int) -> list[float] | None:
    """AUC of each of COLUMNS; None where there are too few cases."""
    known = ~labels[:, finding].isnan()
    truth = labels[known, finding].numpy()
    if min((truth == 1).sum(), (truth == 0).sum()) < LEAST_CASES:
        return None
    logits = answers[:, known, finding]
    return [roc_auc_score(truth, logits[list(parts)].mean(0).numpy()) for parts in COLUMNS.values()]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the YAML file that the folds were trained by")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    config = load_config(args.config)
    if not (config.training.losses.findings and config.model.haqt.lateral_queries):
        parser.error(f"{args.config}: the training must teach a finding head, and the model read lateral views")
    folds = [
        fold_answers(args.config, overrides, run / Path(args.config).stem / "checkpoint")
        for run, overrides in fold_runs(args.runs, args.folds, []).items()
    ]
    studies = sum(len(labels) for _, labels in folds)
    lines = [f"{studies} studies with a lateral view, {args.folds} folds. {machine()}.\n",
             f"| finding | cases | {' | '.join(COLUMNS)} |", "|---|---:|" + "---:|" * len(COLUMNS)]  # fmt: skip
    rows = []
    for place, name in enumerate(config.model.findings):
        found = [areas(*fold, place) for fold in folds]
        if None not in found:
            rows.append(np.mean(found, 0))
            cases = sum(int((labels[:, place] == 1).sum()) for _, labels in folds)
            lines.append(f"| {name} | {cases} | {' | '.join(f'{area:.3f}' for area in rows[-1])} |")
    if not rows:
        raise SystemExit(f"no finding has {LEAST_CASES} cases in each fold")
    lines.append(f"| mean | | {' | '.join(f'{area:.3f}' for area in np.mean(rows, 0))} |")
    publish("What each classifier of the finding head is worth", "\n".join(lines), args.out)


if __name__ == "__main__":
    main()
