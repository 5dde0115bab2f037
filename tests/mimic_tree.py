"""A made-up MIMIC-CXR-JPG tree with reports: `python tests/mimic_tree.py FOLDER [--studies 2000]`.

Phantoms as JPEG files in PhysioNet's folders, with the split and metadata tables and the report texts; nothing in it is
of a real patient.
"""

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from xr2text.phantom.drawing import draw_phantom

HEAD = (
    "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  Cough. ___.\n\n"
)


def make_tree(root: Path, studies: int, side: int = 96, val: int = 0, test: int = 0) -> Path:
    """So many studies of two thirds as many patients; each has a PA radiograph, every second one a lateral, too.

    Args:
        side: of the radiographs, pixels.
        val, test: studies of these splits; 0: a tenth of all.
    """
    val, test = val or studies // 10, test or studies // 10
    rows = []
    for number in range(studies):
        split, start, base = next(
            part for part in (("train", val + test, 12), ("test", val, 11), ("validate", 0, 10)) if number >= part[1]
        )
        patient = base * 1_000_000 + (number - start) * 2 // 3  # some have two studies
        study = 50_000_000 + number
        phantom = draw_phantom(number, side)
        folder = root / "files" / f"p{str(patient)[:2]}" / f"p{patient}"
        (folder / f"s{study}").mkdir(parents=True, exist_ok=True)
        (folder / f"s{study}.txt").write_text(_report(number, phantom.findings_text, phantom.impression_text))
        for view in ("PA", "LATERAL") if number % 2 else ("PA",):
            dicom = hashlib.sha256(f"{number} {view}".encode()).hexdigest()[:40]
            dicom = "-".join(dicom[start : start + 8] for start in range(0, 40, 8))
            grey = np.round(phantom.radiograph.pixels * 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"s{study}" / f"{dicom}.jpg"), grey[:, : side * 5 // 6])
            rows.append((dicom, str(patient), str(study), split, view))
    table = pd.DataFrame(rows, columns=["dicom_id", "subject_id", "study_id", "split", "ViewPosition"])
    keys = ["dicom_id", "study_id", "subject_id"]
    table[[*keys, "split"]].to_csv(root / "mimic-cxr-2.0.0-split.csv.gz", index=False)
    table[[*keys, "ViewPosition"]].to_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    return root


def _report(number: int, findings: str, impression: str) -> str:
    """The forms that such reports have."""
    forms = (
        f" FINDINGS: \n \n {findings}\n\n IMPRESSION: \n \n {impression}\n",
        f" FINDINGS:  {findings}\n \n CONCLUSION:  {impression}\n",
        f" COMPARISON:  None.\n\n FINDINGS:  {findings} IMPRESSION:  {impression}\n",
    )
    return HEAD + forms[number % len(forms)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    make_tree(args.folder, args.studies, args.side)
