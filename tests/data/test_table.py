"""Published tables as they come: marks, line ends and quotes; and what is said of a table that is not as published."""

import bz2
import gzip

import pyarrow as pa
import pytest

from radiffuse.data.table import find_duplicates, read_labels, read_table, refuse_paths_outside
from radiffuse.errors import DataError

COLUMNS = {"name": pa.string(), "value": pa.float32()}


def read(tmp_path, data, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_table(path, COLUMNS).to_pydict()


@pytest.mark.parametrize(
    "data",
    [
        b"name,value\na,1\nb,\n",
        b"\xef\xbb\xbfname,value\na,1\nb,\n",
        b"name,value\r\na,1\r\nb,\r\n",
        b'\xef\xbb\xbf"name","value"\r\n"a","1.0"\r\nb,\r\n',
        b"other,value,name\nx,1,a\ny,,b",
    ],
    ids=["plain", "bom", "crlf", "bom-quoted-crlf", "other-order-no-last-newline"],
)
def test_the_same_table_is_read_from_each_way_of_writing_it(tmp_path, data):
    assert read(tmp_path, data) == {"name": ["a", "b"], "value": [1.0, None]}


def test_a_quoted_comma_stays_in_its_value(tmp_path):
    assert read(tmp_path, b'name,value\n"CHEST (PA, LAT)",1\n')["name"] == ["CHEST (PA, LAT)"]


def test_a_gzip_table_is_read_as_it_is(tmp_path):
    assert read(tmp_path, gzip.compress(b"name,value\na,1\n"), "t.csv.gz") == {"name": ["a"], "value": [1.0]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"name,other\na,1\n", "t.csv has no column 'value'; its columns are name, other"),
        (b"", "t.csv is not a complete CSV file"),
        (b"name,value\n", "t.csv has a header and no rows"),
        (b"name,value\na,1\nb\n", "t.csv line 3 has 1 columns, the header has 2"),
        (b"name,value\na,1\nb,many\n", "t.csv line 3: value is not a number"),
        (b"name,value\na,1\n\xff,1\n", "t.csv line 3: name is not UTF-8 text"),
        (b"name,value\n\n\na,1\n\nb\n", "t.csv line 6 has 1 columns, the header has 2"),
        (b'name,value\r\n\r\n"a\r\nc",1\r\n\r\nb,many\r\n', "t.csv line 6: value is not a number"),
    ],
    ids=["missing-column", "empty", "no-rows", "ragged", "not-a-number", "not-utf8", "blanks-ragged", "blanks-number"],
)
def test_what_is_wrong_is_said_with_its_line_and_without_its_value(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, data)
    assert "many" not in str(caught.value)
    assert caught.value.__cause__ is None  # Arrow's message quotes the row


@pytest.mark.parametrize("rows", [3, 40_000, 400_000])
def test_a_quote_that_never_closes_is_an_error_without_a_row_in_it(tmp_path, rows):
    data = b'name,value\na,1\n"patient,2\n' + rows * b"c,3\n"
    with pytest.raises(DataError, match=r"t.csv line 3 has 1 columns, the header has 2$") as caught:
        read(tmp_path, data)
    assert caught.value.__context__ is None


def test_line_ends_within_quotes_stay_wherever_a_block_of_the_file_ends(tmp_path):
    value = 100 * "line\n"
    rows = [f'"{value}",{number}\n' for number in range(5000)]
    assert read(tmp_path, ("name,value\n" + "".join(rows)).encode())["name"] == 5000 * [value]


def test_a_table_that_arrow_unpacks_is_unpacked_for_its_errors_too(tmp_path):
    with pytest.raises(DataError, match=r"t.csv.bz2 line 4: value is not a number"):
        read(tmp_path, bz2.compress(b"\xef\xbb\xbf\nname,value\na,1\nb,many\n"), "t.csv.bz2")


def test_a_missing_column_of_a_gzip_table_is_named(tmp_path):
    with pytest.raises(DataError, match="no column 'name'; its columns are a, value"):
        read(tmp_path, gzip.compress(b"\xef\xbb\xbfa,value\n1,2\n"), "t.csv.gz")


@pytest.mark.parametrize(
    "first_line", [b"CheXpert/patient00001,Female,68", b"\x89PNG-secret\x00\xff,,"], ids=["a-patients-row", "binary"]
)
def test_a_first_line_that_is_no_header_is_never_shown(tmp_path, first_line):
    with pytest.raises(DataError, match=r"t.csv has no column 'name', 'value'; its first line has 3 columns") as caught:
        read(tmp_path, first_line + b"\nb,c,d\n")
    for secret in ("patient", "Female", "68", "PNG", "secret"):
        assert secret not in str(caught.value).replace(str(tmp_path), "")


def test_a_truncated_gzip_table_is_refused(tmp_path):
    rows = "".join(f"n{number * number},{number}\n" for number in range(5000)).encode()
    data = gzip.compress(b"name,value\n" + rows)
    with pytest.raises(DataError, match=r"t\.csv\.gz is not a complete CSV file"):
        read(tmp_path, data[: len(data) // 2], "t.csv.gz")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no table at .*t\.csv"):
        read_table(tmp_path / "t.csv", COLUMNS)


def test_labels_become_small_integers_and_blanks_null(tmp_path):
    (tmp_path / "t.csv").write_text("name,Edema,Fracture\na,1.0,-1\nb,,0.0\n")
    table = read_labels(tmp_path / "t.csv", {"name": pa.string()}, ["Edema", "Fracture"])
    assert table.schema.field("Edema").type == pa.int8()
    assert table.to_pydict() == {"name": ["a", "b"], "Edema": [1, None], "Fracture": [-1, 0]}


def test_a_label_of_another_value_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("name,Edema\na,1\nb,2\nc,0.5\n")
    with pytest.raises(DataError, match=r"t.csv line 3: Edema must be 1, 0, -1 or blank \(2 such rows\)"):
        read_labels(tmp_path / "t.csv", {"name": pa.string()}, ["Edema"])


@pytest.mark.parametrize("path", ["../other/a.jpg", "a/../../b.jpg", "/etc/passwd", "a\\..\\b.jpg", "..", "a/.."])
def test_a_path_outside_the_folder_is_refused(tmp_path, path):
    (tmp_path / "t.csv").write_text(f"path\na/b..jpg\n{path}\n")
    with pytest.raises(DataError, match=r"t.csv line 3: the image's path leads outside") as caught:
        refuse_paths_outside(tmp_path / "t.csv", pa.chunked_array([["a/b..jpg", path]]))
    assert path not in str(caught.value).replace(str(tmp_path), "")


def test_equal_rows_are_duplicates_and_the_first_one_stays(tmp_path):
    table = pa.table({"name": ["a", "b", "a", "a"], "value": [1, 2, 1, 1]})
    assert find_duplicates(tmp_path / "t.csv", table, "name").tolist() == [False, False, True, True]


def test_blank_values_of_duplicates_are_equal(tmp_path):
    table = pa.table({"name": ["a", "a"], "value": pa.array([None, None], pa.float32())})
    assert find_duplicates(tmp_path / "t.csv", table, "name").tolist() == [False, True]


def test_rows_of_one_key_that_differ_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("name,value\na,1\n\nb,2\n\na,3\n")
    table = pa.table({"name": ["a", "b", "a"], "value": [1, 2, 3]})
    with pytest.raises(DataError, match=r"t.csv line 6 contradicts line 2, which has the same name"):
        find_duplicates(tmp_path / "t.csv", table, "name")
