"""What each piece of the shipped model does, on the Indiana collection: short trainings without one piece each.

    python -m benchmarks.iu_ablation --out benchmarks/iu_ablation.md

Every variant is trained by train.py from configs/iu_xray.yaml, at half its image size, for five epochs, to write
findings alone and without further films, and scored on the validation split by `python -m xr2text evaluate` and, where
it has regions, on the outlines that no training has seen. Without a finding head the best epoch is chosen by BLEU-4 +
ROUGE-L. Variants whose figures stand in iu_ablation.json are not repeated: after a change of the code or the settings,
remove it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

from benchmarks.phantom_ablation import spread, train
from xr2text.config import load_config
from xr2text.evaluation.localization import localize
from xr2text.model.xr2text import XR2Text

CONFIG = "configs/iu_xray.yaml"
SHORTER = (
    "model.image.size=128", "training.curriculum=[{name: easy, epochs: 1, max_findings: 1}, {name: all, epochs: 4}]",
    "model.encoder.drop_path=0.1", "training.weight_decay=0.05", "training.lr_decoder=2e-3", "training.ema_decay=0.98",
    "generation.impression=false", "data.films=null", "training.trackers=[]", "training.sample_reports=1",
)  # fmt: skip
NO_FINDINGS = (
    "training.losses.findings=0", "model.findings={}", "model.decoder.finding_tokens=false",
    "training.best_by=[combined]",
)  # fmt: skip
VARIANTS = {
    "all pieces": (),
    "without spatial priors": ("model.haqt.use_spatial_priors=false",),
    "without their refinement": ("model.haqt.use_prior_refinement=false",),
    "without routing": ("model.haqt.use_adaptive_routing=false", "training.losses.regions=0"),
    "without cross-region layers": ("model.haqt.use_cross_region=false",),
    "linear projection": (
        "model.haqt.projection=linear", "training.losses.regions=0", "training.losses.anatomy=0", *NO_FINDINGS,
    ),
    "without curriculum": ("training.curriculum=[]", "training.epochs=5"),
    "without the finding head": NO_FINDINGS,
}  # fmt: skip


def run(name: str, seed: int, folder: Path) -> dict[str, float | list[float] | None]:
    """Trains one variant and scores it on the validation split."""
    output = folder / f"{name.replace(' ', '-')}-{seed}"
    checkpoint = train(CONFIG, output, *SHORTER, *VARIANTS[name], f"training.seed={seed}")
    data = load_config(CONFIG).data
    subprocess.run(
        [sys.executable, "-m", "xr2text", "evaluate", "--checkpoint", checkpoint, "--source", "r2gen", "--root",
         data.root, "--split", "val", "--no-meteor", "--out", output / "scores"], check=True,
    )  # fmt: skip
    metrics = json.loads((output / "scores" / "metrics.json").read_text())
    language, intervals = metrics["language"]["r2gen"], metrics["intervals"]
    figures = {
        "BLEU-4": (language["bleu_4"], intervals["language"]["r2gen"]["bleu_4"]),
        "ROUGE-L": (language["rouge_l"], intervals["language"]["r2gen"]["rouge_l"]),
        "micro-F1 (14)": (metrics["clinical"]["micro_14"]["f1"], intervals["clinical"]["micro_14"]["f1"]),
        "micro-F1 (5)": (metrics["clinical"]["micro_5"]["f1"], intervals["clinical"]["micro_5"]["f1"]),
        "AUC": (metrics.get("finding_head", {}).get("mean_auc"), None),
        "overlap": (None, None),
    }
    if name != "linear projection":
        rest = localize(XR2Text.from_pretrained(checkpoint), data.region_masks, holdout=data.mask_holdout)["as it is"]
        figures["overlap"] = (mean(one.overlap for one in rest.values()), None)
    return {key: {"value": value, "interval": interval} for key, (value, interval) in figures.items()}


def table(results: dict[str, list[dict]]) -> str:
    keys = list(next(iter(results.values()))[0])
    lines = [f"| training | {' | '.join(keys)} |", "|---|" + "---:|" * len(keys)]
    for name, runs in results.items():
        lines.append(f"| {name} | {' | '.join(_cell([one[key] for one in runs]) for key in keys)} |")
    return "\n".join(lines)


def _cell(runs: list[dict]) -> str:
    values = [one["value"] for one in runs]
    if None in values:
        return "–"
    interval = runs[0]["interval"]
    if len(runs) == 1 and interval is not None:
        return f"{values[0]:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
    return spread(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/iu_ablation"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(__file__).with_suffix(".json"), help="finished figures")
    parser.add_argument("--finished", action="store_true", help="train nothing: the table of what is finished")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    kept = json.loads(args.kept.read_text()) if args.kept.is_file() else {}
    for seed in range(args.seeds):
        for name in VARIANTS:
            if f"{name}/{seed}" not in kept and not args.finished:
                kept[f"{name}/{seed}"] = run(name, seed, args.runs)
                args.kept.write_text(json.dumps(kept, indent=1) + "\n")
    runs = {name: [kept[key] for seed in range(args.seeds) if (key := f"{name}/{seed}") in kept] for name in VARIANTS}
    text = table({name: figures for name, figures in runs.items() if figures})
    if missing := [name for name, figures in runs.items() if len(figures) < args.seeds]:
        text += f"\n\nNot measured: {', '.join(missing)}."
    print(text)
    if args.out is not None:
        spreads = (
            f"mean and standard deviation over {args.seeds} seeds" if args.seeds > 1
            else "one seed, 95 % bootstrap intervals over the studies"
        )  # fmt: skip
        args.out.write_text(
            "# What each piece of the model does, on the Indiana collection\n\n"
            f"Validation split, protocol r2gen; {spreads}. AUC: mean over findings with 15 or more positives. Overlap: "
            "of the maps of lungs and heart with outlines that no training has seen. Made by `python -m "
            f"benchmarks.iu_ablation`: {CONFIG} with `{' '.join(SHORTER)}`.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
