"""Small copies of the layouts beyond Kaggle's and R2Gen's, in their real shapes."""

import json
import zipfile

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mimic_tree import make_tree

from xr2text.config import DataConfig
from xr2text.data.sources import DataError, Faults, UnreadableImageError, load_studies
from xr2text.data.sources.hub import TableImage, shuffled_splits

OPENI_REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><pmcId id="{uid}"/>
<MedlineCitation Owner="Indiana University"><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText><AbstractText Label="IMPRESSION">No disease &amp; no XXXX.
</AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>Pleural Effusion/left/small</major><major>Nodule</major></MeSH>
{images}</eCitation>"""


def picture(size=(80, 70)) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8))[1].tobytes()


def load(source, root, **options):
    return load_studies(DataConfig(source, str(root), **options), 64)


def by_id(splits):
    return {study.id: study for studies in splits.values() for study in studies}


# Open-i ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def openi(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "png").mkdir()
    for uid, names in {
        "1": ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"),
        "22": ("CXR22_IM-0840-1001",),
        "3": (),
    }.items():
        images = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in names)
        text = OPENI_REPORT.format(uid=uid, findings="Small left effusion. XXXX heart.", images=images)
        (tmp_path / "ecgen-radiology" / f"{uid}.xml").write_text(text)
        for name in names:
            (tmp_path / "png" / f"{name}.png").write_bytes(picture())
    return tmp_path


def test_openi_reads_the_original_reports(openi):
    studies = by_id(load("openi", openi))
    assert set(studies) == {"1", "22"}  # the third has no image
    one = studies["1"]
    assert (one.findings, one.impression) == ("Small left effusion.", "")  # de-identified sentences are left out
    assert (one.indication, one.comparison, one.source_findings[-11:]) == ("Cough", "None.", "XXXX heart.")
    assert [(image.path.name[-8:], image.view) for image in one.images] == [("3001.png", None), ("4001.png", None)]
    assert len(one.frontal_images) == 1 and one.images[0].read().pixels.shape == (80, 70)
    assert by_id(load("openi", openi, labels="indexed"))["1"].labels == {"nodule": 1, "pleural effusion": 1}


def test_openi_takes_views_from_kaggles_table_and_dicom_names_without_prefix(openi):
    (openi / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Lateral\n1,1_IM-0001-4001.dcm.png,Frontal\n"
        "22,22_IM-0840-1001.dcm.png,Frontal\n"
    )
    (openi / "png" / "CXR22_IM-0840-1001.png").rename(openi / "22_IM-0840-1001.dcm")
    for name in ("3001", "4001"):
        (openi / "png" / f"CXR1_1_IM-0001-{name}.png").rename(openi / f"1_IM-0001-{name}.dcm")
    studies = by_id(load("openi", openi))
    assert studies["22"].images[0].view == "frontal"
    assert [(image.path.name, image.view) for image in studies["1"].images] == [
        ("1_IM-0001-4001.dcm", "frontal"), ("1_IM-0001-3001.dcm", "lateral"),
    ]  # fmt: skip


def test_openi_names_what_is_missing(openi, tmp_path_factory):
    (openi / "png" / "CXR22_IM-0840-1001.png").unlink()
    with pytest.raises(DataError, match=r"22\.xml lists CXR22_IM-0840-1001"):
        load("openi", openi)
    faults = Faults(strict=False)
    assert len(by_id(load_studies(DataConfig("openi", str(openi)), 64, faults))) == 2
    assert [kind for kind, _ in faults.found] == ["missing image"]
    (openi / "ecgen-radiology" / "3.xml").write_text("<eCitation>")
    with pytest.raises(DataError, match=r"3\.xml is not valid XML"):
        load("openi", openi)
    with pytest.raises(DataError, match=r"NLMCXR_reports\.tgz"):
        load("openi", tmp_path_factory.mktemp("empty"))


# MIMIC-CXR ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mimic(tmp_path):
    return make_tree(tmp_path / "mimic-cxr-jpg", 30)


def test_mimic_has_its_split_views_and_sections(mimic):
    splits = load("mimic_cxr", mimic)
    assert {split: len(studies) for split, studies in splits.items()} == {"train": 24, "val": 3, "test": 3}
    studies = by_id(splits)
    one = studies["50000007"]
    assert [image.view for image in one.images] == ["frontal", "lateral"] and one.patient == "12000000"
    assert studies["50000006"].patient == one.patient
    assert one.findings and one.impression and one.indication == "Cough. ___." and "IMPRESSION" not in one.findings
    assert all(study.findings and study.impression for study in studies.values())
    assert one.images[0].read().pixels.shape == (96, 80) and one.labels


def test_mimic_reads_reports_beside_the_images_or_still_packed(mimic):
    before = by_id(load("mimic_cxr", mimic))
    with zipfile.ZipFile(mimic / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((mimic / "files").rglob("*.txt")):
            archive.write(path, path.relative_to(mimic))
            path.unlink()
    assert by_id(load("mimic_cxr", mimic)) == before
    with zipfile.ZipFile(mimic / "mimic-cxr-reports.zip") as archive:
        archive.extractall(mimic.parent / "mimic-cxr-reports")
    (mimic / "mimic-cxr-reports.zip").unlink()
    assert by_id(load("mimic_cxr", mimic)) == before
    for path in (mimic.parent / "mimic-cxr-reports").rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"expected MIMIC-CXR's reports"):
        load("mimic_cxr", mimic)


def test_reading_mimic_opens_no_image(mimic):
    for path in (mimic / "files").rglob("*.jpg"):
        path.unlink()
    study = load("mimic_cxr", mimic)["val"][0]
    with pytest.raises(UnreadableImageError, match=r"\.jpg: The file does not exist"):
        study.images[0].read()


@pytest.mark.parametrize("same_study", [True, False])
def test_a_patient_or_study_in_two_splits_is_named(mimic, same_study):
    path = mimic / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(path, dtype=str)
    rows = table.index[table["study_id"] == "50000007"]
    table.loc[rows[:1] if same_study else rows, "split"] = "test"
    table.to_csv(path, index=False)
    words = r"study '50000007' stands in" if same_study else r"patient '12000000' stands in two splits"
    with pytest.raises(DataError, match=words):
        load("mimic_cxr", mimic)


def test_mimic_names_what_is_missing(mimic):
    path = mimic / "mimic-cxr-2.0.0-metadata.csv.gz"
    pd.read_csv(path, dtype=str).drop(columns="ViewPosition").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"metadata\.csv\.gz has no column 'ViewPosition'"):
        load("mimic_cxr", mimic)
    path.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match=r"metadata\.csv\.gz is not a CSV file"):
        load("mimic_cxr", mimic)
    path.unlink()
    with pytest.raises(DataError, match=r"expected the table .*metadata\.csv\.gz"):
        load("mimic_cxr", mimic)


# Hugging Face datasets ------------------------------------------------------------------------------------------------


def hub_table(count, **columns):
    images = [{"bytes": picture((80, 70 + number)), "path": f"{number}.png"} for number in range(count)]
    text = [f"Heart normal {number}." for number in range(count)]
    return pa.table({"image": images, "findings": text, "impression": ["Normal."] * count} | columns)


def test_hub_reads_parquet_shards_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(hub_table(12), tmp_path / "data" / "train-00000-of-00002.parquet", row_group_size=5)
    pq.write_table(hub_table(8), tmp_path / "data" / "train-00001-of-00002.parquet")
    splits = load("hub", tmp_path)
    assert {split: len(studies) for split, studies in splits.items()} == {"train": 16, "val": 2, "test": 2}
    studies = by_id(splits)
    assert studies["row-07"].findings == "Heart normal 7." and studies["row-07"].impression == "Normal."
    assert studies["row-07"].images[0].read().width == 77 and studies["row-15"].images[0].read().width == 73
    assert studies["row-02"].frontal_images == studies["row-02"].images
    again = load("hub", tmp_path)
    assert again == splits and load("hub", tmp_path, seed=1) != splits


def test_hub_splits_as_the_earlier_project_counted():
    splits = shuffled_splits(30_633, 0)
    assert [splits.count(name) for name in ("train", "val", "test")] == [24_506, 3_063, 3_064]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_hub_reads_arrow_copies(tmp_path, kind):
    table = hub_table(10, split=["train"] * 7 + ["validation"] * 2 + ["test"], subject_id=list(range(10)))
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with new(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    splits = load("hub", tmp_path)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [7, 2, 1]
    assert splits["val"][1].patient == "8" and splits["val"][1].images[0].read().width == 78


def test_hub_keeps_a_patients_studies_together(tmp_path):
    pq.write_table(hub_table(60, subject_id=[number // 6 for number in range(60)]), tmp_path / "all.parquet")
    splits = load("hub", tmp_path / "all.parquet")
    patients = [{study.patient for study in studies} for studies in splits.values()]
    assert sum(map(len, patients)) == 10


def test_hub_names_what_is_wrong(tmp_path):
    pq.write_table(hub_table(3).drop_columns("impression"), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has no column 'impression'; it has image, findings"):
        load("hub", tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match=r"a\.parquet is not a parquet file"):
        load("hub", tmp_path)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"expected \*\.parquet or \*\.arrow files"):
        load("hub", tmp_path)
    with pytest.raises(DataError, match="no dataset of this name could be fetched"):
        load("hub", "nobody/nothing")  # the tests are offline
    table = hub_table(2)
    images = [{"bytes": b"\x89PNG\r\n\x1a\n broken", "path": None}, {"bytes": None, "path": "x.png"}]
    pq.write_table(table.set_column(0, "image", pa.array(images)), tmp_path / "b.parquet")
    for row, words in ((0, "row 0: This PNG file is damaged"), (1, "row 1: column 'image' holds no picture")):
        with pytest.raises(UnreadableImageError, match=words):
            TableImage(tmp_path / "b.parquet", row).read()


# A table of one's own -------------------------------------------------------------------------------------------------


ROWS = [
    {"id": "a", "image": "a1.png", "findings": "Clear.", "view": "PA", "patient": "p1", "split": "train"},
    {"id": "a", "image": "a2.png", "findings": "Clear.", "view": "LL", "patient": "p1", "split": "train"},
    {"id": "b", "image": "b.png", "findings": "Effusion.", "view": "", "patient": "p2", "split": "val"},
]


def write_manifest(folder, rows, name="manifest.csv"):
    for row in rows:
        (folder / row["image"]).write_bytes(picture())
    if name.endswith(".csv"):
        pd.DataFrame(rows).to_csv(folder / name, index=False)
    else:
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder / name


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "other.csv"])
def test_a_manifest_has_a_row_for_each_image(tmp_path, name):
    path = write_manifest(tmp_path, ROWS, name)
    splits = load("manifest", path if name == "other.csv" else tmp_path)
    (one,), (two,) = splits["train"], splits["val"]
    assert [(image.path.name, image.view) for image in one.images] == [("a1.png", "frontal"), ("a2.png", "lateral")]
    assert (one.patient, two.findings, two.images[0].view, two.impression) == ("p1", "Effusion.", None, "")


def test_json_lines_may_list_the_images_of_a_study(tmp_path):
    (tmp_path / "x.png").write_bytes(picture())
    item = {"id": 7, "image": ["x.png", "x.png"], "view": ["lateral", "frontal"], "findings": None}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(item))
    study = by_id(load("manifest", tmp_path))["7"]
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
def test_a_manifests_faults_are_named(tmp_path, change, words):
    write_manifest(tmp_path, [ROWS[0], ROWS[1] | change, ROWS[2]])
    with pytest.raises(DataError, match=words):
        load("manifest", tmp_path)


def test_a_manifests_missing_parts_are_named(tmp_path):
    with pytest.raises(DataError, match=r"expected .*manifest\.csv or .*manifest\.jsonl"):
        load("manifest", tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "image": "x.png"}')
    with pytest.raises(DataError, match="line 1 has no 'findings'"):
        load("manifest", tmp_path)
    (tmp_path / "manifest.csv").write_text("id,image,findings\na,x.png,Clear.\n")
    with pytest.raises(DataError, match=r"lists x\.png, which is not in"):
        load("manifest", tmp_path)
