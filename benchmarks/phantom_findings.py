"""How many findings of unseen phantoms a model's reports get right.

    python -m benchmarks.phantom_findings runs/phantom/checkpoint --out benchmarks/phantom_findings.md

A report's assertions are read back by the phantoms' closed language: each sentence is looked up among all that its
table can write, so what is written is read back exactly, and any other sentence asserts nothing. Two rows that know
nothing of the image stand beside the model: the report of another phantom, and a report that calls everything normal.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks.common import publish
from xr2text.model.checkpoint import Checkpoint
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS, NORMAL_IMPRESSIONS, TOPICS, fill_sentence
from xr2text.text.sections import split_sentences

FIRST_SEED = 20_000_000  # training and validation draw from lower seeds
BATCH = 25

Pairs = Sequence[tuple[frozenset[str], frozenset[str]]]  # (drawn, asserted) per phantom


def _key(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence).strip(" .").lower()


@cache
def _language() -> dict[str, frozenset[str]]:
    """Every sentence that TOPICS can write, normalised, with the findings that it asserts."""
    meaning = {_key(sentence): frozenset() for sentence in NORMAL_IMPRESSIONS}
    for topic in TOPICS:
        meaning |= {_key(sentence): frozenset() for sentence in topic.absent}
        meaning |= {_key(s): frozenset(topic.findings) for s in topic.bilateral + topic.bilateral_summary}
        for finding in topic.findings:
            for template in topic.present + topic.summary:
                for detail in topic.details:
                    meaning[_key(fill_sentence(template, finding.split()[0], detail))] = frozenset({finding})
    return meaning


def findings_in(text: str) -> frozenset[str]:
    """The findings that a report asserts, each from FINDINGS.

    Letter case, spacing and a missing final full stop do not matter. A finding asserted once is asserted: a sentence
    that denies it elsewhere in the text does not take it back.
    """
    return frozenset().union(*(_language().get(_key(sentence), frozenset()) for sentence in split_sentences(text)))


def unknown_sentences(text: str) -> list[str]:
    """The sentences of a report, in order, that the phantoms' language cannot write."""
    return [sentence for sentence in split_sentences(text) if _key(sentence) not in _language()]


def write_reports(checkpoint: Checkpoint, seeds: range) -> tuple[Pairs, list[str]]:
    """Reports of the phantoms of these seeds: (drawn, asserted) pairs, and the texts."""
    transform, pairs, texts = checkpoint.model.eval().transform, [], []
    for start in tqdm(range(0, len(seeds), BATCH), desc="phantoms"):
        phantoms = [draw_phantom(seed, transform.size) for seed in seeds[start : start + BATCH]]
        images = torch.stack([transform(phantom.radiograph)[0] for phantom in phantoms])
        for phantom, report in zip(phantoms, checkpoint.generator.generate(images).reports, strict=True):
            texts.append(f"{report.findings} {report.impression}")
            pairs.append((phantom.findings, findings_in(texts[-1])))
    return pairs, texts


def scores(pairs: Pairs, names: Iterable[str] = FINDINGS) -> str:
    """Cells of a row: drawn, recall, precision, F1."""
    drawn = sum(name in truth for truth, _ in pairs for name in names)
    asserted = sum(name in written for _, written in pairs for name in names)
    right = sum(name in truth and name in written for truth, written in pairs for name in names)
    shares = (right / max(1, drawn), right / max(1, asserted), 2 * right / max(1, drawn + asserted))
    return " | ".join([str(drawn), *(f"{share:.3f}" for share in shares)])


def table(pairs: Pairs, texts: list[str]) -> str:
    systems = {
        "**the model**": pairs,
        "another phantom's report": [(pairs[i][0], pairs[i - 1][1]) for i in range(len(pairs))],
        "always normal": [(truth, frozenset()) for truth, _ in pairs],
    }
    lines = [
        "| reports | findings drawn | recall | precision | F1 | whole report right |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in systems.items():
        lines.append(f"| {name} | {scores(rows)} | {sum(a == b for a, b in rows) / len(rows):.3f} |")
    lines += ["", "| finding | drawn | recall | precision | F1 |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | {scores(pairs, [name])} |" for name in FINDINGS]
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
    reports = write_reports(Checkpoint.from_pretrained(args.checkpoint), range(FIRST_SEED, FIRST_SEED + args.count))
    publish("Findings in reports of unseen phantoms", table(*reports), args.out)


if __name__ == "__main__":
    main()
