"""Sections of reports: found in free text in the forms that MIMIC-CXR has, and cleaned."""

import pytest

from xr2text.text.sections import asserted_text, clean_section, find_sections, split_sentences

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
        (HEAD + " CHEST, TWO VIEWS:  Clear lungs.", "Clear lungs.", ""),
        (HEAD + " FRONTAL AND LATERAL CHEST RADIOGRAPHS:  Clear.\n\n IMPRESSION:  Normal.", "Clear.", "Normal."),
        (HEAD + " SINGLE PORTABLE UPRIGHT AP VIEW\n\n FINDINGS:  Clear.", "Clear.", ""),
        ("CHEST, PA AND LATERAL:\n\n INDICATION:  Cough.\n\n FINDINGS:  Clear.", "Clear.", ""),
        ("CHEST, PA AND LATERAL:  Compared with ___.\n\n FINDINGS:  Clear.", "Clear.", ""),
        (HEAD + " FINIDNGS:  Clear.\n\n IMPRESSOIN:  Normal.", "Clear.", "Normal."),
        ("FINDINGS:  Clear.\n\n IMPRESSION:  Normal.\n\n RECOMMENDATION(S):  Repeat.", "Clear.", "Normal."),
        ("FINDINGS:  Clear.\n\n IMPRESSION:  Normal.\n\n ATTENDING PHYSICIAN:  A. B.", "Clear.", "Normal."),
        ("FINDINGS:\n LUNGS:  Clear.\n BONES:  Old.\n IMPRESSION:  Normal.", "LUNGS: Clear. BONES: Old.", "Normal."),
        ("TECHNIQUE:  AP.\n LUNGS:  Clear.\n HEART:  Normal.", "LUNGS: Clear. HEART: Normal.", ""),
        ("FINDINGS\nClear.\n\nIMPRESSION\nNormal.", "Clear.", "Normal."),
        ("**Findings:** Clear.\n\n**Impression:** Normal.", "Clear.", "Normal."),
        (HEAD + " COMPARISON:  ___.\n\n Effusion.\n\n Normal.\n\n Called.", "Effusion. Normal. Called.", ""),
        (HEAD + " COMPARISON:  None. Clear lungs.", "Clear lungs.", ""),
        (HEAD + " COMPARISON:  None.", "", ""),
        ("FINAL REPORT\n PORTABLE FILM.\n\n Effusion.\n\n Heart normal.", "Effusion. Heart normal.", ""),
        ("FINAL REPORT\n\n Effusion.\n\n Heart normal.", "Effusion. Heart normal.", ""),
        ("FINAL REPORT\n Clear lungs.", "Clear lungs.", ""),
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


MISSPELT = {
    "findings": "findins findindgs findgings findngs findnings finidngs",
    "impression": "impresson imprression imoression impressoin imprssion impresion imperssion mpression impession "
    "concusion coinclusion",
    "indication": "idication ndication hisotry",
    "comparison": "comparision comparsion comparrison comparisions",
}


@pytest.mark.parametrize(("section", "heading"), [(name, word) for name in MISSPELT for word in MISSPELT[name].split()])
def test_misspelt_headings_are_known(section, heading):
    found = find_sections(f" FINAL REPORT\n EXAMINATION:  CHEST\n\n {heading.upper()}:  This.\n\n NOTE:  That.")
    assert {name for name, body in found.items() if body} == {section} and found[section] == "This."


def test_paragraphs_behind_the_last_heading_are_none_of_its_own():
    assert find_sections("REASON FOR EXAM:  Cough.\n\n Clear.\n\n Normal.")["indication"] == "Cough."


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("History: Fall. Findings: No effusion. Impression: Normal.", "No effusion.\n\nNormal."),
        ("<b>FINDINGS:</b><br/>Clear.<br/><b>IMPRESSION:</b><br/>Normal.", "Clear.\n\nNormal."),
        ("FINDINGS: Clear\r\nHeart normal\r\nIMPRESSION: Normal", "Clear\nHeart normal\n\nNormal"),
        ("Cardiomegaly.\n\nNo effusion.", "Cardiomegaly.\n\nNo effusion."),
        ("Lungs: clear. Heart: normal.", "Lungs: clear. Heart: normal."),
        ("HISTORY: left pneumothorax", ""),
    ],
)
def test_what_a_whole_report_asserts(text, read):
    assert asserted_text(text) == read


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
