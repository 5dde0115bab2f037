"""How well the finding head ranks films by what people indexed their reports with, in place of what the reader reads.

    python -m benchmarks.head_mesh --root data/iu_xray --out benchmarks/head_mesh.md

Scored are the validation studies of R2Gen's split, by `findings_mesh.SAME`, and beside that by the labels that the
evaluation goes by: there a finding that a report has as uncertain counts as present. People index what a report is sure
of, so that "heart size at the upper limits of normal" is seldom a cardiomegaly of theirs.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from benchmarks.findings_mesh import SAME, indexed_terms
from xr2text.config import DataConfig
from xr2text.data.sources import Study, load_studies, read_table
from xr2text.evaluation.clinical import HeadScores, score_head
from xr2text.model.xr2text import XR2Text

FEWEST = 15  # positives that a finding must have to enter the mean


def indexed_findings(root: Path, studies: list[Study], findings: list[str]) -> pd.DataFrame:
    """What people indexed, 1 or 0, by study and finding; a study that was not indexed has no row."""
    reports = read_table(root / "indiana_reports.csv", ("uid", "MeSH", "Problems")).set_index("uid")
    reports.index = reports.index.astype(str)
    rows = {}
    for study in studies:
        mesh, problems = reports.loc[study.id.removeprefix("CXR").partition("_")[0], ["MeSH", "Problems"]]
        if problems.lower() != "no indexing":
            terms = indexed_terms(mesh, problems)
            rows[study.id] = {name: float(bool(terms & set(SAME[name]))) for name in findings}
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.inference_mode()
def head_probabilities(model: XR2Text, studies: list[Study]) -> pd.DataFrame:
    """What the finding head gives the first frontal film of each study, by study and finding."""
    rows = {}
    for study in tqdm(studies, desc="reading films", unit="study"):
        image, geometry = model.transform((study.frontal_images or study.images)[0].read())
        box = torch.tensor([geometry.box])
        logits = model.see_findings(model.look(image[None], box), image[None], box)
        rows[study.id] = model.finding_probabilities(logits)[0].tolist()
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(model.config.findings))


def table(people: HeadScores, reader: HeadScores) -> str:
    lines = [
        "| finding | indexed | AUC by people's terms | read in reports | of them uncertain | AUC by the reports |",
        "|---|---:|---:|---:|---:|---:|",
        f"| **mean** of those with {FEWEST} or more | | **{people.mean_auc:.3f}** | | | **{reader.mean_auc:.3f}** |",
    ]
    for name, one in sorted(people.findings.items(), key=lambda item: -item[1]["positives"]):
        read = reader.findings[name]
        areas = [f"{area:.3f}" if area is not None else "–" for area in (one["auc"], read["auc"])]
        read_in = f"{read['positives']} | {read['uncertain']}"
        lines.append(f"| {name} | {one['positives']} | {areas[0]} | {read_in} | {areas[1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="checkpoints/xr2text-iu")
    parser.add_argument("--root", type=Path, required=True, help="folder of the collection, in R2Gen's layout")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    studies = load_studies(DataConfig(source="r2gen", root=str(args.root)), 256)["val"]
    model = XR2Text.from_pretrained(args.checkpoint)
    names = [name for name in model.config.findings if name in SAME]
    people = indexed_findings(args.root, studies, names)
    studies = [study for study in studies if study.id in people.index]
    probabilities = head_probabilities(model, studies)[names]
    labels = pd.DataFrame(
        [{name: study.labels.get(name) for name in names} for study in studies], index=people.index, dtype=float
    )
    text = table(*(score_head(truth, probabilities, FEWEST) for truth in (people, labels)))
    print(text)
    if args.out is not None:
        note = " ".join((__doc__ or "").split("\n\n")[-1].split())
        args.out.write_text(
            f"# The finding head against MeSH indexing\n\n{note} {len(studies)} studies. Made by `python -m "
            f"benchmarks.head_mesh`.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
