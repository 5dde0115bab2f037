import pytest

from xr2text.text.sections import clean_section, split_sentences


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
