import json

import pytest

from xr2text.data.study import DataError
from xr2text.text.findings.table import FINDING_NAMES, SIDED_FINDINGS


def test_reports_and_views_are_joined(indiana, load_by_id):
    studies = load_by_id("indiana", indiana)
    assert set(studies) == {"1", "2", "3"}  # the fourth has no image
    first = studies["1"]
    assert (first.findings, first.impression) == ("The heart is normal.", "No acute disease.")
    assert [(image.path.name, image.view) for image in first.images] == [
        ("1_front.png", "frontal"), ("1_lat.png", "lateral"),
    ]  # fmt: skip
    assert [image.path.name for image in first.frontal_images] == ["1_front.png"]
    assert len(studies["2"].frontal_images) == 2 and studies["2"].impression == "No effusion. Clear lungs."
    assert studies["3"].frontal_images == ()
    assert (
        set(first.labels) == {*FINDING_NAMES, *SIDED_FINDINGS} and first.labels["no finding"] == 1
    )  # as the report has it
    assert studies["3"].labels["pleural effusion"] == 1 and studies["2"].labels["pleural effusion"] == 0
    assert first.images[0].read().pixels.shape == (80, 70)


def test_labels_are_those_of_the_people_who_indexed_the_collection_where_a_model_predicts_their_terms(
    indiana, load_by_id
):
    (indiana / "indiana_reports.csv").write_text(
        (indiana / "indiana_reports.csv").read_text().replace("Pleural Effusion", "Calcinosis")
    )
    studies = load_by_id("indiana", indiana, findings=["cardiomegaly", "calcinosis"])
    assert studies["1"].labels == {"cardiomegaly": 1, "calcinosis": 1}
    assert studies["2"].labels == {"cardiomegaly": 0, "calcinosis": 0} and studies["3"].labels == {}
    assert set(load_by_id("indiana", indiana, findings=["cardiomegaly"])["1"].labels) == {
        *FINDING_NAMES,
        *SIDED_FINDINGS,
    }


def test_the_kaggle_folder_inside_a_folder_is_found(indiana, load_by_id):
    (indiana / "images").rename(indiana / "images_normalized")
    (indiana / "images").mkdir()
    (indiana / "images_normalized").rename(indiana / "images" / "images_normalized")
    assert len(load_by_id("indiana", indiana)) == 3


def test_a_split_file_sets_studies_apart(indiana, load, annotation):
    splits = load("indiana", indiana, split_file=str(indiana / "annotation.json"))
    assert splits["val"].ids() == ["2"] and splits["train"].ids() == ["1", "3"]
    doubled = annotation | {"test": annotation["train"]}
    (indiana / "annotation.json").write_text(json.dumps(doubled))
    with pytest.raises(DataError, match="patient '1' stands in train and in test"):
        load("indiana", indiana, split_file=str(indiana / "annotation.json"))


def test_without_a_split_file_the_split_follows_from_the_patient(indiana, load, tmp_path):
    head = (indiana / "indiana_reports.csv").read_text().splitlines()[0]
    (indiana / "indiana_reports.csv").write_text(
        "\n".join([head, *(f"{uid},,,,,,Clear.,Normal." for uid in range(10, 310))])
    )
    (indiana / "indiana_projections.csv").write_text(
        "\n".join(["uid,filename,projection", *(f"{uid},2_a.png,Frontal" for uid in range(10, 310))])
    )
    splits = {split: studies.ids() for split, studies in load("indiana", indiana).items()}
    assert splits == {split: studies.ids() for split, studies in load("indiana", indiana).items()}
    assert splits["val"][:5] == ["11", "13", "15", "28", "29"]  # the same on every machine and in every version
    assert 15 < len(splits["val"]) < 50 and 15 < len(splits["test"]) < 50 and len(splits["train"]) > 200


def test_a_study_listed_twice_is_named(indiana, load):
    with (indiana / "indiana_reports.csv").open("a") as file:
        file.write("1,x,normal,Chest,,,Clear.,\n")
    with pytest.raises(DataError, match=r"indiana_reports\.csv lists study '1' more than once"):
        load("indiana", indiana)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "indiana_reports.csv").unlink(), "indiana_reports.csv"),
        (lambda root: (root / "indiana_projections.csv").write_text("uid,f\n1,a\n"), "no column 'filename'"),
        (lambda root: (root / "images").rename(root / "elsewhere"), "expected the images"),
    ],
)
def test_what_is_missing_is_named(indiana, load, damage, words):
    damage(indiana)
    with pytest.raises(DataError, match=words):
        load("indiana", indiana)
