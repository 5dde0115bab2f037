"""Tables as people hand them over: what is read, what is said of it, and what is refused by its line."""

import gzip

import pytest

from xr2text.data.study import DataError
from xr2text.data.tables import read_json, read_json_lines, read_table

TABLE = 'id,report\n1,"No effusion, no edema."\n\n2,"Small ""hazy"" opacity.\nNo change."\n3,\n'


def read(path, content, *columns):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, columns)


def test_cells_are_text_and_rows_know_their_lines(tmp_path, caplog):
    table = read(tmp_path / "a.csv", TABLE + "007,NA\n", "id", "report")
    assert table["id"].tolist() == ["1", "2", "3", "007"] and table.index.tolist() == [2, 4, 6, 7]
    assert table["report"].tolist() == ["No effusion, no edema.", 'Small "hazy" opacity.\nNo change.', "", "NA"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TABLE.encode("utf-8-sig"), None),
        (TABLE.replace("\n", "\r\n").encode(), None),
        (gzip.compress(TABLE.encode(), mtime=0), None),
        (TABLE.replace(",", ";").encode(), "parted by semicolons"),
        (TABLE.replace(",", "\t").encode(), "parted by tabs"),
        (TABLE.encode("utf-16"), "read as UTF-16-LE"),
        (TABLE.encode("utf-16-le"), "read as UTF-16-LE"),
        (TABLE.encode("utf-16-be"), "read as UTF-16-BE"),
        (b"\xfe\xff" + TABLE.replace(",", "\t").encode("utf-16-be"), "parted by tabs"),
    ],
)
def test_encodings_and_delimiters_are_known_and_said(tmp_path, caplog, content, said):
    table = read(tmp_path / "a.csv", content, "id", "report")
    assert table["id"].tolist() == ["1", "2", "3"] and table["report"].iloc[1].startswith('Small "hazy" opacity.')
    assert any(said in message for message in caplog.messages) if said else caplog.messages == []


def test_a_delimiter_within_the_cells_does_not_decide(tmp_path):
    table = read(tmp_path / "a.csv", "report\tnote\nClear; no effusion, no edema.\tx\n", "report")
    assert table["report"].tolist() == ["Clear; no effusion, no edema."]
    assert read(tmp_path / "b.csv", "report\nClear; normal.\n", "report")["report"].tolist() == ["Clear; normal."]


def test_columns_without_a_name_that_hold_nothing_to_read_are_left_out(tmp_path):
    table = read(tmp_path / "a.csv", ",id,report,\n0,1,Clear.,\n", "id", "report")
    assert table.to_dict("records") == [{"id": "1", "report": "Clear."}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,report\n1,No effusion.,\n2,Clear.,\n", "line 2: 3 cells parted by commas, but the first line has 2"),
        ("id,report\n1,Clear.\n2,No effusion, or edema.\n", "line 3: 3 cells"),
        ("id,report,note\n1,Clear.,x,y\n2,Clear.,x\n", "line 2: 4 cells"),
        ("id,report\n1,Clear.\n2\n", "line 3: 1 cells"),
        ("id,report,\n1,Clear.,\n2,No effusion, or edema.\n", "line 3: the cell 'or edema.' stands under no name"),
        ("id,,report\n1,,Clear.\n2,Normal.,Clear.\n", "line 3: the cell 'Normal.' stands under no name"),
        ('id,report\n1,"Clear.\nNormal."\n2,"a",b\n', "line 4: 3 cells"),
        ("id;report\n1;Clear.\n2;No effusion; no edema.\n", "line 3: 3 cells parted by semicolons"),
        ('id,report\n1,"No effusion.\n2,"Edema."\n', "line 2: a quotation mark is not closed"),
        ('id,report\n1,Clear.\n2,"No effusion.\n3,Edema.\n', "line 3: a quotation mark is not closed"),
        ("id,report,report\n1,a,b\n", "has two columns 'report'"),
        ("id,text\n1,a\n", "no column 'report'; it has id, text"),
        ("", "is not a CSV file: it is empty"),
        ("id,report\n1,Caf\xe9.\n".encode("latin-1"), "not a CSV file in UTF-8 or UTF-16: .* in line 2; save it"),
    ],
)
def test_what_cannot_be_read_beyond_doubt_is_refused_by_its_line(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as raised:
        read(tmp_path / "a.csv", content, "id", "report")
    assert "effusion" not in str(raised.value)  # cells are patients' reports


@pytest.mark.parametrize("place", [5, 40, -3])
def test_a_damaged_gzip_file_is_told_in_words(tmp_path, place):
    rows = "".join(f"{number},{number * number * 7919}\n" for number in range(400))
    content = bytearray(gzip.compress(f"id,report\n{rows}".encode()))
    content[place] ^= 0xFF
    if place == 5:
        del content[200:]
    with pytest.raises(DataError, match=r"a\.csv\.gz is not a CSV file that can be read"):
        read(tmp_path / "a.csv.gz", bytes(content), "id")


def test_only_line_feeds_end_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y\x85z"}\r\n\n{"a": 2}\n'.encode())
    assert list(read_json_lines(path)) == [(f"{path}, line 1", {"a": "x\u2028y\x85z"}), (f"{path}, line 3", {"a": 2})]
    path.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(DataError, match="line 2 is not a JSON object"):
        list(read_json_lines(path))
    path.write_bytes('{"a": 1}\n{"a": "é"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"not a JSON lines file in UTF-8 or UTF-16: .* in line 2"):
        list(read_json_lines(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_the_same_encodings(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"a": "é"}', encoding=encoding)
    assert read_json(tmp_path / "a.json") == {"a": "é"}
