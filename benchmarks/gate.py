"""How the shipped gate judges images that it was not fitted on.

    python -m benchmarks.gate --out benchmarks/gate.md

`python -m scripts.train_gate` fits it.
"""

import argparse
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from benchmarks.common import publish
from scripts.gate_images import ALTERATIONS, GateImage, altered, measured_images
from xr2text.imaging.radiograph import Radiograph
from xr2text.inference.gate import LATERAL, PASSES, REFUSED, VIEWS, Gate

SPOILT = 100  # real radiographs that are spoilt in every way


def judge(gate: Gate, image: GateImage) -> tuple[str, bool]:
    """The verdict in words, and whether the gate calls the image unusual."""
    result = gate(Radiograph(image.pixels, "array"))
    if result.verdict == REFUSED:
        return "refused", False
    if result.verdict != PASSES:
        return "doubtful", False
    upright = bool(result.notes) == (image.label > 0)
    return "pass" if image.label >= LATERAL or upright else "pass, put wrong", bool(result.reason)


def what(image: GateImage) -> str:
    if image.label >= LATERAL:
        return "lateral" if image.label == LATERAL else "other"
    return "frontal, turned or negative" if image.label else "frontal"


def measure(gate: Gate) -> str:
    """A row for each source and kind of image (`what`), and one for each way to spoil a radiograph."""
    counts: dict[tuple[str, str], Counter] = {}
    frontal, unusual, views = [], 0, Counter()
    for image in measured_images(np.random.default_rng(1)):
        verdict, strange = judge(gate, image)
        counts.setdefault((image.source, what(image)), Counter()).update([verdict, *["unusual"] * strange])
        if image.label in (0, LATERAL):
            views.update([(image.label, gate.view(Radiograph(image.pixels, "array")))])
        if image.label == 0 and image.source != "phantoms":
            frontal.append(image)
            unusual += strange
    columns = ("pass", "doubtful", "refused", "pass, put wrong")
    lines = [
        f"| images | what | number | {' | '.join(columns)} | pass, called unusual |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    totals: dict[str, Counter] = {}
    for (source, name), row in counts.items():
        number = sum(row[column] for column in columns)
        shares = " | ".join(f"{row[column] / number:.1%}" for column in (*columns, "unusual"))
        lines.append(f"| {source} | {name} | {number} | {shares} |")
        group = "other" if name in ("lateral", "other") else name
        totals.setdefault(group, Counter()).update({"number": number, "pass": row["pass"]})
    passing, other = totals["frontal"], totals["other"]
    return "\n".join([
        f"{date.today()}. Of {passing['number']} upright frontal radiographs {passing['pass'] / passing['number']:.1%} "
        f"pass; of {other['number']} other images {1 - other['pass'] / other['number']:.1%} are stopped, by a doubt or "
        "by a refusal.", "", *lines, "",
        f"Of two files of a study: {of_view(views, 0, VIEWS[0])} frontal radiographs are called frontal, and "
        f"{of_view(views, LATERAL, VIEWS[1])} laterals, half of them turned or negative, lateral.", "",
        f"A radiograph that passes is called unusual where its distance is above {gate.settings.unusual}. That happens "
        f"to {unusual} of {len(frontal)} real ones ({unusual / len(frontal):.1%}). The threshold was chosen by these.",
        "", *spoilt_table(gate, frontal),
    ])  # fmt: skip


def of_view(views: Counter, label: int, name: str) -> str:
    """The share of a class's images that the gate calls by its name, and their number, in words."""
    number = sum(count for (given, _), count in views.items() if given == label)
    return f"{views[label, name] / number:.1%} of {number}"


def spoilt_table(gate: Gate, frontal: list[GateImage]) -> list[str]:
    chosen = [frontal[k] for k in np.random.default_rng(2).permutation(len(frontal))[:SPOILT]]
    lines = [
        f"| {len(chosen)} of them, spoilt | stopped | pass, called unusual | pass unnoticed |",
        "|---|---:|---:|---:|",
    ]
    for name in tqdm(ALTERATIONS, desc="spoilt radiographs"):
        results = [judge(gate, GateImage("", 0, altered(name, image.pixels))) for image in chosen]
        passing = [strange for verdict, strange in results if verdict.startswith("pass")]
        shares = (len(results) - len(passing), sum(passing), len(passing) - sum(passing))
        lines.append(f"| {name} | {' | '.join(f'{share / len(results):.0%}' for share in shares)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    publish("The gate", measure(Gate.load()), args.out)


if __name__ == "__main__":
    main()
