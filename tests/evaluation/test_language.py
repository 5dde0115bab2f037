import json
import re
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from xr2text.evaluation import language
from xr2text.evaluation.language import (
    PROTOCOLS,
    R2GEN_RULES,
    R2GenVocabulary,
    bleu_from_statistics,
    clean_r2gen,
    language_intervals,
    score_language,
)

ANNOTATION = Path(__file__).parents[2] / "data" / "iu_xray" / "annotation.json"

REFERENCES = [
    "The heart is large. Both lungs are clear.",
    "Heart size is normal.. No effusion, no pneumothorax.",
    "There is a zebra/opacity at the left base. The heart is normal.",
    "1. Mild scoliosis. 2. The lungs are clear.",
]
PREDICTIONS = [
    "The heart is normal. Both lungs are clear.",
    "Heart size is normal. No pneumothorax.",
    "The heart is normal. No zebra/opacity.",
    "",
]
# What a reader of R2Gen's rules writes down by hand. The vocabulary of VOCABULARY_REPORTS leaves out "zebraopacity",
# "mild" and "scoliosis".
CLEAN_REFERENCES = [
    "the heart is large . both lungs are clear .",
    "heart size is normal . no effusion no pneumothorax .",
    "there is a zebraopacity at the left base . the heart is normal .",
    "mild scoliosis . the lungs are clear .",
]
KNOWN_REFERENCES = [
    *CLEAN_REFERENCES[:2],
    "there is a <unk> at the left base . the heart is normal .",
    "<unk> <unk> . the lungs are clear .",
]
CLEAN_PREDICTIONS = [
    "the heart is normal . both lungs are clear .",
    "heart size is normal . no pneumothorax .",
    "the heart is normal . no zebraopacity .",
    "",
]
VOCABULARY_REPORTS = [
    "The heart is large, normal. Both lungs are clear. Heart size. No effusion, no pneumothorax. There at a left base."
] * 3
VOCABULARY = R2GenVocabulary.from_reports(VOCABULARY_REPORTS)


def scored(protocol: str, references=REFERENCES, predictions=PREDICTIONS, **options):
    return score_language(references, predictions, protocol, VOCABULARY, meteor=False, **options)


def directly(references: list[str], predictions: list[str]) -> dict[str, float]:
    """pycocoevalcap's own scores of texts that are tokens already."""
    by_study = [{number: [text] for number, text in enumerate(texts)} for texts in (references, predictions)]
    bleu, _ = Bleu(4).compute_score(*by_study, verbose=0)
    scores = {f"bleu_{n}": score for n, score in enumerate(bleu, 1)}
    scores["rouge_l"], _ = Rouge().compute_score(*by_study)
    scores["cider"], _ = Cider().compute_score(*by_study)
    return scores | {"combined": bleu[3] + scores["rouge_l"]}


def invented_corpus(studies: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """References, and predictions that keep about two thirds of their sentences."""
    places = ["heart", "left lung", "right lung", "aorta", "spine", "left base", "right apex", "mediastinum"]
    states = ["is normal", "is clear", "is mildly enlarged", "shows no change", "shows an opacity"]
    generator = np.random.default_rng(seed)
    references, predictions = [], []
    for _ in range(studies):
        sentences = [f"The {generator.choice(places)} {generator.choice(states)}." for _ in range(5)]
        references.append(" ".join(sentences))
        predictions.append(" ".join(sentence for sentence in sentences if generator.random() < 0.67))
    return references, predictions


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """Puts a shell script named java on a path that holds nothing else."""

    def write(script: str) -> None:
        java = tmp_path / "java"
        java.write_text(script)
        java.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return write


needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="the fake java is a shell script")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The heart is normal. Lungs are clear.", "the heart is normal . lungs are clear ."),
        ("The heart is normal . lungs are clear .", "the heart is normal . lungs are clear ."),  # cleaned before
        ("1. Clear lungs. 2. Normal heart. 3. Old rib fracture.", "clear lungs . normal heart . old rib fracture ."),
        ("Two items 2. Normal heart", "two items . normal heart ."),
        ("Fracture of rib 1. The lungs are clear.", "fracture of rib the lungs are clear ."),
        ("6. Six stays.", "6 . six stays ."),
        ("Clear.. Normal... Stable....", "clear . normal . stable ."),
        ('The "heart" isn\'t big.', "the heart isnt big ."),
        ("Atelectasis and/or scar\\fibrosis.", "atelectasis andor scarfibrosis ."),
        ("Left-sided T9-T10 change, 3.5 cm.", "left-sided t9-t10 change 35 cm ."),
        ("Stable since XXXX. XXXX lungs.", "stable since xxxx . xxxx lungs ."),
        ("Is it [large] (or {not})? <Yes>; 50% half: a*b^c_d+e&f!", "is it large or not yes 50 half abcdef ."),
        ("Clear. . Normal.", "clear . . normal ."),
        ("Clear.\n Normal\theart.", "clear normal heart ."),
        ("", "."),
    ],
)
def test_cleaning_iu_xray_by_hand(text, cleaned):
    assert clean_r2gen(text) == cleaned


def test_cleaning_mimic_cxr_parts_lines_and_drops_underscores():
    text = "Compared to ___, the\nheart is  normal.\nThe lungs\n\n are clear......... ____ ."
    assert clean_r2gen(text, "mimic_cxr") == "compared to the heart is normal . the lungs are clear . ."
    assert clean_r2gen("Clear.\nNormal.", "mimic_cxr") == "clear . normal ."
    assert clean_r2gen("Clear.\nNormal.", "iu_xray") == "clear normal ."


def test_vocabulary_keeps_words_from_the_threshold_on():
    reports = ["Heart Heart heart.", "lungs, lungs.", "spine"]
    iu = R2GenVocabulary.from_reports(reports)
    assert iu.words == {"heart", "."}  # three full stops, one closing each report
    assert R2GenVocabulary.from_reports([reports[0]] * 3 + [reports[1]] * 4, "mimic_cxr").words == frozenset()
    assert R2GenVocabulary.from_reports([reports[0]] * 4 + [reports[1]] * 4, "mimic_cxr").words == {"heart"}


@pytest.mark.parametrize(
    ("protocol", "references", "predictions"),
    [
        ("r2gen", KNOWN_REFERENCES, CLEAN_PREDICTIONS),
        ("full", CLEAN_REFERENCES, CLEAN_PREDICTIONS),
        ("cased", REFERENCES, PREDICTIONS),
    ],
)
def test_scores_are_pycocoevalcaps_on_the_tokens_of_the_protocol(protocol, references, predictions, capfd):
    result = scored(protocol)
    expected = directly(references, predictions)
    scores = asdict(result.scores)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert result.scores.combined == result.scores.bleu_4 + result.scores.rouge_l
    assert all(value is None or type(value) is float for value in scores.values())
    assert capfd.readouterr().out == ""


def test_the_protocols_differ():
    bleu = {protocol: scored(protocol).scores.bleu_4 for protocol in PROTOCOLS}
    assert len(set(bleu.values())) == 3
    assert bleu["cased"] < bleu["full"]  # "clear." is not "clear ."


@pytest.mark.parametrize("dataset", R2GEN_RULES)
def test_references_and_predictions_are_cut_to_r2gens_lengths(dataset):
    longest = {"iu_xray": 59, "mimic_cxr": 99}[dataset]
    vocabulary = R2GenVocabulary.from_reports(["heart"] * 10, dataset)
    words = " ".join(["heart"] * (longest + 20))
    options = {"vocabulary": vocabulary, "meteor": False}
    *_, prediction_words, reference_words = score_language([words], [words], "r2gen", **options).bleu_statistics[0]
    assert (reference_words, prediction_words) == (longest, longest + 1)
    *_, prediction_words, reference_words = score_language([words], [words], "full", **options).bleu_statistics[0]
    assert (reference_words, prediction_words) == (longest + 21, longest + 21)


def test_rare_words_of_a_reference_match_nothing_but_a_written_unk():
    def right(prediction: str, protocol: str) -> float:
        return scored(protocol, ["A zebra."], [prediction]).bleu_statistics[0][4]

    assert right("A zebra.", "full") == 3
    assert right("A zebra.", "r2gen") == 2  # the reference has <unk> in its place
    assert right("A <unk>.", "r2gen") == 3
    assert right("A <unk>.", "full") == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_perfect_prediction_scores_one(protocol):
    known = [*VOCABULARY_REPORTS[:1], "The heart is large. Both lungs are clear."]
    scores = scored(protocol, known, known).scores
    assert [scores.bleu_1, scores.bleu_4, scores.rouge_l] == pytest.approx([1.0] * 3, abs=1e-6)
    assert scores.cider > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("nothing", ["", " \n "])
def test_empty_predictions_score_nothing(protocol, nothing):
    result = scored(protocol, predictions=[nothing] * 4)
    scores = result.scores
    assert [scores.bleu_1, scores.bleu_4, scores.rouge_l, scores.cider] == pytest.approx([0.0] * 4, abs=1e-9)
    intervals = language_intervals(result, samples=20)
    assert np.isfinite(list(intervals.values())).all()


def test_meteor_left_out_is_none_with_a_note():
    result = scored("full")
    assert result.scores.meteor is None
    assert result.meteor_note == "not asked for"


def test_without_java_meteor_is_none_and_the_rest_is_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = score_language(REFERENCES, PREDICTIONS, "full")
    assert result.scores.meteor is None
    assert result.meteor_note.startswith("no Java")
    assert result.scores.bleu_4 == scored("full").scores.bleu_4


@needs_shell
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\nexit 0\n", "exit status 0"),
        ("#!/bin/sh\necho no room for the heap >&2\nexit 3\n", r"exit status 3.*no room for the heap"),
        ("#!/bin/sh\necho 'Final score: 0.9'\nkill -9 $$\n", "exit status -9"),
        ("#!/nowhere/sh\n", "no Java"),
    ],
)
def test_a_failing_java_gives_none_with_its_reason(fake_java, script, reason):
    fake_java(script)
    result = score_language(REFERENCES, PREDICTIONS, "full")
    assert result.scores.meteor is None
    assert re.search(reason, result.meteor_note)


@needs_shell
def test_a_java_that_hangs_is_ended(fake_java, monkeypatch):
    fake_java("#!/bin/sh\n/bin/sleep 10\n")
    monkeypatch.setattr(language, "METEOR_SECONDS", 0.2)
    start = time.monotonic()
    result = score_language(REFERENCES, PREDICTIONS, "full")
    assert time.monotonic() - start < 5
    assert result.scores.meteor is None
    assert "did not finish" in result.meteor_note


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_is_that_of_pycocoevalcaps_own_class():
    references = [*CLEAN_REFERENCES, "the heart ; left | base – é ."]
    predictions = [*CLEAN_PREDICTIONS, "the heart ; left | base – e ."]
    result = score_language(references, predictions, "cased")
    assert result.meteor_note is None
    # The score by pycocoevalcap.meteor.meteor.Meteor; to start that here too would take as long again.
    assert result.scores.meteor == pytest.approx(0.3544514505784984, abs=1e-12)


@pytest.mark.parametrize("predictions", [PREDICTIONS, REFERENCES, [""] * 4, ["the " * 40] * 4])
def test_bleu_from_the_sum_of_the_statistics_is_corpus_bleu(predictions):
    result = scored("full", predictions=predictions)
    cleaned = [clean_r2gen(text) if text else "" for text in predictions]
    expected = directly(CLEAN_REFERENCES, cleaned)
    bleu = bleu_from_statistics(result.bleu_statistics.sum(axis=0, keepdims=True))
    assert bleu.shape == (1, 4)
    assert bleu[0] == pytest.approx([expected[f"bleu_{n}"] for n in (1, 2, 3, 4)], abs=1e-9)


def test_a_resample_is_scored_as_the_studies_that_it_holds():
    references, predictions = invented_corpus(30)
    result = scored("full", references, predictions)
    drawn = np.random.default_rng(3).integers(30, size=30)
    expected = scored("full", [references[i] for i in drawn], [predictions[i] for i in drawn]).scores
    bleu = bleu_from_statistics(result.bleu_statistics[drawn].sum(axis=0, keepdims=True))[0]
    assert bleu == pytest.approx([expected.bleu_1, expected.bleu_2, expected.bleu_3, expected.bleu_4], abs=1e-9)
    assert result.rouge_l[drawn].mean() == pytest.approx(expected.rouge_l, abs=1e-9)


def test_intervals_contain_the_score_shrink_with_studies_and_repeat_with_the_seed():
    few, many = (scored("full", *invented_corpus(studies)) for studies in (25, 400))
    wide, narrow = language_intervals(few), language_intervals(many)
    assert set(wide) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "combined"}
    for result, intervals in ((few, wide), (many, narrow)):
        for name, (low, high) in intervals.items():
            assert low < asdict(result.scores)[name] < high
    for name in wide:
        assert np.diff(narrow[name]) < 0.5 * np.diff(wide[name]), name
    assert language_intervals(few) == wide
    assert language_intervals(few, seed=1) != wide


@pytest.mark.skipif(not ANNOTATION.is_file(), reason="the Indiana collection is not here")
def test_r2gens_vocabulary_of_iu_xray_has_760_entries():
    annotation = json.loads(ANNOTATION.read_text())
    vocabulary = R2GenVocabulary.from_reports(study["report"] for study in annotation["train"])
    assert len(vocabulary.words) == 759  # and <unk>


@pytest.mark.skipif(not ANNOTATION.is_file(), reason="the Indiana collection is not here")
def test_a_constant_normal_report_scores_as_published_systems_do_on_iu_xray():
    annotation = json.loads(ANNOTATION.read_text())
    vocabulary = R2GenVocabulary.from_reports(study["report"] for study in annotation["train"])
    references = [study["report"] for study in annotation["val"]]
    constant = (
        "The heart is normal in size. The mediastinum is unremarkable. The lungs are clear. There is no pleural "
        "effusion. There is no pneumothorax. The osseous structures are intact."
    )
    scores = score_language(references, [constant] * len(references), "r2gen", vocabulary, meteor=False).scores
    assert 0.3 < scores.bleu_1 < 0.55
    assert 0.1 < scores.bleu_4 < 0.2
    assert 0.3 < scores.rouge_l < 0.45
