from collections import Counter

import numpy as np
import pytest

from xr2text.evaluation import baselines
from xr2text.evaluation.baselines import best_constant, retrieve

NORMAL = "the lungs are clear . the heart is normal ."


def overlap(references, predictions):
    """Mean share of a reference's words that its prediction has, less what it has beside them."""
    values = []
    for reference, prediction in zip(references, predictions, strict=True):
        wanted, given = Counter(reference.split()), Counter(prediction.split())
        values.append((wanted & given).total() / wanted.total() - 0.1 * (given - wanted).total())
    return float(np.mean(values))


def test_the_constant_is_the_text_that_scores_best_on_the_references():
    candidates = ["a nodule is seen .", NORMAL, "", "the lungs are clear .", NORMAL, "cardiomegaly ."]
    assert best_constant(candidates, [NORMAL] * 3 + ["a nodule is seen ."], overlap) == NORMAL
    assert best_constant(candidates, ["a nodule is seen ."] * 2 + [NORMAL], overlap) == "a nodule is seen ."


def test_only_finalists_are_scored_and_the_commonest_is_among_them(monkeypatch):
    monkeypatch.setattr(baselines, "CENTRAL", 1)
    monkeypatch.setattr(baselines, "FREQUENT", 1)
    scored = []

    def score(references, predictions):
        assert len(set(predictions)) == 1 and len(predictions) == len(references)
        scored.append(predictions[0])
        return overlap(references, predictions)

    rare = [f"word{number} stands alone ." for number in range(20)]
    common = ["nothing in common"] * 3
    chosen = best_constant([*rare, *common, NORMAL], [NORMAL], score)
    assert chosen == NORMAL and scored == ["nothing in common", NORMAL]


def test_of_equal_constants_the_first_wins_every_time():
    candidates = ["clear lungs .", "lungs clear .", "lungs clear ."]
    assert {best_constant(candidates, ["lungs ."], lambda *_: 1.0) for _ in range(3)} == {candidates[0]}


@pytest.mark.parametrize(
    ("candidates", "references"), [(["", " "], [NORMAL]), (["..."], [NORMAL]), ([NORMAL], ["", ""]), ([NORMAL], ["."])]
)
def test_a_constant_needs_texts(candidates, references):
    with pytest.raises(ValueError, match="there is none"):
        best_constant(candidates, references, overlap)


def test_retrieval_takes_the_nearest_direction():
    train = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    queries = np.array([[0.1, 5], [-2, 0.3], [0.2, -0.1]], np.float32)
    assert retrieve(train, queries, list("abcd"), list("xyz")).tolist() == [1, 2, 0]


def test_retrieval_standardises_by_the_train_studies():
    """A feature of large numbers does not drown one of small numbers, and a constant one counts nothing."""
    train = np.array([[1000, 0.1, 7.1], [3000, 0.1, 7.1], [1000, 0.3, 7.1], [3000, 0.3, 7.1]], np.float32)
    assert retrieve(train, np.array([[2100, 0.38, 7.1]], np.float32), list("abcd"), ["x"]).tolist() == [3]
    assert retrieve(train, np.array([[1100, 0.28, 7.1]], np.float32), list("abcd"), ["x"]).tolist() == [2]


def test_a_tie_goes_to_the_first():
    random = np.random.default_rng(0)
    train = np.repeat(random.normal(size=(50, 33)).astype(np.float32), 3, axis=0)
    taken = retrieve(train, train[1::3], [str(i) for i in range(150)], ["x"] * 50)
    assert taken.tolist() == list(range(0, 150, 3))


def test_the_same_patient_is_never_retrieved():
    random = np.random.default_rng(1)
    train = random.normal(size=(12, 5)).astype(np.float32)
    patients = [f"patient {index // 2}" for index in range(12)]
    taken = retrieve(train, train, patients, patients)
    assert all(patients[index] != patient for index, patient in zip(taken, patients, strict=True))
    free = retrieve(train, train, patients, ["x"] * 12)
    assert free.tolist() == list(range(12))
    with pytest.raises(ValueError, match="of patient 'a'"):
        retrieve(train[:2], train[:1], ["a", "a"], ["a"])


def test_chunks_do_not_change_what_is_retrieved(monkeypatch):
    random = np.random.default_rng(2)
    train, queries = random.normal(size=(40, 6)), random.normal(size=(25, 6))
    patients = [str(index) for index in range(40)]
    whole = retrieve(train, queries, patients, ["x"] * 25)
    monkeypatch.setattr("xr2text.evaluation.baselines.SIMILARITIES", 3 * 40)
    assert retrieve(train, queries, patients, ["x"] * 25).tolist() == whole.tolist()


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="infinity"):
        retrieve(np.full((2, 3), np.inf), np.ones((1, 3)), ["a", "b"], ["x"])
    with pytest.raises(ValueError, match="NaN"):
        retrieve(np.eye(3), np.full((1, 3), np.nan), list("abc"), ["x"])
