"""Sections of invented reports, found in each layout that the free text of MIMIC-CXR has.

    python -m benchmarks.sections --out benchmarks/sections.md

Findings and impressions are those of phantoms, so that their truth is known; no report is anybody's. The layouts are
those that the collection's own parser (github.com/MIT-LCP/mimic-cxr, txt/section_parser.py) provides for.
"""

import argparse
from functools import cache
from pathlib import Path

from benchmarks.common import publish
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.sections import find_sections, split_sentences

HEAD = " " * 33 + "FINAL REPORT\n"
ASKED = " INDICATION:  ___F with cough  // pneumothorax?\n \n COMPARISON:  Chest radiograph of ___.\n \n"
FINDINGS, IMPRESSION = "{findings}\n \n", " IMPRESSION:  {impression}\n"
# Layouts by name; {findings}, or {paragraphs} of them, and {impression} stand where a report has them.
LAYOUTS = {
    "headings with bodies beside them": HEAD + ASKED + f" FINDINGS:  {FINDINGS}{IMPRESSION}",
    "headings with bodies below them": HEAD + " EXAMINATION:  CHEST (PA AND LAT)\n \n" + ASKED
    + " TECHNIQUE:  Two views.\n \n FINDINGS: \n \n {findings}\n \n IMPRESSION: \n \n {impression}\n",
    "impression in the line of the findings": HEAD + ASKED + " FINDINGS:  {findings} IMPRESSION:  {impression}\n",
    "a title in place of the findings": HEAD + ASKED + f" CHEST, TWO VIEWS:  {FINDINGS}{IMPRESSION}",
    "a longer title": HEAD + ASKED + f" FRONTAL AND LATERAL CHEST RADIOGRAPHS:  {FINDINGS}{IMPRESSION}",
    "an empty title above": HEAD + f" PORTABLE AP CHEST RADIOGRAPH:\n \n{ASKED} FINDINGS:  {FINDINGS}{IMPRESSION}",
    "misspelt headings": HEAD + f" IDICATION:  Pneumothorax?\n \n FINIDNGS:  {FINDINGS} IMPRESSOIN:  {{impression}}\n",
    "conclusion": HEAD + ASKED + f" FINDINGS:  {FINDINGS} CONCLUSION:  {{impression}}\n",
    "impression alone": HEAD + ASKED + IMPRESSION,
    "findings alone": HEAD + ASKED + f" FINDINGS:  {FINDINGS}",
    "findings and impression under one heading": HEAD + ASKED + f" FINDINGS AND IMPRESSION:  {FINDINGS}",
    "recommendations behind": HEAD + ASKED + f" FINDINGS:  {FINDINGS}{IMPRESSION} \n RECOMMENDATION(S):  Repeat to "
    "exclude pneumonia.\n",
    "a notification behind": HEAD + ASKED + f" FINDINGS:  {FINDINGS}{IMPRESSION} \n NOTIFICATION:  The edema was "
    "telephoned to Dr. ___.\n",
    "a wet read in front": " WET READ: ___ ___ 5:00 PM\n  Small pneumothorax.\n ______\n" + HEAD + ASKED
    + f" FINDINGS:  {FINDINGS}{IMPRESSION}",
    "an addendum in front": " ADDENDUM  The date was wrong.\n ______\n" + HEAD + ASKED
    + f" FINDINGS:  {FINDINGS}{IMPRESSION}",
    "paragraphs behind the last heading": HEAD + " REASON FOR EXAM:  Pneumothorax.\n \n {paragraphs}\n",
    "paragraphs behind a title without a colon": HEAD + " PORTABLE AP CHEST FILM, ___ AT 05:00\n \n {paragraphs}\n",
    "no heading but FINAL REPORT": HEAD + " {findings}\n",
}  # fmt: skip
WIDTH = 11  # words of a line


def wrap(text: str) -> str:
    """Breaks lines as the collection does."""
    words = text.split()
    return "\n ".join(" ".join(words[start : start + WIDTH]) for start in range(0, len(words), WIDTH))


@cache
def report(seed: int) -> dict[str, str]:
    phantom = draw_phantom(seed, 32)  # the report does not depend on the size
    return {"findings": phantom.findings_text, "impression": phantom.impression_text}


def exact(layout: str, reports: int) -> tuple[int, int]:
    """So many reports' findings, and impressions, that are found word for word, and nothing where there are none."""
    found = [0, 0]
    for seed in range(reports):
        truth = report(seed)
        bodies = {name: wrap(text) for name, text in truth.items()}
        bodies["paragraphs"] = "\n \n ".join(map(wrap, split_sentences(truth["findings"])))
        sections = find_sections(layout.format(**bodies))
        present = {
            "findings": "{findings}" in layout or "{paragraphs}" in layout,
            "impression": "{impression}" in layout,
        }
        for place, (name, text) in enumerate(truth.items()):
            found[place] += sections[name] == (text if present[name] else "")
    return found[0], found[1]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=100, help="of each layout")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    rows = [(name, *exact(layout, args.reports)) for name, layout in LAYOUTS.items()]
    lines = [f"| {name} | {findings} | {impressions} |" for name, findings, impressions in rows]
    text = "\n".join([
        f"Of {args.reports} invented reports in each layout, those whose section is found word for word.", "",
        "| layout | findings | impression |", "|---|---:|---:|", *lines,
    ])  # fmt: skip
    publish("Sections in the layouts of MIMIC-CXR", text, args.out)


if __name__ == "__main__":
    main()
