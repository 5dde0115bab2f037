"""Ablations: trains a config without one of its parts at a time, and scores each training on its validation studies.

    python -m scripts.ablation configs/iu_xray.yaml --out runs/ablation.md --set model.image_size=128 \\
        training.epochs=3 training.losses.ce=0 data.tuning_fraction=0.3333
    python -m scripts.ablation configs/iu_xray.yaml --variants "all parts" --seeds 3 \\
        --score data.source=r2gen data.split_file=null --out benchmarks/iu_seeds.md

Trainings that learn no reports are scored by their finding head, on the studies that they validate on, and by their
maps. A stopped call goes on where it was: what `--runs` holds is not trained or scored again. After a change of the
code or the settings, remove that folder.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

import train
from xr2text.config import Config, load_config
from xr2text.evaluation.evaluate import evaluate
from xr2text.evaluation.localization import localize
from xr2text.model.checkpoint import Checkpoint
from xr2text.training.report import best_epoch

NO_FINDINGS = ("model.findings=[]", "training.losses.findings=0", "training.losses.occlusion=0")
NO_MASKS = ("training.losses.mask_kl=0", "training.losses.soft_iou=0")
NO_REGION_TERMS = tuple(f"training.losses.{term}=0" for term in ("load_balance", "mask_kl", "soft_iou"))
EASY_FIRST = "training.curriculum=[{{name: easy, epochs: 1, max_findings: 1}}, {{name: all, epochs: {rest}}}]"
# What differs from each config; {epochs} stands for its epochs, {rest} for all but one of them, see `changes_of`.
VARIANTS = {
    "all parts": (),
    "without the lateral view": ("model.haqt.lateral_queries=0",),
    "without labelled images": ("data.labelled_images=null",),
    "without spatial priors": ("model.haqt.use_spatial_priors=false",),
    "without their refinement": ("model.haqt.use_prior_refinement=false",),
    "without routing": ("model.haqt.use_adaptive_routing=false", "training.losses.load_balance=0"),
    "without cross-region layers": ("model.haqt.cross_region_layers=0",),
    "linear projection": (
        "model.haqt.projection=linear",
        "training.losses.ce=1",
        "model.haqt.lateral_queries=0",
        *NO_REGION_TERMS,
        *NO_FINDINGS,
    ),
    "without the finding head": NO_FINDINGS,
    "without masks": NO_MASKS,
    "without regions in black": ("training.losses.occlusion=0",),
    "without curriculum": ("training.curriculum=[]", "training.epochs={epochs}"),
    "with an epoch of easy studies first": (EASY_FIRST, "training.epochs={epochs}"),
    "without focal loss": ("training.losses.focal=0",),
    "with focal loss": ("training.losses.focal=0.5",),
    "without load balance": ("training.losses.load_balance=0",),
    "with R-Drop": ("training.losses.rdrop=0.5", "model.dropout=0.1"),
    "reports as they are written": ("training.recombined=0",),
}
Figure = tuple[float, tuple[float, float] | None]  # value, 95 % bootstrap interval


def changes_of(name: str, config: str, overrides: list[str]) -> list[str]:
    """A variant's changes of a config. A single epoch has no other curriculum."""
    epochs, changes = load_config(config, overrides).training.total_epochs, VARIANTS[name]
    if "curriculum" in "".join(changes) and epochs < 2:
        return []
    return [change.format(epochs=epochs, rest=epochs - 1) for change in changes]


def trained(config: str, overrides: list[str], output: Path, launch: Callable[[list[str]], None] | None = None) -> Path:
    """The checkpoint of a training, which is started, or resumed, unless its checkpoint is there. `launch` runs
    train.py with these options; None: in this process."""
    run = output / Path(config).stem
    if not (run / "checkpoint").is_dir():
        resume = ["--resume"] if (run / "states").is_dir() else []
        (launch or train.main)(["--config", config, "--set", *overrides, f"output={run}", *resume])
        if not (run / "checkpoint").is_dir():
            raise SystemExit(f"{run} is not finished, as said above; the same call goes on from there")
    return run / "checkpoint"


def report_figures(config: Config, checkpoint: Path, out: Path) -> dict[str, Figure]:
    """Figures of the reports, and of the finding head, on the validation split."""
    if not (out / "metrics.json").is_file():
        evaluate(Checkpoint.from_pretrained(checkpoint), config.data, out, "val", meteor=False)
    metrics = json.loads((out / "metrics.json").read_text())
    language, clinical, intervals = metrics["language"]["r2gen"], metrics["clinical"], metrics["intervals"]
    return {
        "BLEU-4": (language["bleu_4"], intervals["language"]["r2gen"]["bleu_4"]),
        "ROUGE-L": (language["rouge_l"], intervals["language"]["r2gen"]["rouge_l"]),
        "CIDEr": (language["cider"], None),
        "micro-F1 (14)": (clinical["micro_14"]["f1"], intervals["clinical"]["micro_14"]["f1"]),
        "micro-F1 (5)": (clinical["micro_5"]["f1"], intervals["clinical"]["micro_5"]["f1"]),
        "contradictions": (clinical["contradictions"], None),
        "AUC": (metrics.get("finding_head", {}).get("mean_auc"), None),
    }


def scored(config: Config, checkpoint: Path, out: Path) -> dict[str, Figure]:
    """Figures of a training; undefined ones are left out."""
    if config.training.losses.learn_reports:
        figures = report_figures(config, checkpoint, out)
    else:
        figures = {"AUC": (best_epoch(pd.read_csv(checkpoint.parent / "history.csv")).get("finding_auc"), None)}
    if config.data.segmentation is not None and config.model.haqt.projection == "haqt_arr":
        trained = Checkpoint.from_pretrained(checkpoint)
        maps = localize(trained.model, config.data.segmentation, True, trained.held_out)["as it is"]
        figures["IoU of maps"] = (mean(region.iou for region in maps.values()), None)
    return {name: figure for name, figure in figures.items() if figure[0] is not None}


def differs(config: str, overrides: list[str], name: str) -> bool:
    """Whether a variant changes the training of a config."""
    return load_config(config, [*overrides, *changes_of(name, config, overrides)]) != load_config(config, overrides)


def cell(runs: list[Figure]) -> str:
    """One run with its interval, or the mean and standard deviation of several runs."""
    values, (_, interval) = [value for value, _ in runs], runs[0]
    if len(runs) > 1:
        return f"{mean(values):.3f} ± {stdev(values):.3f}"
    if isinstance(values[0], int):  # a count
        return str(values[0])
    return f"{values[0]:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def table(results: dict[str, list[dict[str, Figure]]]) -> str:
    columns = list(dict.fromkeys(name for runs in results.values() for run in runs for name in run))
    lines = [f"| training | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, runs in results.items():
        cells = [
            cell([run[column] for run in runs]) if all(column in run for run in runs) else "–" for column in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file, see configs/")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="overrides of it, for all variants"
    )
    parser.add_argument("--score", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for the scoring alone")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, metavar="NAME", help="all that differ from the config, if not given"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), metavar="DIR")
    parser.add_argument("--out", type=Path, help="also write the table here, after each training")
    args = parser.parse_args(argv)
    base = load_config(args.config, args.set)
    command = shlex.join(["python", "-m", "scripts.ablation", *(sys.argv[1:] if argv is None else argv)])
    names = args.variants or [
        name for name, changes in VARIANTS.items() if not changes or differs(args.config, args.set, name)
    ]
    results: dict[str, list[dict[str, Figure]]] = {}
    for seed in range(args.seeds):
        for name in names:
            overrides = [*args.set, f"training.seed={seed}"]
            overrides += changes_of(name, args.config, overrides)
            output = args.runs / base.name / f"{name.replace(' ', '-')}-{seed}"
            checkpoint = trained(args.config, overrides, output)
            scoring = load_config(args.config, [*overrides, *args.score])
            figures = scored(scoring, checkpoint, output / "scores")
            results.setdefault(name, []).append(figures)
            text = (
                f"{args.seeds} seed(s): 95 % bootstrap intervals for a single one, mean and standard "
                f"deviation for several. `{command}`\n\n{table(results)}"
            )
            if args.out is not None:
                args.out.write_text(f"# Trainings of {base.name}\n\n{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
