"""How many findings of unseen phantoms a model's reports get right.

    python -m benchmarks.phantom_findings runs/phantom/checkpoint --out benchmarks/phantom_findings.md

A report's assertions are read back by the phantoms' own closed language. Two rows that know nothing of the image stand
beside the model: the report of another phantom, and a report that calls everything normal.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from xr2text.model.xr2text import XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS, findings_in, unknown_sentences

FIRST_SEED = 20_000_000  # training and validation draw from lower seeds

Pairs = Sequence[tuple[frozenset[str], frozenset[str]]]  # (drawn, asserted) per phantom


def scores(pairs: Pairs, names: Iterable[str] = FINDINGS) -> dict[str, float]:
    """Counts over phantoms and the named findings, and what follows from them (0 where nothing is counted)."""
    drawn = sum(name in truth for truth, _ in pairs for name in names)
    asserted = sum(name in told for _, told in pairs for name in names)
    right = sum(name in truth and name in told for truth, told in pairs for name in names)
    recall, precision = right / max(1, drawn), right / max(1, asserted)
    return {
        "drawn": drawn,
        "recall": recall,
        "precision": precision,
        "f1": 2 * right / max(1, drawn + asserted),
        "whole": sum(truth == told for truth, told in pairs) / len(pairs),
    }


def write_all(model: XR2Text, seeds: range, batch_size: int = 25) -> tuple[Pairs, list[str]]:
    """Reports of the phantoms of these seeds: (drawn, asserted) pairs, and the texts."""
    pairs, texts = [], []
    for start in tqdm(range(0, len(seeds), batch_size), desc="phantoms"):
        phantoms = [draw_phantom(seed, model.transform.size) for seed in seeds[start : start + batch_size]]
        pixels = torch.stack([model.transform(one.radiograph)[0] for one in phantoms])
        for phantom, report in zip(phantoms, model.generate(pixels).reports, strict=True):
            texts.append(f"{report.findings} {report.impression}")
            pairs.append((phantom.findings, findings_in(texts[-1])))
    return pairs, texts


def table(pairs: Pairs, texts: list[str]) -> str:
    others = [(pairs[i][0], pairs[i - 1][1]) for i in range(len(pairs))]
    normal = [(truth, frozenset()) for truth, _ in pairs]
    lines = [
        "| reports | findings drawn | recall | precision | F1 | whole report right |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in (("**the model**", pairs), ("another phantom's report", others), ("always normal", normal)):
        one = scores(rows)
        lines.append(
            f"| {name} | {one['drawn']} | {one['recall']:.3f} | {one['precision']:.3f} | {one['f1']:.3f} "
            f"| {one['whole']:.3f} |"
        )
    lines += ["", "| finding | drawn | recall | precision | F1 |", "|---|---:|---:|---:|---:|"]
    for name in FINDINGS:
        one = scores(pairs, [name])
        lines.append(f"| {name} | {one['drawn']} | {one['recall']:.3f} | {one['precision']:.3f} | {one['f1']:.3f} |")
    strange = sum(bool(unknown_sentences(text)) for text in texts)
    lines += ["", f"{len(pairs)} phantoms, {len(set(texts))} different reports, {strange} with a sentence outside the "
              "phantoms' language."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    model = XR2Text.from_pretrained(args.checkpoint)
    text = table(*write_all(model, range(FIRST_SEED, FIRST_SEED + args.count)))
    print(text)
    if args.out is not None:
        args.out.write_text(f"# Findings in reports of unseen phantoms\n\n{text}\n")


if __name__ == "__main__":
    main()
