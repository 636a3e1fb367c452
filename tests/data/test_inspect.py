"""What a source holds, before anything is copied."""

import csv
import gzip
import io

import pyarrow as pa
import pytest

from benchmarks._chexpert_table import cached_chexpert_table
from radiffuse.data.inspect import inspect_source
from radiffuse.data.labels import LABELS
from radiffuse.data.table import read_table
from radiffuse.errors import DataError
from tests.data.layouts import EFFUSION, HEALTHY, chexpert_row, cohort, mimic_study, write_chexpert, write_mimic


@pytest.mark.parametrize("layout", ["chexpert", "mimic"])
def test_a_source_that_cannot_be_looked_at_is_named(layout, closed_folder):
    with pytest.raises(DataError, match=f"cannot read {closed_folder}/inside: Permission denied; see that this user"):
        inspect_source(layout, closed_folder / "inside")
    with pytest.raises(DataError, match=r"cannot read .*train\.csv: permission denied; see that this user may open it"):
        read_table(closed_folder / "train.csv", {"Path": pa.string()})


def test_a_folder_is_described_by_its_table_and_its_files(tmp_path):
    rows = [
        *cohort(3, 2, 1),
        chexpert_row(7, {**HEALTHY, "Support Devices": "1.0"}, projection="PA"),
        chexpert_row(8, {"Pleural Effusion": "-1.0"}, projection="PA"),
        chexpert_row(8, EFFUSION, view="view2_lateral", projection=""),
        chexpert_row(9, EFFUSION, projection="RL"),
    ]
    root = write_chexpert(tmp_path, [*rows, rows[0]])
    (root / "train/patient00001/study1/view1_frontal.jpg").unlink()
    counts = inspect_source("chexpert", tmp_path)
    assert counts.pop("images_gb") >= 0
    assert counts == {
        "layout": "chexpert",
        "table": str(root / "train.csv"),
        "rows": 11,
        "patients": 9,
        "studies": 9,
        "excluded_duplicate": 1,
        "excluded_lateral": 1,
        "excluded_projection": 1,
        "frontal": 8,
        "frontal_ap": 6,
        "frontal_pa": 2,
        "frontal_patients": 8,
        "no_finding": 3,
        "no_finding_label": 4,
        "only_effusion": 2,
        "effusion_positive": 3,
        "effusion_uncertain": 1,
        "images_found": 7,
        "excluded_missing": 1,
    }


def test_a_table_alone_is_described_without_its_images(tmp_path):
    root = write_chexpert(tmp_path, cohort(1, 1), images=False)
    counts = inspect_source("chexpert", root / "train.csv")
    assert (counts["images_found"], counts["no_images_below"]) == (0, str(root))
    assert (counts["frontal"], counts["no_finding"]) == (2, 1)


def test_reports_are_counted_where_the_layout_has_them(tmp_path):
    studies = [mimic_study(1, HEALTHY, report="IMPRESSION: Clear."), mimic_study(2, EFFUSION)]
    counts = inspect_source("mimic", write_mimic(tmp_path, studies))
    assert (counts["images_found"], counts["reports"], counts["reports_missing"]) == (2, 1, 1)


def test_a_source_without_frontal_images_has_zeros(tmp_path):
    root = write_chexpert(tmp_path, [chexpert_row(1, view="view1_lateral", projection="")])
    counts = inspect_source("chexpert", root)
    assert (counts["frontal"], counts["no_finding"], counts["images_found"]) == (0, 0, 0)


def test_the_true_chexpert_table_is_counted_as_a_plain_reader_counts_it():
    path = cached_chexpert_table()
    if not path.is_file():
        pytest.skip("needs CheXpert's table in the cache; python benchmarks/inspect_chexpert.py fetches it")
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    frontal = [row for row in rows if row["Frontal/Lateral"] == "Frontal" and row["AP/PA"] in ("AP", "PA")]

    def alone(label):
        return sum(
            float(row[label] or 0) == 1 and all(float(row[other] or 0) == 0 for other in LABELS if other != label)
            for row in frontal
        )

    counts = inspect_source("chexpert", path)
    assert counts["rows"] == len(rows) == 223_414
    assert counts["patients"] == len({row["Path"].split("/")[2] for row in rows})
    assert counts["studies"] == len({row["Path"].rpartition("/")[0] for row in rows})
    assert counts["excluded_lateral"] == sum(row["Frontal/Lateral"] == "Lateral" for row in rows)
    assert counts["excluded_projection"] == sum(row["AP/PA"] in ("LL", "RL") for row in rows) == 17
    assert (counts["frontal"], counts["frontal_ap"]) == (len(frontal), sum(row["AP/PA"] == "AP" for row in frontal))
    assert counts["no_finding"] == alone("No Finding")
    assert counts["only_effusion"] == alone("Pleural Effusion")
    assert counts["effusion_uncertain"] == sum(row["Pleural Effusion"] == "-1.0" for row in frontal)
