"""Sections of reports: found in free text in the forms that MIMIC-CXR has, and cleaned."""

import pytest

from xr2text.text.sections import clean_section, find_sections, split_sentences

HEAD = " " * 33 + "FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  ___F with cough  // pneumonia?\n\n"


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        (HEAD + " FINDINGS: \n \n Lungs are\n clear.\n\n IMPRESSION: \n \n Normal.", "Lungs are clear.", "Normal."),
        (HEAD + " FINDINGS:  Clear. IMPRESSION:  Normal.", "Clear.", "Normal."),
        (HEAD + " CONCLUSION:  Normal.", "", "Normal."),
        (HEAD + " FINDINGS AND IMPRESSION:  Clear lungs.", "Clear lungs.", ""),
        (HEAD + " FINDINGS/IMPRESSION:\n Clear lungs.", "Clear lungs.", ""),
        (HEAD + " PA AND LATERAL CHEST RADIOGRAPH:  Clear lungs.\n\n IMPRESSION:  Normal.", "Clear lungs.", "Normal."),
        (HEAD + " TECHNIQUE:  Two views.\n\n Clear lungs.\n Heart normal.", "Clear lungs. Heart normal.", ""),
        (" " * 33 + "FINAL REPORT\n PORTABLE FILM.\n\n Clear lungs.", "Clear lungs.", ""),
        ("Findings: Clear.\nImpression: Normal.", "Clear.", "Normal."),
        ("FINDINGS:  ___\n\n IMPRESSION:  Normal.", "", "Normal."),
        ("FINDINGS:  Clear.\n\n IMPRESSION:  Normal.\n\n NOTIFICATION:  Called at noon.", "Clear.", "Normal."),
        ("FINDINGS:  No change.\n\n WET READ: bad line\n\n FINDINGS:  Clear.", "No change. Clear.", ""),
        ("The history: none. Impression of a rib.", "The history: none. Impression of a rib.", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_findings_and_impression_are_found(text, findings, impression):
    found = find_sections(text)
    assert (found["findings"], found["impression"]) == (findings, impression)


def test_indication_and_comparison_are_found():
    found = find_sections(HEAD + " COMPARISON:  Chest ___.\n\n FINDINGS:  Clear.")
    assert found["indication"] == "___F with cough // pneumonia?" and found["comparison"] == "Chest ___."
    assert find_sections("HISTORY: Fall.\nFINDINGS: Clear.")["indication"] == "Fall."


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The heart is normal.  The lungs\nare clear", "The heart is normal. The lungs are clear."),
        ("1. No acute disease. 2. Stable nodule.", "No acute disease. Stable nodule."),
        ("Lungs are clear.. Heart normal. .", "Lungs are clear. Heart normal."),
        ("The XXXX are normal. Lungs are clear.", "Lungs are clear."),
        ("Normal chest x-XXXX.", ""),
        ("Compared to ___, no change. No effusion.", "No effusion."),
        ("A 2.5 cm nodule in the right lung.", "A 2.5 cm nodule in the right lung."),
        ("Old fracture of rib 7. No pneumothorax.", "Old fracture of rib 7. No pneumothorax."),
        ("1. No pneumonia or aspiration 2. Suture material 3. XXXX", "No pneumonia or aspiration. Suture material."),
        ("1. 6 mm nodule. 2) Clear", "6 mm nodule. Clear."),
        ("Fracture of rib 1. No effusion.", "Fracture of rib 1. No effusion."),
        ("A 1.5 cm. .5 cm nodule.", "A 1.5 cm. .5 cm nodule."),
        ("", ""),
        (None, ""),
    ],
)
def test_clean_section(text, clean):
    assert clean_section(text) == clean


def test_sentences_keep_their_marks():
    assert split_sentences("Is it? Yes. A 3.2 cm mass.") == ["Is it?", "Yes.", "A 3.2 cm mass."]
    assert split_sentences("  ") == []
