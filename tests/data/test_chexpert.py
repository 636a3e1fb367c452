"""CheXpert's layout becomes candidates."""

import gzip

import pytest

from radiffuse.data.chexpert import read_chexpert
from radiffuse.errors import DataError
from tests.data.layouts import CHEXPERT_HEADER, EFFUSION, HEALTHY, chexpert_row, table_bytes, write_chexpert

ROWS = [
    chexpert_row(1, HEALTHY),
    chexpert_row(1, {"Pleural Effusion": "1.0", "Edema": "-1.0", "Fracture": "0.0"}, study=2, projection="PA"),
    chexpert_row(2, EFFUSION, view="view2_lateral", projection=""),
    chexpert_row(2, EFFUSION, projection="LL"),
]


def test_rows_keep_their_labels_and_views(tmp_path):
    candidates = read_chexpert(write_chexpert(tmp_path, ROWS, images=False))
    rows = candidates.eligible().to_pylist()
    assert [row["view_position"] for row in rows] == ["AP", "PA"]
    assert [row["subject"] for row in rows] == ["patient00001", "patient00001"]
    assert rows[0]["No Finding"] == 1
    assert [rows[1][label] for label in ("Pleural Effusion", "Edema", "Fracture", "Cardiomegaly")] == [1, -1, 0, None]


def test_laterals_and_other_projections_called_frontal_are_left_out_and_counted(tmp_path):
    candidates = read_chexpert(write_chexpert(tmp_path, ROWS, images=False))
    assert candidates.exclusions() == {"excluded_lateral": 1, "excluded_projection": 1}


def test_the_folder_around_the_edition_the_edition_and_the_table_give_the_same(tmp_path):
    root = write_chexpert(tmp_path, ROWS, images=False)
    found = [read_chexpert(source) for source in (tmp_path, root, root / "train.csv")]
    assert {candidates.root for candidates in found} == {root}
    assert all(candidates.table == found[0].table for candidates in found)


def test_a_renamed_edition_is_read_by_what_follows_its_name(tmp_path):
    rows = [chexpert_row(1, HEALTHY, prefix="CheXpert-v1.0"), chexpert_row(2, HEALTHY, prefix="data/CheXpert-v1.0-x")]
    paths = read_chexpert(write_chexpert(tmp_path, rows, images=False)).table.column("path").to_pylist()
    assert paths == [f"train/patient0000{number}/study1/view1_frontal.jpg" for number in (1, 2)]


def test_a_gzip_table_alone_is_enough(tmp_path):
    path = tmp_path / "chexpert_train.csv.gz"
    path.write_bytes(gzip.compress(table_bytes(CHEXPERT_HEADER, ROWS)))
    assert read_chexpert(path).table.num_rows == 4


@pytest.mark.parametrize("options", [{"bom": True}, {"newline": "\r\n"}])
def test_marks_and_line_ends_change_nothing(tmp_path, options):
    plain = read_chexpert(write_chexpert(tmp_path / "a", ROWS, images=False))
    other = read_chexpert(write_chexpert(tmp_path / "b", ROWS, images=False, **options))
    assert plain.table == other.table


def test_a_row_that_appears_twice_counts_once(tmp_path):
    candidates = read_chexpert(write_chexpert(tmp_path, [*ROWS, ROWS[0]], images=False))
    assert candidates.exclusions()["excluded_duplicate"] == 1
    assert candidates.eligible().num_rows == 2


def test_an_image_of_two_editions_counts_once(tmp_path):
    rows = [*ROWS, chexpert_row(1, HEALTHY, prefix="CheXpert-v0.0-small")]
    candidates = read_chexpert(write_chexpert(tmp_path, rows, images=False))
    assert candidates.exclusions()["excluded_duplicate"] == 1
    contradiction = chexpert_row(1, EFFUSION, prefix="CheXpert-v0.0-small")
    with pytest.raises(DataError, match=r"train.csv line 6 contradicts line 2, which has the same Path"):
        read_chexpert(write_chexpert(tmp_path, [*ROWS, contradiction], images=False))


def test_rows_of_one_image_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"train.csv line 6 contradicts line 2, which has the same Path"):
        read_chexpert(write_chexpert(tmp_path, [*ROWS, chexpert_row(1, EFFUSION)], images=False))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such folder: .*nowhere; give the one that holds CheXpert-v1.0"):
        read_chexpert(tmp_path / "nowhere")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no train.csv in .* or in a CheXpert-v1.0\* folder below it"):
        read_chexpert(tmp_path)


def test_two_editions_need_a_choice(tmp_path):
    for name in ("CheXpert-v1.0", "CheXpert-v1.0-small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.csv").touch()
    with pytest.raises(DataError, match=r"several editions \(CheXpert-v1.0, CheXpert-v1.0-small\); give the folder"):
        read_chexpert(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    root = write_chexpert(tmp_path, ROWS, images=False)
    header = [name for name in CHEXPERT_HEADER if name != "AP/PA"]
    (root / "train.csv").write_bytes(table_bytes(header, []))
    with pytest.raises(DataError, match=r"train.csv has no column 'AP/PA'; its columns are Path, Sex"):
        read_chexpert(root)


def test_a_path_outside_the_root_is_refused_by_its_line(tmp_path):
    row = chexpert_row(3, HEALTHY, prefix="CheXpert-v1.0-small/../../elsewhere")
    with pytest.raises(DataError, match=r"train.csv line 6: the image's path leads outside the dataset's folder"):
        read_chexpert(write_chexpert(tmp_path, [*ROWS, row], images=False))


def test_a_path_of_another_layout_is_refused_without_quoting_it(tmp_path):
    row = chexpert_row(3, HEALTHY, view="Jane Doe")
    with pytest.raises(DataError, match=r"train.csv line 6: Path must look like CheXpert") as caught:
        read_chexpert(write_chexpert(tmp_path, [*ROWS, row], images=False))
    assert "Jane" not in str(caught.value)
