"""Sections in the free text of reports, in the forms that MIMIC-CXR has."""

import pytest

from xr2text.text.sections import find_sections

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
