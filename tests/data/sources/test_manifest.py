import json

import pandas as pd
import pytest

from xr2text.data.study import DataError

ROWS = [
    {"id": "a", "image": "a1.png", "findings": "Clear.", "view": "PA", "patient": "p1", "split": "train"},
    {"id": "a", "image": "a2.png", "findings": "Clear.", "view": "LL", "patient": "p1", "split": "train"},
    {"id": "b", "image": "b.png", "findings": "Effusion.", "view": "", "patient": "p2", "split": "val"},
]


@pytest.fixture
def write(tmp_path, png):
    def make(rows, name="manifest.csv"):
        for row in rows:
            (tmp_path / row["image"]).write_bytes(png())
        if name.endswith(".csv"):
            pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
        else:
            (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "table.csv"])
def test_a_row_is_an_image(tmp_path, write, load, name):
    path = write(ROWS, name)
    splits = load("manifest", path if name == "table.csv" else tmp_path)
    (first,), (second,) = splits["train"], splits["val"]
    assert [(image.path.name, image.view) for image in first.images] == [("a1.png", "frontal"), ("a2.png", "lateral")]
    assert (first.patient, second.findings, second.images[0].view, second.impression) == ("p1", "Effusion.", None, "")


def test_json_lines_may_list_the_images_of_a_study(tmp_path, png, load_by_id):
    (tmp_path / "x.png").write_bytes(png())
    item = {"id": 7, "image": ["x.png", "x.png"], "view": ["lateral", "frontal"], "findings": None}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(item))
    study = load_by_id("manifest", tmp_path)["7"]
    assert [image.view for image in study.images] == ["lateral", "frontal"] and study.findings == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "test"}, "study 'a' has two values of split: 'train' and 'test'"),
        ({"view": "oblique"}, "view is 'oblique'; accepted: frontal, pa, ap, lateral, ll"),
        ({"id": "c", "split": "val"}, "patient 'p1' stands in two splits: study 'a' in train, study 'c' in val"),
        ({"id": "c", "split": "dev"}, "split is 'dev'; accepted: train, val, test"),
    ],
)
def test_faults_are_named(tmp_path, write, load, change, words):
    write([ROWS[0], ROWS[1] | change, ROWS[2]])
    with pytest.raises(DataError, match=words):
        load("manifest", tmp_path)


def test_missing_parts_are_named(tmp_path, load):
    with pytest.raises(DataError, match=r"expected .*manifest\.csv or .*manifest\.jsonl"):
        load("manifest", tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "image": "x.png"}')
    with pytest.raises(DataError, match="line 1 has no 'findings'"):
        load("manifest", tmp_path)
    with pytest.raises(DataError, match=r"data\.root"):
        load("manifest", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl"])
def test_a_row_that_stands_there_twice_is_named(tmp_path, write, load, name):
    write([*ROWS, ROWS[1]], name)
    with pytest.raises(DataError, match=r"study 'a' lists .*a2\.png more than once"):
        load("manifest", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"findings": ["Clear.", "Normal."]}, "line 2: 'findings' is a list; accepted: text"),
        ({"image": ["b.png", ["c.png"]]}, "line 2: 'image' is a list"),
        ({"image": {"path": "b.png"}}, "line 2: 'image' is an object"),
        ({"id": True}, "line 2: 'id' is true or false"),
    ],
)
def test_values_of_another_type_are_named_by_row_and_column(tmp_path, load, change, words):
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, [ROWS[0], ROWS[2] | change])))
    with pytest.raises(DataError, match=words):
        load("manifest", tmp_path)


def test_a_separator_within_a_text_ends_no_line(tmp_path, load_by_id):
    rows = [row | {"findings": f"Clear.{mark}Normal."} for row, mark in zip(ROWS[1:], "\u2028\x85", strict=True)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "manifest.jsonl").write_text(text, encoding="utf-8-sig")
    assert {study.findings for study in load_by_id("manifest", tmp_path).values()} == {"Clear. Normal."}


def test_a_ragged_row_is_named_by_its_line(tmp_path, load):
    (tmp_path / "manifest.csv").write_text("id,image,findings\na,a.png,Clear.,\nb,b.png,Clear.,\n")
    with pytest.raises(DataError, match=r"manifest\.csv, line 2: 4 cells"):
        load("manifest", tmp_path)
