"""How far the findings reader agrees with the people who indexed the Indiana collection with MeSH terms.

    python -m benchmarks.findings_mesh data/iu_xray --out benchmarks/findings_mesh.md [--show "lung opacity" --count 20]

Read are the findings and the impression of every indexed study; indexed terms come from the columns Problems (headings)
and MeSH (headings with their qualifiers, which tell an elevated diaphragm from a flattened one). A finding counts as
the reader's where a report says that it is present; in a second column also where it is uncertain. `--show` prints the
studies in which the two disagree on a finding.
"""

import argparse
from pathlib import Path

import pandas as pd

from xr2text.data.sources import read_table
from xr2text.text.findings.labeler import find_mentions, label_reports
from xr2text.text.findings.table import CHEXPERT_14

FEWEST = 20  # cases that a finding must have to enter the averages

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
    """Headings, and each heading with each of its qualifiers, in lower case."""
    terms = {term.strip() for term in problems.lower().split(";")}
    for term in mesh.lower().replace("aorta, thoracic", "aorta").split(";"):
        heading, *qualifiers = (part.strip() for part in term.split("/"))
        terms.update({heading, *(f"{heading}/{qualifier}" for qualifier in qualifiers)})
    return terms


def read_studies(root: Path) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame]:
    """(texts, what the people found, what the reader found) of the indexed studies."""
    reports = read_table(root / "indiana_reports.csv", ("uid", "MeSH", "Problems", "findings", "impression"))
    reports = reports[reports["Problems"].str.lower() != "no indexing"].set_index("uid")
    texts = reports["findings"] + " " + reports["impression"]
    terms = [indexed_terms(*pair) for pair in zip(reports["MeSH"], reports["Problems"], strict=True)]
    people = pd.DataFrame({name: [bool(own & set(same)) for own in terms] for name, same in SAME.items()})
    return texts, people, label_reports(texts.tolist(), progress=True)


def counts(people: pd.Series, reader: pd.Series) -> tuple[int, int, int]:
    """(both, reader alone, people alone)."""
    return int((people & reader).sum()), int((people & ~reader).sum()), int((~people & reader).sum())


def scores(both: int, missed: int, extra: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of the reader, the people taken as the truth."""
    return both / max(1, both + extra), both / max(1, both + missed), 2 * both / max(1, 2 * both + missed + extra)


def table(people: pd.DataFrame, labels: pd.DataFrame) -> str:
    lines = [
        "| finding | indexed | precision | recall | F1 | F1, uncertain counted as present |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    pooled: dict[str, list[tuple[int, int, int]]] = {"": [], "uncertain": []}
    present, perhaps = labels.eq(1).fillna(False).astype(bool), labels.ne(0).fillna(False).astype(bool)
    averaged = []
    for name in sorted(SAME, key=lambda name: -people[name].sum()):
        sure, wide = counts(people[name], present[name]), counts(people[name], perhaps[name])
        cases = int(people[name].sum())
        mark = "" if cases >= FEWEST else " (fewer than 20, not averaged)"
        precision, recall, f1 = scores(*sure)
        if name == "no finding":
            mark = " (derived, not averaged)"
        elif cases >= FEWEST:
            averaged.append(f1)
            pooled[""].append(sure)
            pooled["uncertain"].append(wide)
        lines.append(f"| {name}{mark} | {cases} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {scores(*wide)[2]:.3f} |")
    (precision, recall, f1), wide = (scores(*map(sum, zip(*pooled[kind], strict=True))) for kind in pooled)
    average = f"**micro average** of {len(averaged)} | | {precision:.3f} | {recall:.3f} | **{f1:.3f}** | {wide[2]:.3f}"
    lines.insert(2, f"| {average} |")
    lines.insert(3, f"| macro average | | | | {sum(averaged) / len(averaged):.3f} | |")
    lines += ["", f"{len(people)} indexed studies. Of CheXpert's 14 findings, all {len(CHEXPERT_14)} are mapped."]
    return "\n".join(lines)


def show(name: str, count: int, texts: pd.Series, people: pd.Series, labels: pd.Series) -> None:
    reader = labels.eq(1).fillna(False).astype(bool)
    for kind, rows in (("reader alone", ~people & reader), ("people alone", people & ~reader)):
        for row in rows[rows].sample(frac=1, random_state=0).index[:count]:
            said = [f"{one.status}: {one.sentence}" for one in find_mentions(texts.iloc[row]) if one.finding == name]
            print(f"\n{kind}, study {texts.index[row]}: {' | '.join(said) or texts.iloc[row]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the collection, with indiana_reports.csv")
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--show", choices=list(SAME), help="print disagreements on this finding")
    parser.add_argument("--count", type=int, default=20, help="of each kind")
    args = parser.parse_args()
    texts, people, labels = read_studies(args.root)
    text = table(people, labels)
    print(text)
    if args.show is not None:
        show(args.show, args.count, texts, people[args.show], labels[args.show])
    if args.out is not None:
        head, _, notes = args.out.read_text().partition("<!-- table -->") if args.out.is_file() else ("", "", "")
        notes = notes.partition("<!-- end -->")[2]
        head = head or "# The findings reader against MeSH indexing\n\n"
        args.out.write_text(f"{head}<!-- table -->\n\n{text}\n\n<!-- end -->{notes or chr(10)}")


if __name__ == "__main__":
    main()
