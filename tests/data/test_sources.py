import json

import cv2
import numpy as np
import pytest

from xr2text.config import DataConfig
from xr2text.data.sources import MASK_FOLDERS, DataError, load_studies, masked_films
from xr2text.phantom.text import FINDINGS
from xr2text.text.findings.table import FINDING_NAMES

REPORTS = """uid,MeSH,Problems,image,indication,comparison,findings,impression
1,x,Cardiomegaly;Pleural Effusion,Chest,cough,None.,The heart is normal. The XXXX are clear.,No acute disease.
2,normal,normal,Chest,,,,"1. No effusion. 2. Clear lungs"
3,x,no indexing,Chest,,,Small left effusion.,
4,normal,normal,Chest,,,No image of this one.,None.
"""
PROJECTIONS = """uid,filename,projection
1,1_lat.png,Lateral
1,1_front.png,Frontal
2,2_a.png,Frontal
2,2_b.png,Frontal
3,3_lat.png,Lateral
"""
ANNOTATION = {
    "train": [{"id": "CXR1_IM-1", "uid": "1", "report": "Heart normal.. Lungs clear", "image_path": ["1_front.png"]}],
    "val": [{"id": "CXR2_IM-2", "uid": "2", "report": "No effusion.", "image_path": ["2_a.png", "2_b.png"]}],
    "test": [],
}


@pytest.fixture
def root(tmp_path):
    """An Indiana folder in both layouts."""
    (tmp_path / "images").mkdir()
    for line in PROJECTIONS.splitlines()[1:]:
        cv2.imwrite(str(tmp_path / "images" / line.split(",")[1]), np.zeros((80, 70), np.uint8))
    (tmp_path / "indiana_reports.csv").write_text(REPORTS)
    (tmp_path / "indiana_projections.csv").write_text(PROJECTIONS)
    (tmp_path / "annotation.json").write_text(json.dumps(ANNOTATION))
    return tmp_path


def load(root, source="indiana", **options):
    return load_studies(DataConfig(source=source, root=str(root), **options), 64)


def by_id(splits):
    return {study.id: study for studies in splits.values() for study in studies}


def test_indiana_joins_reports_and_views(root):
    studies = by_id(load(root))
    assert set(studies) == {"1", "2", "3"}  # the fourth has no image
    one = studies["1"]
    assert (one.findings, one.impression) == ("The heart is normal.", "No acute disease.")
    assert (one.indication, one.comparison) == ("cough", "None.")
    assert [(image.path.name, image.view) for image in one.images] == [
        ("1_front.png", "frontal"), ("1_lat.png", "lateral"),
    ]  # fmt: skip
    assert [image.path.name for image in one.frontal_images] == ["1_front.png"]
    assert len(studies["2"].frontal_images) == 2 and studies["2"].impression == "No effusion. Clear lungs."
    assert studies["3"].frontal_images == ()
    assert set(one.labels) == set(FINDING_NAMES) and one.labels["no finding"] == 1  # as the report has it
    assert studies["3"].labels["pleural effusion"] == 1 and studies["2"].labels["pleural effusion"] == 0
    assert one.images[0].read().pixels.shape == (80, 70)


def test_labels_may_be_those_of_the_people_who_indexed_the_collection(root):
    studies = by_id(load(root, labels="indexed"))
    assert studies["1"].labels == {"cardiomegaly": 1, "pleural effusion": 1}
    assert studies["2"].labels == {"cardiomegaly": 0, "pleural effusion": 0} and studies["3"].labels == {}


def test_films_have_labels_without_reports_and_outlines_without_either(root, tmp_path_factory):
    films, masks = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("masks")
    (films / "labels.csv").write_text(
        "image,findings,view,patient\na.png,Effusion|Mass,PA,7\nb.png,Infiltration,AP,8\nc.png,No Finding,PA,9\n"
    )
    for folder in (films / "images", masks / "images", *(masks / "masks" / name for name in MASK_FOLDERS)):
        folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        cv2.imwrite(str(films / "images" / f"{name}.png"), np.zeros((80, 70), np.uint8))
    for folder in (masks / "images", *(masks / "masks" / name for name in MASK_FOLDERS)):
        cv2.imwrite(str(folder / "x.png"), np.zeros((80, 70), np.uint8))
    options = {"films": str(films), "region_masks": str(masks)}
    splits = load(root, split_file=str(root / "annotation.json"), **options)
    more = {study.id: study for study in splits["train"] if study.id.startswith(("film", "masked"))}
    assert set(more) == {"film-a", "film-b", "film-c", "masked-x"} and not any(one.findings for one in more.values())
    present = {name for name, value in more["film-a"].labels.items() if value}
    assert present == {"pleural effusion", "mass", "lung lesion"} and more["film-a"].labels["edema"] == 0
    assert more["film-b"].labels == {}  # the word says nothing certain
    assert more["film-c"].labels and not any(more["film-c"].labels.values()) and more["film-a"].patient == "film-7"
    assert [mask.parent.name for mask in more["masked-x"].masks] == list(MASK_FOLDERS)
    held_out = DataConfig("phantom", phantom_train=1, phantom_val=1, region_masks=str(masks), mask_holdout=1)
    assert [study.id for study in load_studies(held_out, 32)["train"]] == ["phantom-0"]
    assert [study.id for study in masked_films(held_out, held_out=True)] == ["masked-x"]
    (masks / "masks" / "heart" / "x.png").unlink()
    with pytest.raises(DataError, match=r"expected the mask .*heart/x\.png"):
        load(root, **options)
    (films / "images" / "c.png").unlink()
    with pytest.raises(DataError, match=r"lists c\.png"):
        load(root, films=str(films))


def test_the_kaggle_folder_inside_a_folder_is_found(root):
    (root / "images").rename(root / "images_normalized")
    (root / "images").mkdir()
    (root / "images_normalized").rename(root / "images" / "images_normalized")
    assert len(by_id(load(root))) == 3


def test_a_split_file_sets_studies_apart(root):
    splits = load(root, split_file=str(root / "annotation.json"))
    assert [study.id for study in splits["val"]] == ["2"]
    assert [study.id for study in splits["train"]] == ["1", "3"]


def test_without_a_split_file_the_split_is_the_studys_own(root):
    text = "".join(f"{uid},,,,,,Clear.,Normal.\n" for uid in range(10, 510))
    (root / "indiana_reports.csv").write_text(REPORTS.splitlines()[0] + "\n" + text)
    (root / "indiana_projections.csv").write_text(
        "uid,filename,projection\n" + "".join(f"{uid},2_a.png,Frontal\n" for uid in range(10, 510))
    )
    first, again, other = load(root), load(root), load(root, seed=1)
    names = {split: {study.id for study in studies} for split, studies in first.items()}
    assert names == {split: {study.id for study in studies} for split, studies in again.items()}
    assert names["val"] != {study.id for study in other["val"]}
    assert 25 < len(names["val"]) < 80 and 25 < len(names["test"]) < 80 and len(names["train"]) > 340


def test_r2gen_takes_its_own_split_and_the_impressions_beside_it(root):
    splits = load(root, "r2gen")
    (one,) = splits["train"]
    assert (one.id, one.findings, one.impression) == ("CXR1_IM-1", "Heart normal. Lungs clear.", "No acute disease.")
    assert [image.view for image in splits["val"][0].images] == ["frontal", "frontal"]
    assert splits["test"] == []


def test_r2gen_alone_takes_the_first_image(root):
    (root / "indiana_reports.csv").unlink()
    splits = load(root, "r2gen")
    (two,) = splits["val"]
    assert two.impression == "" and [image.path.name for image in two.frontal_images] == ["2_a.png"]


def test_r2gen_as_published_has_no_uid(root):
    """Its ids hold the collection's number and its images lie in folders of their own."""
    (root / "images" / "CXR1_IM-0001").mkdir()
    (root / "images" / "1_front.png").rename(root / "images" / "CXR1_IM-0001" / "0.png")
    item = {"id": "CXR1_IM-0001", "report": "Clear.", "image_path": ["CXR1_IM-0001/0.png"], "split": "train"}
    (root / "annotation.json").write_text(json.dumps({"train": [item], "val": [], "test": []}))
    (root / "images" / "1_front.png").write_bytes((root / "images" / "2_a.png").read_bytes())
    (one,) = load(root, "r2gen")["train"]
    assert (one.patient, one.impression) == ("1", "No acute disease.") and one.labels["no finding"] == 1
    assert len(one.frontal_images) == 1


def test_a_damaged_image_is_named(root):
    (root / "images" / "1_front.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    study = by_id(load(root))["1"]
    with pytest.raises(DataError, match=r"1_front\.png: This PNG file is damaged"):
        study.images[0].read()


def test_phantoms_are_studies_too():
    splits = load_studies(DataConfig(source="phantom", phantom_train=5, phantom_val=3), 64)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [5, 3, 0]
    study = splits["train"][0]
    assert study.findings and study.impression and study.images[0].read().pixels.shape == (64, 64)
    assert all(set(study.labels) == set(FINDINGS) for study in splits["train"])
    seeds = [image.seed for studies in splits.values() for study in studies for image in study.images]
    assert len(set(seeds)) == 8


@pytest.mark.parametrize(
    ("damage", "source", "words"),
    [
        (lambda root: (root / "indiana_reports.csv").unlink(), "indiana", "indiana_reports.csv"),
        (lambda root: (root / "indiana_projections.csv").write_text("uid,f\n1,a\n"), "indiana", "no column 'filename'"),
        (lambda root: (root / "images" / "2_b.png").unlink(), "indiana", "2_b.png is listed"),
        (lambda root: (root / "annotation.json").unlink(), "r2gen", "annotation.json"),
        (lambda root: (root / "annotation.json").write_text("{"), "r2gen", "not valid JSON"),
        (lambda root: (root / "annotation.json").write_text('{"train": [{"id": 1}]}'), "r2gen", "has no 'image_path'"),
        (lambda root: (root / "annotation.json").write_text('{"training": []}'), "r2gen", "train, val and test"),
        (lambda root: (root / "images").rename(root / "pictures"), "r2gen", "expected the images"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(root, damage, source, words):
    damage(root)
    with pytest.raises(DataError, match=words):
        load(root, source)


def test_a_study_in_two_splits_is_named(root):
    doubled = ANNOTATION | {"test": ANNOTATION["train"]}
    (root / "annotation.json").write_text(json.dumps(doubled))
    with pytest.raises(DataError, match="CXR1_IM-1"):
        load(root, "r2gen")


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.root"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.root"):
        load_studies(DataConfig(source="indiana"), 64)
