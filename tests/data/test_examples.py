from pathlib import Path

import pytest

from xr2text.data.examples import MASK_REPEATS, examples_of, report_lengths
from xr2text.data.study import ImageFile, Study
from xr2text.data.study_table import StudyTable


def study(name, views, findings="", impression="", **options):
    images = tuple(ImageFile(Path(f"{name}{place}.png"), view) for place, view in enumerate(views))
    return Study(name, name, images, findings, impression, **options)


@pytest.fixture(scope="module")
def table():
    return StudyTable.of([
        study("two", ["lateral", "frontal", "frontal"], "Clear.", "Normal."),
        study("unknown", [None, None], "Clear."),
        study("lateral", ["lateral"], "Clear."),
        study("impression", ["frontal"], "", "Normal."),
        study("empty", ["frontal"]),
        study("labelled", ["frontal"], labels={"edema": 0}),
        study("outlined", ["frontal"], masks=(Path("1"), Path("2"), Path("3"))),
    ])  # fmt: skip


def shown(examples):
    return [(study.id, study.images.index(image)) for study, image in examples]


def test_training_shows_every_frontal_radiograph_from_which_something_is_learnt(table):
    examples = examples_of(table, training=True, impression=True)
    assert shown(examples) == [
        ("two", 1), ("two", 2), ("unknown", 0), ("impression", 0), ("labelled", 0), *[("outlined", 0)] * MASK_REPEATS,
    ]  # fmt: skip
    assert examples.empty == ("empty",) and shown([examples[1], examples[3]]) == [("two", 2), ("impression", 0)]
    assert report_lengths(examples, True).tolist()[:4] == [13, 13, 6, 7]
    without = examples_of(table, training=True, impression=False)
    assert without.empty == ("impression", "empty") and len(without) == len(examples) - 1


def test_evaluation_shows_every_study_once(table):
    examples = examples_of(table, training=False, impression=True)
    assert shown(examples) == [(name, int(name == "two")) for name in table.ids()]


def test_no_studies_are_no_examples():
    assert all(len(examples_of(StudyTable.of([]), training, True)) == 0 for training in (True, False))
