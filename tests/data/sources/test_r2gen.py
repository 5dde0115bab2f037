import json

import pytest

from xr2text.data.study import DataError


def test_the_split_is_the_annotations_and_impressions_are_those_beside_it(indiana, load):
    splits = load("r2gen", indiana)
    (first,) = splits["train"]
    assert (first.id, first.findings) == ("CXR1_IM-1", "Heart normal. Lungs clear.")
    assert first.impression == "No acute disease."
    assert [image.view for image in splits["val"][0].images] == ["frontal", "frontal"]
    assert len(splits["test"]) == 0


def test_without_views_the_first_image_is_the_frontal_one(indiana, load):
    (indiana / "indiana_reports.csv").unlink()
    (second,) = load("r2gen", indiana)["val"]
    assert second.impression == "" and [image.path.name for image in second.frontal_images] == ["2_a.png"]


def test_the_published_annotation_has_no_uid(indiana, load):
    """Its ids hold the collection's number and its images lie in folders."""
    (indiana / "images" / "CXR1_IM-0001").mkdir()
    (indiana / "images" / "2_a.png").rename(indiana / "images" / "CXR1_IM-0001" / "0.png")
    item = {"id": "CXR1_IM-0001", "report": "Clear.", "image_path": ["CXR1_IM-0001/0.png"]}
    (indiana / "annotation.json").write_text(json.dumps({"train": [item], "val": [], "test": []}))
    (first,) = load("r2gen", indiana, findings=["cardiomegaly", "elsewhere"])["train"]
    assert (first.patient, first.impression) == ("1", "No acute disease.") and first.labels["cardiomegaly"] == 1
    assert len(first.frontal_images) == 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "annotation.json"),
        (lambda file: file.write_text("{"), "not valid JSON"),
        (lambda file: file.write_text('{"train": [{"id": 1}]}'), "has no 'image_path'"),
        (lambda file: file.write_text('{"training": []}'), "train, val and test"),
        (lambda file: file.write_text(file.read_text().replace("CXR2_IM-2", "CXR1_IM-1")), "CXR1_IM-1"),
        (
            lambda file: file.write_text(file.read_text().replace('"No effusion."', '["No", "effusion."]')),
            "entry 1 of val, study 'CXR2_IM-2': 'report' is a list",
        ),
        (
            lambda file: file.write_text(file.read_text().replace('["1_front.png"]', '"1_front.png"')),
            "entry 1 of train, study 'CXR1_IM-1': 'image_path' is not a list of texts",
        ),
        (lambda file: file.write_text('{"train": ["x"]}'), "entry 1 of train is not a JSON object"),
        (lambda file: file.write_text('{"train": {}}'), "train, val and test to lists"),
    ],
)
def test_what_is_wrong_is_named(indiana, load, damage, words):
    damage(indiana / "annotation.json")
    with pytest.raises(DataError, match=words):
        load("r2gen", indiana)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(indiana, load_by_id, encoding):
    before = load_by_id("r2gen", indiana)
    (indiana / "annotation.json").write_text((indiana / "annotation.json").read_text(), encoding=encoding)
    assert load_by_id("r2gen", indiana) == before
