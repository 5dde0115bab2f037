"""What each piece of the training does, on phantoms: the five-stage run of configs/phantom.yaml and its variants.

    python -m benchmarks.phantom_ablation --out benchmarks/phantom_ablation.md

Every variant is trained by train.py with three seeds, on smaller and fewer phantoms than the config has, so that each
takes three minutes on one core. So short a run learns no image encoder from nothing: all start from one that six epochs
of findings alone have taught on other phantoms, as a training on radiographs starts from ImageNet's. The reports of
400 phantoms that no training has seen are scored. Runs whose figures stand in phantom_ablation.json are not repeated:
after a change of the code or the settings, remove it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
from safetensors.torch import load_file, save_file

from benchmarks.phantom_findings import FIRST_SEED, scores, write_all
from xr2text.evaluation.language import score_language
from xr2text.model.xr2text import WEIGHTS_FILE, XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.training.losses import TERMS

CONFIG = "configs/phantom.yaml"
STAGES = (
    "{name: warmup, epochs: 1, normal_only: true}, {name: easy, epochs: 1, max_findings: 1}, "
    "{name: medium, epochs: 1, max_findings: 2}, {name: hard, epochs: 2}, {name: finetune, epochs: 1, lr_factor: 0.3}"
)
SMALLER = (
    "model.image.size=96", "data.phantom_train=1600", "data.phantom_val=60", "training.batch_size=8",
    "model.decoder.dropout=0.1", f"training.curriculum=[{STAGES}]", "training.trackers=[]",
)  # fmt: skip
FINDINGS_ALONE = (
    "model.image.size=96", "data.seed=1", "data.phantom_train=4000", "data.phantom_val=200", "training.batch_size=8",
    "training.curriculum=[]", "training.epochs=6", "training.trackers=[]", "training.best_by=[finding_auc]",
    "training.scored_reports=1", *(f"training.losses.{name}=0" for name in TERMS if name != "findings"),
)  # fmt: skip
VARIANTS = {
    "five stages, all terms": (),
    "no curriculum": ("training.curriculum=[]", "training.epochs=5"),
    "without focal": ("training.losses.focal=0",),
    "without regions": ("training.losses.regions=0",),
    "without consistency": ("training.losses.consistency=0",),
    "without findings": ("training.losses.findings=0",),
    "without alignment": ("training.losses.alignment=0",),
    "with R-Drop": ("training.losses.rdrop=0.5",),
}


def train(config: str, output: Path, *settings: str) -> Path:
    """Trains a config with these settings, or goes on with it; the finished checkpoint."""
    if not (output / "checkpoint").is_dir():
        command = [sys.executable, "train.py", "--config", config, "--set", *settings, f"output={output}"]
        if (output / "states").is_dir():
            command.append("--resume")
        subprocess.run(command, check=True)
    return output / "checkpoint"


def taught_encoder(folder: Path) -> Path:
    """The weights that every variant's image encoder starts from."""
    weights = folder / "encoder.safetensors"
    if not weights.is_file():
        state, prefix = (
            load_file(train(CONFIG, folder / "encoder", *FINDINGS_ALONE) / WEIGHTS_FILE),
            "encoder.backbone.",
        )
        own = {name.removeprefix(prefix): one.float() for name, one in state.items() if name.startswith(prefix)}
        save_file(own, weights)
    return weights


def run(name: str, seed: int, folder: Path, count: int) -> dict[str, float]:
    """Trains one variant and scores it."""
    output = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    start = f"model.encoder.weights={taught_encoder(folder)}"
    train(CONFIG, output, *SMALLER, *VARIANTS[name], start, f"training.seed={seed}")
    history = pd.read_csv(output / "history.csv")
    return score(output / "checkpoint", count) | {"seconds": float(history["seconds"].iloc[-1])}


def score(checkpoint: Path, count: int) -> dict[str, float]:
    """Findings F1 and Combined (BLEU-4 + ROUGE-L, protocol full) of unseen phantoms' reports."""
    model = XR2Text.from_pretrained(checkpoint)
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    pairs, texts = write_all(model, seeds)
    references = [draw_phantom(seed, 32) for seed in seeds]
    language = score_language(
        [f"{one.findings_text} {one.impression_text}" for one in references], texts, "full", meteor=False
    ).scores
    found = scores(pairs)
    return {"f1": found["f1"], "whole": found["whole"], "combined": language.bleu_4 + language.rouge_l}


def table(results: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| training | findings F1 | whole report right | Combined | minutes |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, runs in results.items():
        cells = [spread([one[key] for one in runs]) for key in ("f1", "whole", "combined")]
        minutes = mean(one["seconds"] for one in runs) / 60
        lines.append(f"| {name} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    around = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{around}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=400, help="unseen phantoms that are scored")
    parser.add_argument(
        "--kept", type=Path, default=Path(__file__).with_suffix(".json"), help="figures of finished runs"
    )
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    kept = json.loads(args.kept.read_text()) if args.kept.is_file() else {}
    for seed in range(args.seeds):
        for name in VARIANTS:
            if f"{name}/{seed}" not in kept:
                kept[f"{name}/{seed}"] = run(name, seed, args.runs, args.count)
                args.kept.write_text(json.dumps(kept, indent=1) + "\n")
    results = {name: [kept[f"{name}/{seed}"] for seed in range(args.seeds)] for name in VARIANTS}
    print(table(results))
    if args.out is not None:
        args.out.write_text(
            "# What each piece of the training does, on phantoms\n\n"
            f"Mean and standard deviation over {args.seeds} seeds; {args.count} unseen phantoms. Made by "
            f"`python -m benchmarks.phantom_ablation`: configs/phantom.yaml with `{' '.join(SMALLER)}`, the encoder "
            f"first taught by findings alone, once for all (`{' '.join(FINDINGS_ALONE)}`).\n\n"
            f"{table(results)}\n"
        )


if __name__ == "__main__":
    main()
