import zipfile

import pandas as pd
import pytest

from xr2text.data.study import DataError, UnreadableImageError


def test_split_views_and_sections_are_read(tree, load, load_by_id):
    splits, studies = load("mimic_cxr", tree), load_by_id("mimic_cxr", tree)
    assert {split: len(part) for split, part in splits.items()} == {"train": 48, "val": 6, "test": 6}
    study = studies["50000013"]
    assert [image.view for image in study.images] == ["frontal", "lateral"] and study.patient == "12000000"
    assert studies["50000012"].patient == study.patient
    assert study.findings and study.impression
    assert "IMPRESSION" not in study.findings
    assert all(study.findings and study.impression for study in studies.values())
    assert study.images[0].read().pixels.shape == (96, 80) and study.labels


def test_reports_lie_beside_the_images_or_are_still_packed(tree, load_by_id):
    before = load_by_id("mimic_cxr", tree)
    with zipfile.ZipFile(tree / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((tree / "files").rglob("*.txt")):
            archive.write(path, path.relative_to(tree))
            path.unlink()
    assert load_by_id("mimic_cxr", tree) == before
    with zipfile.ZipFile(tree / "mimic-cxr-reports.zip") as archive:
        archive.extractall(tree.parent / "mimic-cxr-reports")
    (tree / "mimic-cxr-reports.zip").unlink()
    assert load_by_id("mimic_cxr", tree) == before
    for path in (tree.parent / "mimic-cxr-reports").rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"expected MIMIC-CXR's reports"):
        load_by_id("mimic_cxr", tree)


def test_no_image_is_opened(tree, load):
    for path in (tree / "files").rglob("*.jpg"):
        path.unlink()
    study = load("mimic_cxr", tree)["val"][0]
    with pytest.raises(UnreadableImageError, match=r"\.jpg: The file cannot be opened"):
        study.images[0].read()


@pytest.mark.parametrize("same_study", [True, False])
def test_a_patient_or_study_in_two_splits_is_named(tree, load, same_study):
    path = tree / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(path, dtype=str)
    rows = table.index[table["study_id"] == "50000013"]
    table.loc[rows[:1] if same_study else rows, "split"] = "test"
    table.to_csv(path, index=False)
    words = r"study '50000013' stands in" if same_study else r"patient '12000000' stands in two splits"
    with pytest.raises(DataError, match=words):
        load("mimic_cxr", tree)


def test_what_is_missing_is_named(tree, load):
    path = tree / "mimic-cxr-2.0.0-metadata.csv.gz"
    pd.read_csv(path, dtype=str).drop(columns="ViewPosition").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"metadata\.csv\.gz has no column 'ViewPosition'"):
        load("mimic_cxr", tree)
    path.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match=r"metadata\.csv\.gz is not a CSV file"):
        load("mimic_cxr", tree)
    path.unlink()
    with pytest.raises(DataError, match=r"expected the table .*metadata\.csv\.gz"):
        load("mimic_cxr", tree)
