"""The labeler and the finding head against the MeSH terms that people indexed the Indiana collection with.

    python -m benchmarks.mesh --root data/iu_xray --out benchmarks/mesh.md

The labeler reads the findings and the impression of every indexed study; how fast it does is printed, too. The finding
head sees the radiographs of R2Gen's validation studies. What stands in the result file outside its marks is kept.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.data.study import Study
from xr2text.data.tables import read_table
from xr2text.evaluation.clinical import score_head
from xr2text.model.checkpoint import Checkpoint
from xr2text.text.findings.labeler import label_reports

FEWEST_READ, FEWEST_SEEN = 20, 15  # positives that a finding needs to enter the labeler's and the head's averages
START, END = "<!-- table -->", "<!-- end -->"

# For each finding the terms that mean the same: a heading, or a heading with one of its qualifiers.
SAME: dict[str, tuple[str, ...]] = {
    "no finding": ("normal",),
    "enlarged cardiomediastinum": ("mediastinum/prominent", "mediastinum/enlarged"),
    "cardiomegaly": ("cardiomegaly", "cardiac shadow/enlarged"),
    "lung opacity": ("opacity", "airspace disease", "infiltrate", "density/lung"),
    "lung lesion": ("nodule", "mass", "opacity/round", "density/round", "cysts", "cavitation"),
    "edema": ("pulmonary edema", "heart failure"),
    "consolidation": ("consolidation",),
    "pneumonia": ("pneumonia",),
    "atelectasis": ("pulmonary atelectasis",),
    "pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "pleural effusion": ("pleural effusion", "hydropneumothorax"),
    "pleural other": ("thickening/pleura", "cicatrix/pleura", "calcinosis/pleura", "density/pleura"),
    "fracture": ("fractures, bone",),
    "support devices": (
        "catheters, indwelling", "implanted medical device", "tube, inserted", "medical device", "stents",
    ),
    "nodule": ("nodule",),
    "mass": ("mass",),
    "granuloma": ("granuloma", "calcified granuloma", "granulomatous disease"),
    "emphysema or hyperinflation": (
        "emphysema", "pulmonary emphysema", "bullous emphysema", "pulmonary disease, chronic obstructive",
        "lung/hyperdistention", "lung, hyperlucent", "diaphragm/flattened",
    ),
    "low lung volumes": ("lung/hypoinflation",),
    "scarring or fibrosis": ("cicatrix", "pulmonary fibrosis", "fibrosis"),
    "prominent lung markings": ("markings", "lung/interstitial", "lung diseases, interstitial"),
    "vascular congestion": ("pulmonary congestion",),
    "degenerative change of the spine": (
        "thoracic vertebrae/degenerative", "lumbar vertebrae/degenerative", "spine/degenerative", "osteophyte",
        "spondylosis", "arthritis", "hyperostosis, diffuse idiopathic skeletal",
    ),
    "scoliosis": ("scoliosis",),
    "kyphosis": ("kyphosis",),
    "osteopenia": ("bone diseases, metabolic", "osteoporosis"),
    "tortuous or atherosclerotic aorta": (
        "aorta/tortuous", "aorta/prominent", "aorta/enlarged", "atherosclerosis", "calcinosis/aorta",
        "calcinosis/blood vessels", "aortic aneurysm",
    ),
    "hiatal hernia": ("hernia, hiatal", "hernia, diaphragmatic"),
    "elevated diaphragm": ("diaphragm/elevated", "diaphragmatic eventration"),
    "surgical change": ("surgical instruments", "sutures", "spinal fusion", "mastectomy", "pneumonectomy"),
    "hilar or mediastinal adenopathy": ("lymph nodes/enlarged", "lung/hilum/enlarged", "mediastinum/lymph nodes"),
}  # fmt: skip


def indexed_terms(mesh: str, problems: str) -> set[str]:
    """The terms of MeSH and Problems in lower case: headings, and each heading with each of its qualifiers."""
    terms = {term.strip() for term in problems.lower().split(";")}
    for term in mesh.lower().replace("aorta, thoracic", "aorta").split(";"):
        heading, *qualifiers = (part.strip() for part in term.split("/"))
        terms.update({heading, *(f"{heading}/{qualifier}" for qualifier in qualifiers)})
    return terms


def read_indexed(root: Path) -> tuple[pd.Series, pd.DataFrame]:
    """The texts of the indexed studies, and which findings of SAME people indexed in them; both by study number."""
    reports = read_table(root / "indiana_reports.csv", ("uid", "MeSH", "Problems", "findings", "impression"))
    reports = reports[reports["Problems"].str.lower() != "no indexing"].set_index("uid")
    reports.index = reports.index.astype(str)
    terms = [indexed_terms(*pair) for pair in zip(reports["MeSH"], reports["Problems"], strict=True)]
    people = pd.DataFrame(
        {name: [bool(found & set(same)) for found in terms] for name, same in SAME.items()}, index=reports.index
    )
    return reports["findings"] + " " + reports["impression"], people


def confusion(truth: pd.Series, predicted: pd.Series) -> tuple[int, int, int]:
    """(TP, FN, FP)."""
    return int((truth & predicted).sum()), int((truth & ~predicted).sum()), int((~truth & predicted).sum())


def precision_recall_f1(tp: int, fn: int, fp: int) -> tuple[float, float, float]:
    return tp / max(1, tp + fp), tp / max(1, tp + fn), 2 * tp / max(1, 2 * tp + fn + fp)


def labeler_table(people: pd.DataFrame, labels: pd.DataFrame) -> str:
    """`people` is the truth; a finding counts as the labeler's where it is present, in the last column also where it
    is uncertain."""
    present, perhaps = labels.eq(1).fillna(False).astype(bool), labels.ne(0).fillna(False).astype(bool)
    rows, sure, wide, f1s = [], [], [], []
    for name in sorted(SAME, key=lambda name: -people[name].sum()):
        strict, lenient = confusion(people[name], present[name]), confusion(people[name], perhaps[name])
        precision, recall, f1 = precision_recall_f1(*strict)
        positives = int(people[name].sum())
        averaged = positives >= FEWEST_READ and name != "no finding"
        if averaged:
            sure.append(strict)
            wide.append(lenient)
            f1s.append(f1)
        last = precision_recall_f1(*lenient)[2]
        mark = "" if averaged else " (not averaged)"
        rows.append(f"| {name}{mark} | {positives} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {last:.3f} |")
    precision, recall, f1 = precision_recall_f1(*map(sum, zip(*sure, strict=True)))
    last = precision_recall_f1(*map(sum, zip(*wide, strict=True)))[2]
    return "\n".join([
        "| finding | indexed | precision | recall | F1 | F1, uncertain counted as present |",
        "|---|---:|---:|---:|---:|---:|",
        f"| **micro average** of {len(sure)} | | {precision:.3f} | {recall:.3f} | **{f1:.3f}** | {last:.3f} |",
        f"| macro average | | | | {sum(f1s) / len(f1s):.3f} | |",
        *rows,
    ])  # fmt: skip


@torch.inference_mode()
def head_probabilities(checkpoint: Checkpoint, studies: list[Study]) -> pd.DataFrame:
    """The finding head's probabilities for the first frontal radiograph of each study, by study and finding."""
    model, rows = checkpoint.model.eval(), {}
    for study in tqdm(studies, desc="finding head", unit="study"):
        image, geometry = model.transform(study.main_image.read())
        visual = model.encode_image(image[None], torch.tensor([geometry.box]))
        rows[study.id] = model.finding_probabilities(model.predict_findings(visual))[0].tolist()
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(model.config.findings))


def head_table(people: pd.DataFrame, checkpoint: Checkpoint, root: Path) -> str:
    """AUC by the indexed terms, and by the labels that the evaluation uses."""
    studies = list(load_studies(DataConfig(source="r2gen", root=str(root)), checkpoint.model.config.findings)["val"])
    numbers = {study.id: study.id.removeprefix("CXR").partition("_")[0] for study in studies}
    studies = [study for study in studies if numbers[study.id] in people.index]
    names = [name for name in checkpoint.model.config.findings if name in SAME]
    probabilities = head_probabilities(checkpoint, studies)[names]
    ids = probabilities.index
    indexed = people.loc[[numbers[study] for study in ids], names].astype(float).set_axis(ids)
    labels = pd.DataFrame([{name: study.labels.get(name) for name in names} for study in studies], ids, dtype=float)
    indexed, read = (score_head(truth, probabilities, FEWEST_SEEN) for truth in (indexed, labels))
    lines = [
        f"The finding head of {checkpoint.name} on {len(studies)} validation studies; averaged are findings with "
        f"{FEWEST_SEEN} positives or more.",
        "",
        "| finding | indexed | AUC by people's terms | read in reports | of them uncertain | AUC by the reports |",
        "|---|---:|---:|---:|---:|---:|",
        f"| **mean** | | **{indexed.mean_auc:.3f}** | | | **{read.mean_auc:.3f}** |",
    ]
    for name, truth in sorted(indexed.findings.items(), key=lambda item: -item[1].positives):
        by_reports = read.findings[name]
        first, last = (f"{auc:.3f}" if auc is not None else "–" for auc in (truth.auc, by_reports.auc))
        positives = f"{by_reports.positives} | {by_reports.uncertain}"
        lines.append(f"| {name} | {truth.positives} | {first} | {positives} | {last} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the collection, with indiana_reports.csv")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--out", type=Path, help="also write the tables here")
    args = parser.parse_args()
    texts, people = read_indexed(args.root)
    label_reports(["No pleural effusion."])  # loads the rules
    started = time.perf_counter()
    labels = label_reports(texts.tolist()).set_axis(people.index)
    rate = len(texts) / (time.perf_counter() - started)
    text = (
        f"{len(people)} indexed studies; the labeler reads {rate:.0f} reports per second on one core.\n\n"
        f"{labeler_table(people, labels)}\n\n"
        f"{head_table(people, Checkpoint.from_pretrained(args.checkpoint), args.root)}"
    )
    print(text)
    if args.out is not None:
        before, _, after = args.out.read_text().partition(START) if args.out.is_file() else ("# MeSH\n\n", "", "")
        args.out.write_text(f"{before}{START}\n\n{text}\n\n{END}{after.partition(END)[2] or chr(10)}")


if __name__ == "__main__":
    main()
