"""Reading published CSV tables: plain or gzip, with a BOM or CRLF. Errors name table and line, never a value."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from radiffuse.errors import DataError

_BLANKS = ["", "NaN", "nan"]
# Published headers have a few hundred bytes; the first line of what is no table may have any number.
_HEADER_CHARACTERS = 65536
# Values may hold line ends: otherwise Arrow drops what follows a quote that never closes, where the table is long.
_PARSING = pacsv.ParseOptions(newlines_in_values=True)
# Such a quote makes one field of all that follows.
csv.field_size_limit(2**31 - 1)


def read_table(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Read the named columns, blank as null in columns of numbers and as "" in columns of strings.

    Raises DataError when the file is missing, is not a complete CSV, lacks a column or holds a value of another type.
    """
    options = pacsv.ConvertOptions(
        include_columns=list(columns), column_types=dict(columns), null_values=_BLANKS, strings_can_be_null=False
    )
    table = None
    try:
        table = pacsv.read_csv(str(path), parse_options=_PARSING, convert_options=options)
    except FileNotFoundError as error:
        raise DataError(f"no table at {path}") from error
    except PermissionError:
        raise DataError(f"cannot read {path}: permission denied; see that this user may open it") from None
    except pa.ArrowKeyError:
        raise DataError(_describe_missing_columns(path, columns)) from None
    except (pa.ArrowInvalid, OSError):
        pass  # Arrow quotes the row it failed on, and a row names a patient: nothing of it may enter a chain of causes
    if table is None:
        raise DataError(_explain(path, columns))
    if table.num_rows == 0:
        raise DataError(f"{path} has a header and no rows")
    return table


def read_labels(path: Path, keys: Mapping[str, pa.DataType], labels: Iterable[str]) -> pa.Table:
    """Read key columns, and label columns as int8 in {1, 0, -1} or null. Raises DataError as `read_table` does."""
    labels = tuple(labels)
    table = read_table(path, {**keys, **dict.fromkeys(labels, pa.float32())})
    for label in labels:
        column = table.column(label)
        allowed = pc.is_in(column, value_set=pa.array([1, 0, -1], pa.float32()))
        refuse_rows(path, pc.and_(pc.is_valid(column), pc.invert(allowed)), f"{label} must be 1, 0, -1 or blank")
        table = table.set_column(table.column_names.index(label), label, column.cast(pa.int8()))
    return table


def refuse_rows(path: Path, mask: Any, rule: str) -> None:
    """Raise DataError that names the first line where the mask is true, how many there are, and the rule they break."""
    rows = np.flatnonzero(to_numpy(mask))
    if len(rows):
        raise DataError(f"{path} line {_line_of(path, int(rows[0]))}: {rule} ({len(rows)} such rows)")


def refuse_paths_outside(path: Path, column: Any) -> None:
    """Raise DataError when a path is absolute, holds a backslash or climbs out of the dataset's folder with `..`."""
    outside = pc.match_substring_regex(column, r"^/|\\|(^|/)\.\.(/|$)")
    refuse_rows(path, outside, "the image's path leads outside the dataset's folder; the table is not as published")


def find_duplicates(path: Path, table: pa.Table, key: str) -> npt.NDArray[np.bool_]:
    """Mask of the rows whose key appeared before.

    Raises DataError when such a row says something else than the first: nobody can tell which one is true.
    """
    codes = table.column(key).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    is_duplicate = np.ones(len(codes), dtype=bool)
    is_duplicate[first] = False
    rows = np.flatnonzero(is_duplicate)
    earlier = first[inverse[rows]]
    for row, original in zip(rows.tolist(), earlier.tolist(), strict=True):
        if table.slice(row, 1) != table.slice(original, 1):
            line, first_line = _line_of(path, row), _line_of(path, original)
            raise DataError(f"{path} line {line} contradicts line {first_line}, which has the same {key}")
    return is_duplicate


def to_numpy(mask: Any) -> npt.NDArray[np.bool_]:
    """A boolean Arrow column as a numpy array; null is False."""
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)


def _line_of(path: Path, row: int) -> int:
    """Where a row begins, as an editor counts: the header is line 1, and a blank line counts though it is no row."""
    begin, rows = 1, -1
    with _open(path) as file:
        reader = csv.reader(file)
        for record in reader:
            if record and rows == row:
                break
            begin, rows = reader.line_num + 1, rows + bool(record)
    return begin


def _open(path: Path) -> io.TextIOWrapper:
    """The table's text, unpacked where Arrow would unpack it."""
    return io.TextIOWrapper(pa.input_stream(str(path)), encoding="utf-8-sig", errors="replace", newline="")


def _describe_missing_columns(path: Path, columns: Mapping[str, pa.DataType]) -> str:
    with _open(path) as file:
        header = file.readline(_HEADER_CHARACTERS).strip()
    found = [name.strip('"') for name in header.split(",")]
    missing = [name for name in columns if name not in found]
    text = f"{path} has no column {', '.join(map(repr, missing))}"
    if len(missing) < len(columns):
        return f"{text}; its columns are {', '.join(found)}"
    # A first line without one name that is expected is a patient's row, or no text at all.
    return f"{text}; its first line has {len(found)} columns and is no such header: fetch the table again"


def _explain(path: Path, columns: Mapping[str, pa.DataType]) -> str:
    """Why Arrow gave up, in words that quote no row: read again in one thread, which alone can tell line numbers."""
    bad_rows: list[Any] = []

    def note(row: Any) -> str:
        bad_rows.append(row)
        return "skip"

    options = pacsv.ConvertOptions(include_columns=list(columns), column_types=dict.fromkeys(columns, pa.binary()))
    try:
        table = pacsv.read_csv(
            str(path),
            read_options=pacsv.ReadOptions(use_threads=False),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=options,
        )
    except (pa.ArrowInvalid, OSError):
        return f"{path} is not a complete CSV file (gzip if its name ends in .gz); fetch it again"
    if bad_rows:
        row = bad_rows[0]
        line = _line_of(path, row.number - 2)  # Arrow counts the header, and no blank lines
        return f"{path} line {line} has {row.actual_columns} columns, the header has {row.expected_columns}"
    for name, kind in columns.items():
        for number, value in enumerate(table.column(name).to_pylist()):
            if not _converts(value, kind):
                return f"{path} line {_line_of(path, number)}: {name} is not {_describe_type(kind)}"
    return f"{path} cannot be read as CSV"


def _converts(value: bytes, kind: pa.DataType) -> bool:
    try:
        text = value.decode("utf-8")
        if text not in _BLANKS:
            pa.scalar(text).cast(kind)
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return False
    return True


def _describe_type(kind: pa.DataType) -> str:
    return "UTF-8 text" if pa.types.is_string(kind) else "a number"
