"""Tables as people provide them: CSV, JSON lines and JSON, gzipped or not.

Text is UTF-8, or UTF-16 where the file begins so or every second byte is zero. The cells of a CSV file are parted by
commas, semicolons or tabs, whichever gives its first line the wanted columns. Unusual forms are mentioned in the log,
and ambiguous ones are errors that name the line.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xr2text.data.study import DataError

log = logging.getLogger(__name__)

_MARKS = ((codecs.BOM_UTF8, "UTF-8"), (codecs.BOM_UTF16_LE, "UTF-16-LE"), (codecs.BOM_UTF16_BE, "UTF-16-BE"))
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_GZIP = b"\x1f\x8b"
_LONGEST_CELL = 2**31 - 1  # characters


def read_text(path: Path, kind: str) -> str:
    """A text file, line ends as they are.

    Args:
        kind: what it is to be, for the message.

    Raises:
        DataError: it is missing, damaged, or in another encoding.
    """
    if not path.is_file():
        raise DataError(f"expected the table {path}")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a {kind} file that can be read: {error}") from error
    encoding, start = _encoding(data)
    try:
        text = data[start:].decode(encoding)
    except UnicodeDecodeError as error:
        line = data[start:][: error.start].decode(encoding, "replace").count("\n") + 1
        raise DataError(
            f"{path} is not a {kind} file in UTF-8 or UTF-16: {error.reason} in line {line}; save it in UTF-8"
        ) from error
    if encoding != "UTF-8":
        log.warning("%s is read as %s.", path, encoding)
    return text


def _encoding(data: bytes) -> tuple[str, int]:
    """The encoding of a text, and how many bytes at its start only mark it."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding, len(mark)
    head = data[:1000]
    zeros = [head[place::2].count(0) for place in (0, 1)]  # letters of UTF-16 have one zero byte
    if sum(zeros) > len(head) / 3:
        return ("UTF-16-LE" if zeros[1] > zeros[0] else "UTF-16-BE"), 0
    return "UTF-8", 0


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file as text, an empty cell as ""; the index is the line that a row begins on. Empty lines are no rows,
    and a first column without a name, which holds row numbers, is left out.

    Args:
        columns: that it must have.

    Raises:
        DataError: the file or one of the columns is missing, a column comes twice, a row has more or fewer cells than
            the first line or one under no name, or a quotation mark is left open.
    """
    text = read_text(path, "CSV")
    delimiter = _delimiter(text, columns)
    if delimiter != ",":
        log.warning("%s is read as cells parted by %s.", path, _DELIMITERS[delimiter])
    rows = _rows(path, text, delimiter)
    names = [name.strip() for name in next(rows, (1, []))[1]]
    if not names:
        raise DataError(f"{path} is not a CSV file: it is empty")
    require_columns(path, names, columns)
    if doubled := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
        raise DataError(f"{path} has two columns {doubled[0]!r}; accepted: each name once")
    lines, cells = [], []
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells parted by {_DELIMITERS[delimiter]}, but the first line has "
                f"{len(names)}; a cell that holds the delimiter must stand in quotation marks"
            )
        unnamed = [cell.strip() for name, cell in zip(names[1:], row[1:], strict=True) if not name]
        if any(unnamed):
            cell = next(filter(None, unnamed))[:40]
            raise DataError(
                f"{path}, line {line}: the cell {cell!r} stands under no name; a cell that holds the delimiter must "
                "stand in quotation marks"
            )
        lines.append(line)
        cells.append(row)
    table = pd.DataFrame(cells, index=lines, columns=names, dtype=object)
    return table.loc[:, [name != "" for name in names]]


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """The delimiter with which the first line has the most wanted columns and, of equals, the most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])]
        return len(set(names) & set(columns)), len(names)

    return max(_DELIMITERS, key=fit)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not an empty line, with the line it begins on, counted from 1."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: a quotation mark is not closed, or stands within a cell without being doubled "
            f"({error})"
        ) from error


def require_columns(path: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises DataError, which names the first missing column."""
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(present)}")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A place ("FILE, line 3") and an object for each line that is not empty. Only line feeds end lines.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    for number, line in enumerate(read_text(path, "JSON lines").split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            item = _parse_json(line, where)
            if not isinstance(item, dict):
                raise DataError(f"{where} is not a JSON object")
            yield where, item


def read_json(path: Path) -> Any:
    """Raises DataError where the file cannot be read or is not JSON."""
    return _parse_json(read_text(path, "JSON"), str(path))


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON: {error}") from error


def text_value(value: Any, where: str, column: str) -> str:
    """The text of a cell, which holds a string, a number, or nothing ("").

    Raises:
        DataError: it is something else; the row and the column are named.
    """
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: {column!r} is {_KINDS.get(type(value), type(value).__name__)}; accepted: text")
    return str(value)


_KINDS = {list: "a list", dict: "an object", bool: "true or false", bytes: "bytes"}
