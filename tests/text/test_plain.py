"""Text out of web pages, word processors and tables."""

import pytest

from xr2text.text.plain import join_questions, plain_sentence, plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("isn’t isn`t isn´t", "isn't isn't isn't"),
        ("e\ufb00usion, \ufb01brosis, in\ufb02ammation", "effusion, fibrosis, inflammation"),
        ("pneumo\u00adthorax no\u00a0effusion\ufeff\u200b", "pneumothorax no effusion"),
        ("T5–T6, non\u2011enlarged", "T5-T6, non-enlarged"),
        ("No effusion—cardiomegaly", "No effusion - cardiomegaly"),
        ("Clear.\u2028Normal.\x85Normal.\r\nNormal.", "Clear.\nNormal.\nNormal.\nNormal."),
        ("Clear.<br/>Normal.<P class='x'>Normal</p>", "Clear.\n\nNormal.\n\nNormal\n\n"),
        ("No <b>effusion</b>&nbsp;&amp; edema&lt;br&gt;Clear", "No effusion & edema\n\nClear"),
        ("[&lt;The heart is normal.&gt;] <a small effusion>", "[<The heart is normal.>] <a small effusion>"),
        ("<span style='color: red'><em>Clear</em></span> <a href='x'>film</a>", "Clear film"),
        ("A nodule <5 mm, another >9 mm", "A nodule <5 mm, another >9 mm"),
        ("Clear.\\nNormal._x000D_\nNormal.", "Clear.\nNormal.\n\nNormal."),
        ("• Clear • Normal", "\n\nClear \n\nNormal"),
        ("1) Clear 2) Normal", "\n\nClear\n\nNormal"),
        ("Impression: 1.Clear 2.Normal", "Impression:\n\nClear\n\nNormal"),
        ("a) Clear b) Normal (i) Small (ii) Large", "\n\nClear\n\nNormal\n\nSmall\n\nLarge"),
        ("Fracture of rib 1. A 2.5 cm nodule, 3 mm.", "Fracture of rib 1. A 2.5 cm nodule, 3 mm."),
        ("0. Clear 1. Normal 0) Small", "0. Clear 1. Normal 0) Small"),
        ("Old fracture of rib 7. No effusion.", "Old fracture of rib 7. No effusion."),
    ],
)
def test_plain_text(text, plain):
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("sentence", "plain"),
    [
        ("It can't be, it isn't, it hasnt.", "it cannot be, it is not, it has not."),
        ("Opacity, ? pneumonia", "opacity, possible pneumonia"),
        ("Pneumonia (?) at the base", "pneumonia is questioned at the base"),
        ("No edema - small effusion", "no edema; small effusion"),
        ("Effusion - none", "effusion: none"),
        ("Effusion: none, heart - enlarged", "effusion: none; heart: enlarged"),
        ("Minimal, if any, effusion", "minimal if any effusion"),
        ("T5 - T6", "t5 - t6"),
    ],
)
def test_plain_sentence(sentence, plain):
    assert plain_sentence(sentence) == plain


def test_a_question_mark_before_a_word_stays_at_it():
    assert join_questions("Opacity, ? pneumonia. Edema? No.") == "Opacity, ?pneumonia. Edema? No."
