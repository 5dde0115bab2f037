"""The closed language of the phantoms' reports."""

import numpy as np

from benchmarks.phantom_findings import findings_in, unknown_sentences
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS, TOPICS


def test_reports_read_back_exactly():
    phantoms = [draw_phantom(seed, 32) for seed in range(100)]
    for phantom in phantoms:
        both = f"{phantom.findings_text} {phantom.impression_text}"
        for text in (phantom.findings_text, phantom.impression_text, both, both.lower().replace(".", " .")):
            assert findings_in(text) == phantom.findings
            assert unknown_sentences(text) == []
    seen = {phantom.findings for phantom in phantoms}
    assert 0.33 < np.mean([not phantom.findings for phantom in phantoms]) < 0.47
    assert frozenset().union(*seen) == set(FINDINGS) and max(map(len, seen)) == 3
    assert not any({f"{s} pleural effusion", f"{s} pneumothorax"} <= found for found in seen for s in ("right", "left"))


def test_reading_a_generated_text():
    text = (
        "There is cardiomegaly. The heart is made of glass. There is no pleural effusion. Bilateral pleural effusions."
    )
    assert findings_in(text) == {"cardiomegaly", "right pleural effusion", "left pleural effusion"}
    assert unknown_sentences(text) == ["The heart is made of glass."]
    assert findings_in("") == frozenset() and unknown_sentences(" . ") == []


def test_the_language_has_paraphrases():
    assert all(len(topic.absent) >= 2 for topic in TOPICS)
    assert {finding for topic in TOPICS for finding in topic.findings} == set(FINDINGS)
    written = {draw_phantom(seed, 32, ["right pneumothorax"]).findings_text for seed in range(12)}
    assert len(written) > 8
