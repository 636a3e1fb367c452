"""Whole cohorts: layouts, reproducibility, and what happens when something is in the way."""

import csv
import gzip
import json
import multiprocessing
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radiffuse.data import anatomy, cohort_layout, patient, report_text, simulate
from radiffuse.data.inspect import inspect_source
from radiffuse.data.labels import LABELS
from radiffuse.data.patient import draw_patient
from radiffuse.data.quality import prepare_image
from radiffuse.data.simulate import CohortArguments, simulate_cohort, truth_path
from radiffuse.errors import ConfigError, DataError, RadiffuseError, StorageError

SIZE_PX = 64  # as in the other tests of the simulation, so that its stacks are built once


@pytest.fixture(scope="module")
def ct() -> None:
    try:
        anatomy.ensure_stacks(SIZE_PX)
    except DataError as error:
        pytest.skip(f"the chest CT is not in the cache and cannot be fetched here: {error}")


@pytest.fixture(scope="module")
def chexpert(ct: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohorts") / "chexpert"
    simulate_cohort(out, "chexpert", patients=60, size_px=SIZE_PX, seed=1, processes=2)
    return out


@pytest.fixture(scope="module")
def mimic(ct: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohorts") / "mimic"
    simulate_cohort(out, "mimic", patients=60, size_px=SIZE_PX, seed=1, processes=1)
    return out


def read(path: Path) -> list[dict[str, str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(data.decode().splitlines()))


def test_chexpert_tables_and_images_agree(chexpert: Path) -> None:
    rows = read(chexpert / "train.csv") + read(chexpert / "valid.csv")

    paths = {row["Path"] for row in rows}
    on_disk = {f"CheXpert-v1.0-small/{path.relative_to(chexpert)}" for path in chexpert.rglob("*.jpg")}
    assert paths == on_disk
    assert "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg" in paths
    assert {row["AP/PA"] for row in rows if row["Frontal/Lateral"] == "Frontal"} == {"AP", "PA"}


def test_chexpert_columns_are_the_published_ones(chexpert: Path) -> None:
    header = (chexpert / "train.csv").read_text().splitlines()[0]

    assert header == (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
        "Fracture,Support Devices"
    )


def test_the_validation_table_has_no_uncertain_labels(chexpert: Path) -> None:
    rows = read(chexpert / "valid.csv")

    assert {row[label] for row in rows for label in LABELS} == {"0.0", "1.0"}


def test_mimic_tables_images_and_reports_agree(mimic: Path) -> None:
    rows = read(mimic / "mimic-cxr-2.0.0-metadata.csv.gz")

    for row in rows:
        study = mimic / "files" / f"p{row['subject_id'][:2]}" / f"p{row['subject_id']}" / f"s{row['study_id']}"
        assert (study / f"{row['dicom_id']}.jpg").is_file()
        assert "IMPRESSION:" in study.with_suffix(".txt").read_text()
    assert len(rows) == len(list(mimic.rglob("*.jpg")))
    split = read(mimic / "mimic-cxr-2.0.0-split.csv.gz")
    assert [row["dicom_id"] for row in split] == [row["dicom_id"] for row in rows]
    studies = {row["study_id"] for row in read(mimic / "mimic-cxr-2.0.0-chexpert.csv.gz")}
    assert studies == {row["study_id"] for row in rows}


def test_identifiers_never_repeat() -> None:
    patients = [draw_patient(0, number) for number in range(1, 800)]
    images = [image for one in patients for image in cohort_layout.place_images("mimic", 0, one)]

    assert len({image.path for image in images}) == len(images)
    assert len({Path(image.path).parts[2] for image in images}) == len(patients)
    assert {Path(image.path).parts[1] for image in images} == {f"p{number}" for number in range(10, 20)}


def test_good_images_are_square_grey_jpegs_of_the_size_asked_for(chexpert: Path) -> None:
    truth = json.loads(truth_path(chexpert).read_text())
    images = [image for one in truth["patients"] for study in one["studies"] for image in study["images"]]

    for image in images:
        if image["defect"] is None:
            with Image.open(chexpert / image["path"]) as file:
                assert (file.format, file.mode, file.size) == ("JPEG", "L", (SIZE_PX, SIZE_PX))
                assert np.ptp(np.asarray(file)) > 100


def test_the_number_of_processes_and_of_patients_does_not_change_a_patient(chexpert: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "fewer", "chexpert", patients=3, size_px=SIZE_PX, seed=1, processes=1)

    fewer = sorted((tmp_path / "fewer").rglob("*.jpg"))
    assert len(fewer) >= 3
    for path in fewer:
        assert path.read_bytes() == (chexpert / path.relative_to(tmp_path / "fewer")).read_bytes()


def test_another_seed_gives_other_patients() -> None:
    assert draw_patient(0, 1) == draw_patient(0, 1)
    assert draw_patient(0, 1) != draw_patient(1, 1)


def test_the_same_arguments_again_do_nothing(chexpert: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [*chexpert.rglob("*"), truth_path(chexpert)]}

    summary = simulate_cohort(chexpert, "chexpert", patients=60, size_px=SIZE_PX, seed=1, processes=2)

    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert summary["patients"] == 60


def test_other_arguments_are_refused(chexpert: Path) -> None:
    with pytest.raises(DataError, match=r"was simulated with .* seed=1 .*, not .* seed=2 .*; choose another --out"):
        simulate_cohort(chexpert, "chexpert", patients=60, size_px=SIZE_PX, seed=2, processes=1)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"miaow")

    with pytest.raises(DataError, match=r"photos exists, but no photos-truth\.json"):
        simulate_cohort(tmp_path / "photos", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)

    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"miaow"


def test_a_foreign_truth_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-truth.json").write_text("[]")

    with pytest.raises(DataError, match=r"a-truth\.json is not a cohort's truth"):
        simulate_cohort(tmp_path / "a", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)


@pytest.mark.parametrize(
    ("layout", "patients", "message"), [("vindr", 1, "no layout 'vindr'"), ("mimic", 0, "patients=0")]
)
def test_impossible_cohorts_are_refused(tmp_path: Path, layout: str, patients: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate_cohort(tmp_path / "a", layout, patients, size_px=SIZE_PX, seed=0, processes=1)


def test_two_runs_into_one_folder_are_refused(tmp_path: Path) -> None:
    with simulate._partial_folder(tmp_path / "a"), pytest.raises(DataError, match="another process is simulating"):
        simulate_cohort(tmp_path / "a", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)


@pytest.mark.usefixtures("ct")
def test_what_an_interrupted_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".a.partial" / "train").mkdir(parents=True)
    (tmp_path / ".a.partial" / "stale.jpg").write_bytes(b"half")

    simulate_cohort(tmp_path / "a", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)

    assert not (tmp_path / "a" / "stale.jpg").exists()
    assert not (tmp_path / ".a.partial").exists()


@pytest.mark.usefixtures("ct")
def test_a_worker_that_dies_gives_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    def kill_first_worker() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not list((tmp_path / ".a.partial").rglob("*.jpg")):
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_first_worker)
    killer.start()
    with pytest.raises(RadiffuseError, match="a process that rendered images was killed"):
        simulate_cohort(tmp_path / "a", "chexpert", patients=100_000, size_px=SIZE_PX, seed=0, processes=2)
    killer.join()

    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_looked_at_is_named(closed_folder: Path) -> None:
    with pytest.raises(StorageError, match=r"could not write .*inside: .*Permission denied"):
        simulate_cohort(closed_folder / "inside", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)


def test_a_file_where_the_cohort_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--out .*file is a file; it must name a folder"):
        simulate_cohort(tmp_path / "file", "chexpert", patients=1, size_px=SIZE_PX, seed=0, processes=1)


@pytest.mark.usefixtures("ct")
def test_a_cohort_that_lost_its_table_is_not_called_complete(tmp_path: Path) -> None:
    arguments = (tmp_path / "a", "chexpert", 1, SIZE_PX, 0, 1)
    simulate_cohort(*arguments)
    (tmp_path / "a" / "train.csv").unlink()
    with pytest.raises(DataError, match=r"a has lost train\.csv; delete it and a-truth\.json, and run again"):
        simulate_cohort(*arguments)


@pytest.mark.usefixtures("ct")
def test_the_truth_beside_a_cohort_changes_nothing_that_ingest_reads(tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "a", "chexpert", 4, SIZE_PX, 0, 1)
    found = inspect_source("chexpert", tmp_path / "a")
    truth_path(tmp_path / "a").write_text("{}")
    assert inspect_source("chexpert", tmp_path / "a") == found


@pytest.mark.usefixtures("ct")
def test_a_full_disk_gives_one_error_and_leaves_nothing(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(800_000))

    with pytest.raises(StorageError, match="No space left on device"):
        simulate_cohort(small_disk / "a", "chexpert", patients=2000, size_px=SIZE_PX, seed=0, processes=1)

    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_the_mix_suits_an_effusion_conditioned_model() -> None:
    studies = [study for number in range(1, 1501) for study in draw_patient(0, number).studies]
    kinds = Counter(study.kind for study in studies)

    assert 0.43 < kinds["no_finding"] / len(studies) < 0.51
    assert 0.37 < kinds["effusion"] / len(studies) < 0.45
    assert set(kinds) == set(patient.KINDS)
    sides = Counter(tuple(study.sizes) for study in studies if study.kind == "effusion")
    assert min(sides.values()) > 75


@pytest.mark.usefixtures("ct")
def test_quality_control_finds_every_defect_and_nothing_else(tmp_path: Path) -> None:
    found: dict[str | None, list[bytes]] = {}
    count = 0
    for number in range(1, 1000):
        one = draw_patient(5, number)
        for image in cohort_layout.place_images("chexpert", 5, one):
            count += 1
            if image.plan.defect is not None or number <= 150:
                found.setdefault(image.plan.defect, []).append(simulate.draw_jpeg(one, image, SIZE_PX)[0])

    assert set(found) == {None, *patient.DEFECTS}
    assert all(0.003 < len(found[defect]) / count < 0.02 for defect in patient.DEFECTS)
    for defect, files in found.items():
        for number, data in enumerate(files):
            path = tmp_path / f"{defect}-{number}.jpg"
            path.write_bytes(data)
            assert prepare_image(path, SIZE_PX).reason == defect


def test_labels_follow_from_what_was_rendered() -> None:
    for number in range(1, 500):
        for study in draw_patient(3, number).studies:
            is_clear = bool(study.condition.effusions) and "trace" not in study.sizes.values()
            assert (study.labels.get("Pleural Effusion") == 1.0) == is_clear
            assert (study.labels.get("Pneumothorax") == 1.0) == (study.condition.pneumothorax is not None)
            assert ("No Finding" in study.labels) == (study.kind == "no_finding")
            assert all(study.labels[name] == 0.0 for name in study.negatives)


def test_reports_say_what_was_rendered_and_deny_what_was_not() -> None:
    for number in range(1, 500):
        for study in draw_patient(2, number).studies:
            findings, impression = report_text.compose_sections(study)
            if study.kind == "no_finding":
                assert impression in report_text._NORMAL
            for side, size in study.sizes.items():
                assert side in impression or "bilateral" in impression.lower()
                assert size in impression.lower() or "sizeable" in impression.lower()
            assert ("pneumothorax" in impression.lower()) == (study.condition.pneumothorax is not None)
            assert len(findings) > 10


def test_reports_have_many_wordings_and_some_identification_marks() -> None:
    reports = [
        report_text.compose_report(study) for number in range(1, 300) for study in draw_patient(2, number).studies
    ]

    assert len(set(reports)) > 200
    assert 0.2 < sum("___" in report for report in reports) / len(reports) < 1
    assert max(len(line) for report in reports for line in report.splitlines()) <= 79


def test_counts_add_up(chexpert: Path) -> None:
    summary = simulate.find_cohort(chexpert, CohortArguments("chexpert", 60, SIZE_PX, 1))

    assert summary is not None
    assert summary["images"] == len(list(chexpert.rglob("*.jpg")))
    kinds = sum(int(summary.get(f"frontal_{kind}", 0)) for kind in patient.KINDS)
    assert kinds == summary["frontal"] == int(summary["images"]) - int(summary["lateral"])
