"""What a training on readers' corrections gains, and what it costs.

    python -m benchmarks.corrections --root data/iu_xray --out benchmarks/corrections.md

The shipped checkpoint goes on, by configs/finetune.yaml, from corrections of phantoms: drawn radiographs in words of
their own, as another hospital's are; once from these alone, and once with as many that it was trained on before.
Other phantoms, and Indiana's validation studies, are written of before and after.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, machine, publish
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.data.study import Study
from xr2text.evaluation.clinical import score_clinical
from xr2text.evaluation.language import score_language
from xr2text.evaluation.predict import write_predictions
from xr2text.model.checkpoint import Checkpoint
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.findings.labeler import label_reports

FIRST_SEED = 30_000_000  # trainings on phantoms draw from lower seeds
OTHERS = 150  # phantoms that are written of
SIZE = 512  # pixels


def write_corrections(folder: Path, count: int) -> None:
    """Writes corrections as the page keeps them, every fifth for validation; OTHERS more make up the split test."""
    (folder / "images").mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "image", "findings", "impression", "split"])
        for number in tqdm(range(count + OTHERS), "drawing phantoms"):
            phantom, name = draw_phantom(FIRST_SEED + number, SIZE), f"images/{number}.png"
            cv2.imwrite(str(folder / name), np.round(phantom.radiograph.pixels * 255).astype(np.uint8))
            split = "test" if number >= count else "val" if number % 5 == 0 else "train"
            rows.writerow([number, name, phantom.findings_text, phantom.impression_text, split])


def scores(checkpoint: Checkpoint, studies: list[Study], work: Path) -> str:
    """Cells of a row: F1 over fourteen findings and over five, contradictions, ROUGE-L."""
    studies = [study for study in studies if study.source_findings.strip()]
    both = checkpoint.model.lateral is not None
    written = write_predictions(checkpoint, studies, work, 16, both).findings
    references = [study.source_findings for study in studies]
    clinical = score_clinical(label_reports(references), label_reports(written))
    language = score_language(references, written, "full", meteor=False).scores
    f1 = f"{clinical.micro_14.f1 or 0:.3f} | {clinical.micro_5.f1 or 0:.3f}"
    return f"{f1} | {clinical.contradictions} | {language.rouge_l:.3f}"


def trained(checkpoint: str, corrections: Path, run: Path, *settings: str) -> float:
    """Trains on the corrections. Returns the minutes that it took."""
    places = [f"data.root={corrections}", f"output={run}", f"training.init_from={checkpoint}", "data.cache=null"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "-q", "train.py", "--config", "configs/finetune.yaml"]
    started = time.monotonic()
    subprocess.run([*launch, "--set", *places, *settings], check=True)
    return (time.monotonic() - started) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="Indiana collection with R2Gen's annotation.json")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--replay", default="configs/iu_xray.yaml", metavar="YAML", help="what it was trained by")
    parser.add_argument("--count", type=int, default=200, help="corrections")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corrections(folder / "corrections", args.count)
        sources = {
            f"{OTHERS} other phantoms": ("manifest", folder / "corrections", "test"),
            "Indiana, validation": ("r2gen", args.root, "val"),
        }
        studies = {
            what: list(load_studies(DataConfig(source=source, root=str(root)))[split])
            for what, (source, root, split) in sources.items()
        }
        checkpoints, minutes = {"before": Path(args.checkpoint)}, []
        for when, settings in (("after", ()), ("after, with replay", (f"data.replay={args.replay}",))):
            minutes.append(trained(args.checkpoint, folder / "corrections", folder / when, *settings))
            checkpoints[when] = folder / when / "checkpoint"
        lines = ["| reports of | checkpoint | F1 (14) | F1 (5) | contradictions | ROUGE-L |", "|---|---|" + "---:|" * 4]
        for what, those in studies.items():
            for when, path in checkpoints.items():
                cells = scores(Checkpoint.from_pretrained(path), those, folder / "written" / when / what)
                lines.append(f"| {what} | {when} | {cells} |")
    alone, replayed = minutes
    about = f"{args.count} corrections of phantoms, {alone:.0f} minutes of training, with replay {replayed:.0f}"
    publish(
        "Corrections",
        f"{machine()}. {about}. Made by `python -m benchmarks.corrections --root data/iu_xray`.\n\n" + "\n".join(lines),
        args.out,
    )


if __name__ == "__main__":
    main()
