"""Whether the report follows a finding that a person sets.

    python -m benchmarks.set_findings --root data/iu_xray --out benchmarks/set_findings.md

On each validation study pleural effusion and each of the ten findings that are commonest there are set against what
the head sees, and the report is written anew. It should then assert the finding, or no longer assert it, and of all
others assert those that it asserted before; so should its impression, looked at alone.
"""

import argparse
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, machine, publish
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.inference.confidence import ABSENT, PRESENT
from xr2text.inference.report import Report
from xr2text.inference.reporter import Reporter
from xr2text.text.findings.labeler import NO_FINDING, label_report

COMMONEST, ALWAYS = 10, "pleural effusion"
ASSERTED = (1, -1)  # labels of a finding that a report has, for certain or not


def measure(reporter: Reporter, reports: list[Report], findings: list[str]) -> Counter:
    """How often, by (finding, state it was set to, "set", "followed", "alone" or "impression")."""
    counts: Counter = Counter()
    for report in tqdm(reports, desc="setting findings"):
        for reading in report.finding_readings:
            if reading.name not in findings:
                continue
            state = ABSENT if reading.seen else PRESENT
            written = reporter.rewrite(report, {reading.name: state})
            asserts = asserted(f"{written.findings}\n\n{written.impression}")
            key, others = (reading.name, state), {reading.name, NO_FINDING}
            counts[*key, "set"] += 1
            counts[*key, "followed"] += (reading.name in asserts) == (state == PRESENT)
            counts[*key, "alone"] += asserts - others == asserted(f"{report.findings}\n\n{report.impression}") - others
            counts[*key, "impression"] += asserted(written.impression) - others == asserted(report.impression) - others
    return counts


def asserted(text: str) -> set[str]:
    """The findings that the text asserts, as present or uncertain."""
    return {name for name, label in label_report(text).items() if label in ASSERTED}


def table(counts: Counter, findings: list[str]) -> str:
    heads = "the report follows", "nothing else changes", "nothing else changes in the impression"
    lines = [f"| finding | set to | studies | {' | '.join(heads)} |", "|---|---|" + "---:|" * 4]
    for finding in [*findings, "all"]:
        for state in (PRESENT, ABSENT):
            names = findings if finding == "all" else [finding]
            studies, *right = (
                sum(counts[name, state, what] for name in names) for what in ("set", "followed", "alone", "impression")
            )
            if studies:
                shares = " | ".join(f"{count / studies:.1%}" for count in right)
                lines.append(f"| {finding} | {state} | {studies} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--source", default="r2gen")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--studies", type=int, help="only the first so many")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args()
    studies = load_studies(DataConfig(source=args.source, root=args.root))["val"]
    studies = [study for study in studies if study.frontal_images][: args.studies]
    reporter = Reporter.from_pretrained(args.checkpoint)
    reports = [reporter.report(study.frontal_images[0].read(), force=True) for study in tqdm(studies, desc="reports")]
    labels = Counter(
        name for study in studies for name, label in label_report(f"{study.findings}\n\n{study.impression}").items()
        if label in ASSERTED and name in reporter.model.config.findings
    )  # fmt: skip
    findings = list(dict.fromkeys([*(name for name, _ in labels.most_common(COMMONEST)), ALWAYS]))
    counts = measure(reporter, reports, findings)
    publish(
        "Findings set by a person",
        f"{machine()}. {len(reports)} validation studies, each finding set against what the head sees.\n\n"
        f"{table(counts, findings)}",
        args.out,
    )


if __name__ == "__main__":
    main()
