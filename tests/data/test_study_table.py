"""A table gives the studies that it was made of, and its columns say the same."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from xr2text.data.curriculum import read_labels, read_report
from xr2text.data.study import ImageFile, PhantomImage, Study, TableImage
from xr2text.data.study_table import StudyTable, save_studies
from xr2text.text.findings.table import FINDING_NAMES, SIDED_FINDINGS

STUDIES = [
    Study("a", "p", (ImageFile(Path("a.png"), "frontal"), ImageFile(Path("b.dcm"))), "Mild cardiomegaly.", "Old."),
    Study("b", "q", (TableImage(Path("t.arrow"), "lateral", 3), PhantomImage(7, 64)), impression="Clear", split="val"),
    Study("c", "q", (ImageFile(Path("c.png")),), split="val", labels={"nodule": -1, "edema": 0}),
    Study("d", "r", (ImageFile(Path("d.png")),), masks=(Path("1.png"), Path("2.png"), Path("3.png"))),
    Study("e", "s", (), "Effusion.", "", "test", "Effusion .", {"edema": 1}),
]


@pytest.fixture(scope="module")
def table():
    return StudyTable.of(STUDIES)


def test_studies_come_back_as_they_were(table, tmp_path):
    assert list(table) == STUDIES and [table[place] for place in range(5)] == STUDIES and table[-1] == STUDIES[-1]
    with pytest.raises(IndexError):
        table[5]
    save_studies(tmp_path / "table.arrow", iter(STUDIES))
    assert list(StudyTable.open(tmp_path / "table.arrow")) == STUDIES
    assert len(StudyTable.of([])) == 0 and list(StudyTable.of([])) == []


def test_a_selection_is_a_table(table):
    splits = table.by_split()
    assert [splits[split].ids() for split in ("train", "val", "test")] == [["a", "d"], ["b", "c"], ["e"]]
    mask = np.array([True, False, False, True, True])
    assert table.select(mask).ids() == ["a", "d", "e"] and table.select(mask).select([2, 0]).ids() == ["e", "a"]
    assert list(splits["val"]) == STUDIES[1:3] and len(table.select([])) == 0


def test_columns_are_what_the_studies_say(table):
    assert table.text_lengths("findings").tolist() == [len(study.findings) for study in STUDIES]
    assert table.masked().tolist() == [False, False, False, True, False]
    read = [study.report.findings or study.report.impression for study in STUDIES]
    expected = [
        list(read_report(study.report)[1] if text else read_labels(study.labels))
        for study, text in zip(STUDIES, read, strict=True)
    ]
    assert table.difficulty().tolist() == expected
    assert table.label_names == ["edema", "nodule"] and table.select([4]).label_names == ["edema"]
    labels = table.labels(["nodule", "nonsense", "edema"])
    np.testing.assert_array_equal(labels[2:], [[-1, np.nan, 0], [np.nan] * 3, [np.nan, np.nan, 1]])
    assert np.isnan(labels[:2]).all()


def test_labels_are_read_in_reports_and_what_one_does_not_mention_is_absent():
    table = StudyTable.of(STUDIES, label_reports=True)
    assert table[0].labels == dict.fromkeys((*FINDING_NAMES, *SIDED_FINDINGS), 0) | {"cardiomegaly": 1}
    assert table[2].labels == STUDIES[2].labels and table[3].labels == {}  # without a report


def test_a_large_table_is_read_by_several_processes(monkeypatch):
    asked = []

    @contextmanager
    def worker_map(processes):
        asked.append(processes)
        yield map

    monkeypatch.setattr("xr2text.data.study_table.worker_map", worker_map)
    monkeypatch.setattr("xr2text.data.study_table.usable_cores", lambda: 7)
    whole = list(StudyTable.of(STUDIES, label_reports=True))
    monkeypatch.setattr("xr2text.data.study_table.BATCH", 2)
    monkeypatch.setattr("xr2text.data.study_table.MANY", 4)
    assert list(StudyTable.of(iter(STUDIES), label_reports=True)) == whole and asked == [1, 7]


def test_frontal_images_are_those_of_a_known_view_else_the_first_of_an_unknown_one():
    views = [("lateral", "frontal", "frontal"), ("lateral", None, None), ("lateral",), ()]
    studies = [Study("x", "x", tuple(ImageFile(Path("x"), view) for view in part)) for part in views]
    assert [study.frontal_places for study in studies] == [[1, 2], [1], [], []]
