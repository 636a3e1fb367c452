"""MIMIC-CXR-JPG's layout becomes candidates."""

import gzip

import pytest

from radiffuse.data.mimic import read_mimic
from radiffuse.errors import DataError
from tests.data.layouts import EFFUSION, HEALTHY, mimic_study, write_mimic

STUDIES = [
    mimic_study(1, HEALTHY, report="IMPRESSION: No acute process."),
    mimic_study(2, EFFUSION, view="AP", split="validate"),
    mimic_study(3, EFFUSION, view="LATERAL", split="test"),
    mimic_study(4, HEALTHY, view="AP LLD"),
    mimic_study(5, HEALTHY, view=""),
]


def test_images_are_placed_as_published(tmp_path):
    row = read_mimic(write_mimic(tmp_path, STUDIES, images=False)).table.slice(0, 1).to_pylist()[0]
    folder = "files/p10/p10000001/s50000001"
    assert row["path"] == f"{folder}/00000001-0000aaaa-0000bbbb-0000cccc-0000dddd.jpg"
    assert (row["report"], row["subject"], row["study"]) == (f"{folder}.txt", "10000001", folder)


def test_labels_and_splits_are_joined_by_study_and_image(tmp_path):
    rows = read_mimic(write_mimic(tmp_path, STUDIES[::-1], images=False)).eligible().to_pylist()
    assert [(row["view_position"], row["published_split"]) for row in rows] == [("AP", "validation"), ("PA", "train")]
    assert [(row["No Finding"], row["Pleural Effusion"]) for row in rows] == [(None, 1), (1, None)]


def test_every_view_but_ap_and_pa_is_left_out_and_counted(tmp_path):
    candidates = read_mimic(write_mimic(tmp_path, STUDIES, images=False))
    assert candidates.exclusions() == {"excluded_lateral": 1, "excluded_projection": 2}


def test_negbio_labels_stand_in_where_chexpert_ones_are_missing(tmp_path):
    candidates = read_mimic(write_mimic(tmp_path, STUDIES, images=False, labels_kind="negbio"))
    assert candidates.tables[1].name == "mimic-cxr-2.0.0-negbio.csv.gz"
    assert candidates.eligible().num_rows == 2


def test_without_a_split_table_no_split_is_published(tmp_path):
    candidates = read_mimic(write_mimic(tmp_path, STUDIES, images=False, splits=False))
    assert candidates.table.column("published_split").null_count == 5
    assert len(candidates.tables) == 2


def test_an_image_whose_study_has_no_labels_is_left_out(tmp_path):
    root = write_mimic(tmp_path, STUDIES, images=False)
    path = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:1] + lines[2:])))
    assert read_mimic(root).exclusions()["excluded_no_label"] == 1


def test_gunzipped_tables_are_read_too(tmp_path):
    root = write_mimic(tmp_path, STUDIES, images=False)
    for path in root.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert read_mimic(root / "mimic-cxr-2.0.0-metadata.csv").eligible().num_rows == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dicom_id", "../../../secret", "dicom_id must be hexadecimal groups"),
        ("study_id", "5000/../1", "study_id must have 8 digits"),
        ("subject_id", "1", "subject_id must have 8 digits"),
    ],
)
def test_an_identifier_that_could_leave_the_folder_is_refused_by_its_line(tmp_path, field, value, message):
    root = write_mimic(tmp_path, STUDIES, images=False)
    bad = {**mimic_study(6, HEALTHY), field: value}
    bad_root = write_mimic(tmp_path / "tables", [*STUDIES, {**bad, "report": None}], images=False, splits=False)
    (root / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes((bad_root / "mimic-cxr-2.0.0-metadata.csv.gz").read_bytes())
    with pytest.raises(DataError, match=rf"metadata.csv.gz line 7: {message}") as caught:
        read_mimic(root)
    assert repr(value) not in str(caught.value)


def test_a_study_of_two_patients_is_refused(tmp_path):
    root = write_mimic(tmp_path, STUDIES, images=False)
    other = [{**STUDIES[0], "subject_id": "19999999"}, *STUDIES[1:]]
    donor = write_mimic(tmp_path / "other", other, images=False)
    name = "mimic-cxr-2.0.0-chexpert.csv.gz"
    (root / name).write_bytes((donor / name).read_bytes())
    with pytest.raises(DataError, match="gives a study to another patient than the metadata table") as caught:
        read_mimic(root)
    assert "19999999" not in str(caught.value)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"split.csv.gz line 2: split must be one of train, validate, test"):
        read_mimic(write_mimic(tmp_path, [mimic_study(1, HEALTHY, split="dev")], images=False))


def test_missing_folders_and_tables_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no such folder: .*nowhere; give the one that holds mimic-cxr-2.0.0-metadata"):
        read_mimic(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no mimic-cxr-\*-metadata.csv.gz in"):
        read_mimic(tmp_path)
    write_mimic(tmp_path, STUDIES, images=False)
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    with pytest.raises(DataError, match=r"no labels beside .*metadata.csv.gz: expected mimic-cxr-\*-chexpert.csv.gz"):
        read_mimic(tmp_path)
