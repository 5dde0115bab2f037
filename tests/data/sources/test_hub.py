import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xr2text.data.sources.hub import shuffled_splits
from xr2text.data.study import DataError, TableImage, UnreadableImageError


@pytest.fixture
def table(png):
    def make(count, **columns):
        images = [{"bytes": png(80, 70 + number), "path": f"{number}.png"} for number in range(count)]
        text = [f"Heart normal {number}." for number in range(count)]
        return pa.table({"image": images, "findings": text, "impression": ["Normal."] * count} | columns)

    return make


def test_parquet_shards_are_read_in_order(tmp_path, table, load, load_by_id):
    (tmp_path / "data").mkdir()
    pq.write_table(table(12), tmp_path / "data" / "train-00000-of-00002.parquet", row_group_size=5)
    pq.write_table(table(8), tmp_path / "data" / "train-00001-of-00002.parquet")
    splits, studies = load("hub", tmp_path), load_by_id("hub", tmp_path)
    assert {split: len(part) for split, part in splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert studies["row-07"].findings == "Heart normal 7." and studies["row-07"].impression == "Normal."
    assert studies["row-07"].images[0].read().width == 77 and studies["row-15"].images[0].read().width == 73
    assert studies["row-02"].frontal_images == studies["row-02"].images
    assert load_by_id("hub", tmp_path) == studies


def test_the_shuffle_has_exact_shares():
    splits = shuffled_splits(30_633)
    assert [splits.count(name) for name in ("train", "val", "test")] == [24_506, 3_063, 3_064]


@pytest.mark.parametrize("layout", ["stream", "file"])
def test_arrow_copies_are_read(tmp_path, table, load, layout):
    rows = table(10, split=["train"] * 7 + ["validation"] * 2 + ["test"], subject_id=list(range(10)))
    new = pa.ipc.new_stream if layout == "stream" else pa.ipc.new_file
    with new(str(tmp_path / "data-00000-of-00001.arrow"), rows.schema) as writer:
        writer.write_table(rows)
    splits = load("hub", tmp_path)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [7, 2, 1]
    assert splits["val"][1].patient == "8" and splits["val"][1].images[0].read().width == 78


def test_a_patients_studies_stay_together(tmp_path, table, load):
    pq.write_table(table(60, subject_id=[number // 6 for number in range(60)]), tmp_path / "all.parquet")
    splits = load("hub", tmp_path / "all.parquet")
    assert sum(len({study.patient for study in studies}) for studies in splits.values()) == 10


def test_what_is_wrong_is_named(tmp_path, table, load):
    pq.write_table(table(3).drop_columns("impression"), tmp_path / "a.parquet")
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
    images = [{"bytes": b"\x89PNG\r\n\x1a\n broken", "path": None}, {"bytes": None, "path": "x.png"}]
    pq.write_table(table(2).set_column(0, "image", pa.array(images)), tmp_path / "b.parquet")
    for row, words in ((0, "row 0: This PNG file is damaged"), (1, "row 1: column 'image' holds no image")):
        with pytest.raises(UnreadableImageError, match=words):
            TableImage(tmp_path / "b.parquet", row=row).read()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": [[1, 2]] * 3}, r"a\.parquet, row 0: column 'image' is of type list"),
        ({"image": ["a.png"] * 3}, r"a\.parquet, row 0: column 'image' is of type string"),
        ({"findings": [["Clear."]] * 3}, r"a\.parquet, row 0: 'findings' is a list; accepted: text"),
    ],
)
def test_columns_of_another_type_are_named_by_row_and_column(tmp_path, table, load, columns, words):
    pq.write_table(
        pa.table(dict(zip(table(3).column_names, table(3).columns, strict=True)) | columns), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=words):
        load("hub", tmp_path)
