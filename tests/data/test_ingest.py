"""From a published layout to a dataset in the store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from radiffuse.config import IngestSettings, SplitFractions
from radiffuse.data.ingest import describe_dataset, ingest_dataset
from radiffuse.data.inspect import inspect_source
from radiffuse.data.plan import plan_ingest
from radiffuse.data.shards import open_dataset
from radiffuse.data.sources import read_candidates
from radiffuse.errors import ConfigError, DataError, StorageError
from tests.data.layouts import (
    EFFUSION,
    HEALTHY,
    chest,
    chexpert_row,
    cohort,
    encode,
    mimic_study,
    write_chexpert,
    write_mimic,
)

SETTINGS = {"image_size_px": 32, "splits": SplitFractions(train=0.6, validation=0.2, test=0.2)}
EFFUSION_PROMPT = "a photo of a lung xray with a visible pleural effusion"

pytestmark = pytest.mark.usefixtures("store_environment")


@pytest.fixture
def name(request, tmp_path):
    """A place of its own in the store for each test."""
    return f"ingest-{tmp_path.name.replace('_', '-')}"


def ingest(store, source, name, layout="chexpert", **settings):
    return ingest_dataset(store, layout, source, IngestSettings(**{**SETTINGS, **settings}), name, processes=1)


def test_a_cohort_becomes_a_dataset(store, tmp_path, name):
    manifest = ingest(store, write_chexpert(tmp_path, cohort(14, 14, 2)), name, images_per_shard=8)
    dataset = open_dataset(store, manifest)
    assert manifest.kind == "dataset"
    assert [stored.name for stored in manifest.objects] == [f"shard-0000{number}.arrow" for number in range(4)]
    assert manifest.settings["layout"] == "chexpert"
    assert (manifest.counts["images"], manifest.counts["patients"], len(dataset)) == (30, 30, 30)
    assert [manifest.counts[split] for split in ("train", "validation", "test")] == [18, 6, 6]
    assert dataset[0].image.shape == (32, 32)
    assert sorted(dataset.column("subject").tolist()) == list(range(30))


def test_the_two_prompts_of_the_paper_are_trained_on_as_they_are(store, tmp_path, name):
    dataset = open_dataset(store, ingest(store, write_chexpert(tmp_path, cohort(14, 14, 2)), name))
    prompts = {example.pathologies: example.prompt for example in dataset}
    assert prompts[()] == "a photo of a lung xray"
    assert prompts[("Pleural Effusion",)] == EFFUSION_PROMPT
    assert prompts[("Cardiomegaly", "Pleural Effusion")] == (
        f"{EFFUSION_PROMPT}, visible cardiomegaly and possible edema"
    )


def test_the_few_shot_set_holds_clear_cases_of_the_train_split(store, tmp_path, name):
    rows = cohort(12, 12, 4) + [chexpert_row(90 + number, {**HEALTHY, "Support Devices": "1.0"}) for number in range(4)]
    dataset = open_dataset(store, ingest(store, write_chexpert(tmp_path, rows), name))
    chosen = [example for example in dataset if example.is_few_shot]
    assert [example.split for example in chosen] == ["train"] * 10
    assert sum(example.no_finding for example in chosen) == 5
    assert sum(example.pathologies == ("Pleural Effusion",) for example in chosen) == 5


def test_all_images_of_a_patient_are_in_one_split(store, tmp_path, name):
    rows = [
        chexpert_row(patient, kind, study) for patient in range(1, 13) for study, kind in ((1, HEALTHY), (2, EFFUSION))
    ]
    dataset = open_dataset(store, ingest(store, write_chexpert(tmp_path, rows), name, few_shot_per_class=2))
    splits = {}
    for example in dataset:
        splits.setdefault(example.subject, set()).add(example.split)
    assert len(splits) == 12
    assert all(len(found) == 1 for found in splits.values())


def test_no_identifier_reaches_the_store(store, tmp_path, name):
    manifest = ingest(store, write_chexpert(tmp_path, cohort()), name)
    directory = store.fetch_cached(manifest)
    everything = manifest.model_dump_json().encode() + b"".join(path.read_bytes() for path in directory.glob("*.arrow"))
    assert b"patient0" not in everything
    assert b"view1" not in everything


def test_running_again_does_nothing(store, tmp_path, name, monkeypatch):
    root = write_chexpert(tmp_path, cohort())
    first = ingest(store, root, name)
    monkeypatch.setattr(store, "publish", None)  # would fail if it were called
    assert ingest(store, root, name) == first


def test_the_address_covers_the_table_the_images_and_the_settings(tmp_path):
    def address(**settings):
        resolved = IngestSettings(**{**SETTINGS, **settings})
        return describe_dataset(plan_ingest(read_candidates("chexpert", root), resolved), resolved, "name").uri

    root = write_chexpert(tmp_path, cohort())
    addresses = [address(), address(), address(seed=1)]
    (root / "train/patient00001/study1/view1_frontal.jpg").write_bytes(encode(chest(90, 100)))
    addresses.append(address())
    with (root / "train.csv").open("a") as file:
        file.write(",".join(chexpert_row(99, HEALTHY, view="view1_lateral")) + "\n")
    addresses.append(address())
    assert addresses[0] == addresses[1]
    assert len(set(addresses)) == 4


def test_the_order_of_the_table_and_the_number_of_processes_change_nothing(store, tmp_path, name):
    rows = cohort()
    (tmp_path / "b").mkdir()
    root = write_chexpert(tmp_path / "a", rows)
    again = write_chexpert(tmp_path / "b", rows[::-1], images=False)
    (again / "train").symlink_to(root / "train")
    settings = IngestSettings(**SETTINGS, max_images=20, few_shot_per_class=2)
    manifests = [
        ingest_dataset(store, "chexpert", root, settings, name, processes=1),
        ingest_dataset(store, "chexpert", again, settings, name, processes=3),
    ]
    assert manifests[0].digest != manifests[1].digest  # another table
    assert manifests[0].objects == manifests[1].objects


def test_bad_images_are_counted_by_reason_and_replaced_from_the_draw(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort(14, 14))
    image = "train/patient{:05d}/study1/view1_frontal.jpg".format
    (root / image(1)).unlink()
    (root / image(2)).write_bytes(b"")
    (root / image(3)).write_bytes(encode(chest())[:-300])
    (root / image(4)).write_bytes(encode(chest(30, 96)))
    (root / image(15)).write_bytes(encode(chest().convert("CMYK")))
    counts = ingest(store, root, name, max_images=23).counts
    assert {key: count for key, count in counts.items() if key.startswith(("excluded", "unreadable"))} == {
        "excluded_view": 0,
        "excluded_coloured": 1,
        "excluded_cropped": 1,
        "excluded_missing": 1,
        "excluded_unreadable": 2,
        "unreadable_empty": 1,
        "unreadable_truncated": 1,
    }
    assert (counts["images"], counts["not_drawn"]) == (23, 0)


def test_what_is_no_file_where_an_image_belongs_is_counted_as_unreadable(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort(14, 14))
    images = [root / f"train/patient{number:05d}/study1/view1_frontal.jpg" for number in range(1, 5)]
    for image in images:
        image.unlink()
    images[0].symlink_to(images[0])
    images[1].mkdir()
    os.mkfifo(images[2])  # to open it would wait for a writer
    images[3].symlink_to("/dev/zero")
    counts = ingest(store, root, name).counts
    assert (counts["images"], counts["excluded_unreadable"], counts["excluded_missing"]) == (24, 4, 0)
    assert (counts["unreadable_damaged"], counts["unreadable_not_an_image"]) == (1, 3)
    assert inspect_source("chexpert", root)["images_unreadable"] == 4


def test_n_images_are_drawn_and_the_rest_is_counted(store, tmp_path, name):
    counts = ingest(store, write_chexpert(tmp_path, cohort(20, 20)), name, max_images=25).counts
    assert (counts["images"], counts["not_drawn"]) == (25, 15)


def test_views_that_are_not_asked_for_are_left_out(store, tmp_path, name):
    rows = [*cohort(), chexpert_row(60, HEALTHY, projection="PA"), chexpert_row(61, HEALTHY, view="view1_lateral")]
    counts = ingest(store, write_chexpert(tmp_path, rows), name, view_positions=("AP",)).counts
    assert (counts["images"], counts["excluded_view"], counts["excluded_lateral"]) == (24, 1, 1)


def test_fewer_images_than_asked_for_is_an_error_with_counts(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort())
    (root / "train/patient00001/study1/view1_frontal.jpg").unlink()
    with pytest.raises(
        DataError,
        match=r"asked for 30 images \(ingest.max_images\); .* holds 23 of 23 patients \(left out: missing 1\)",
    ):
        ingest(store, root, name, max_images=30)


def test_fewer_usable_images_than_asked_for_is_an_error_with_counts(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort())
    (root / "train/patient00001/study1/view1_frontal.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"asked for 24 images .* has 23 usable ones of 23 patients .*unreadable 1"):
        ingest(store, root, name, max_images=24)


def test_fewer_patients_than_splits_is_an_error(store, tmp_path, name):
    with pytest.raises(DataError, match="2 patients cannot be shared out over 3 splits"):
        ingest(store, write_chexpert(tmp_path, cohort(1, 1)), name)


def test_too_few_clear_cases_for_the_few_shot_set_are_an_error(store, tmp_path, name):
    with pytest.raises(
        DataError, match=r"needs 5 images of each kind in the train split; found \d+ with no finding and 2"
    ):
        ingest(
            store,
            write_chexpert(tmp_path, cohort(20, 2, 4)),
            name,
            splits=SplitFractions(train=1, validation=0, test=0),
        )


def test_when_no_image_is_there_the_error_says_where_it_looked(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort(), images=False)
    with pytest.raises(
        DataError, match=rf"none of the 24 images that train.csv lists was found; looked in {root}/train"
    ):
        ingest(store, root, name)


def test_a_table_without_a_wanted_view_is_an_error(store, tmp_path, name):
    with pytest.raises(DataError, match=r"train.csv lists no PA image \(left out: view 24\)"):
        ingest(store, write_chexpert(tmp_path, cohort()), name, view_positions=("PA",))


def test_errors_and_logs_name_no_patient(store, tmp_path, name, caplog):
    root = write_chexpert(tmp_path, cohort())
    looping = root / "train/patient00001"
    shutil.rmtree(looping)
    looping.symlink_to(looping)
    with (
        caplog.at_level("DEBUG", logger="radiffuse"),
        pytest.raises(DataError, match=r"has 23 usable ones of 23 patients .*unreadable 1") as caught,
    ):
        ingest(store, root, name, max_images=24)
    assert "patient0" not in str(caught.value) + caplog.text


def test_when_no_image_can_be_used_the_error_counts_why(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort())
    for path in root.glob("train/*/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"no image of .* can be used \(left out: unreadable 24; unreadable are empty 24\)"
    ):
        ingest(store, root, name)


def test_many_cropped_images_are_worth_a_warning(store, tmp_path, name, caplog):
    root = write_chexpert(tmp_path, cohort())
    for path in sorted(root.glob("train/*/*/*.jpg"))[:2]:
        path.write_bytes(encode(chest(30, 96)))
    ingest(store, root, name, few_shot_per_class=2)
    assert "many_cropped=2 of=24" in caplog.text


def test_a_full_disk_is_named(store, tmp_path, name, small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(
        StorageError, match=rf"no space left in {small_disk}; free some, or set TMPDIR to a larger disk"
    ):
        ingest(store, write_chexpert(tmp_path, cohort()), name, image_size_px=1024, few_shot_per_class=0)
    assert list(small_disk.iterdir()) == []


def test_settings_that_the_layout_cannot_meet_are_refused(store, tmp_path, name):
    root = write_chexpert(tmp_path, cohort())
    with pytest.raises(ConfigError, match="needs reports, and the chexpert layout has none; use labels"):
        ingest(store, root, name, prompt_source="impression")
    with pytest.raises(ConfigError, match="needs a split table, and there is none beside"):
        ingest(store, root, name, split_source="published")
    with pytest.raises(ConfigError, match="no layout 'nih'; choose from chexpert, mimic"):
        ingest(store, root, name, layout="nih")


def studies():
    kinds = [(HEALTHY, "No acute cardiopulmonary process."), (EFFUSION, "There is a small left pleural effusion.")]
    splits = ("train", "train", "train", "validate", "test")
    made = []
    for number in range(20):
        labels, text = kinds[number % 2]
        made.append(mimic_study(number, labels, report=f"IMPRESSION:\n {text}", split=splits[number // 2 % 5]))
    return made


def test_impressions_become_prompts_and_what_has_none_is_counted(store, tmp_path, name):
    extra = [
        mimic_study(30, HEALTHY),
        mimic_study(31, HEALTHY, report="FINDINGS: Clear."),
        mimic_study(32, HEALTHY, report="IMPRESSION: Clear."),
        mimic_study(33, HEALTHY, report="CONCLUSION: No acute process in the chest."),
    ]
    manifest = ingest(
        store, write_mimic(tmp_path, studies() + extra), name, "mimic", prompt_source="impression", few_shot_per_class=3
    )
    counts = manifest.counts
    assert [counts[f"excluded_{reason}"] for reason in ("no_report", "no_impression", "impression_length")] == [1, 1, 1]
    assert (counts["images"], counts["impression_under_other_heading"]) == (21, 1)
    assert set(open_dataset(store, manifest).column("prompt")) == {
        "No acute cardiopulmonary process.",
        "There is a small left pleural effusion.",
        "No acute process in the chest.",
    }


@pytest.mark.parametrize("prompt_source", ["labels", "impression"])
def test_a_report_that_is_no_file_is_counted(store, tmp_path, name, prompt_source):
    extra = [mimic_study(number, {**EFFUSION, "Edema": "1.0"}, report="IMPRESSION: Clear.") for number in (30, 31)]
    root = write_mimic(tmp_path, studies() + extra)
    for number, put in ((30, Path.mkdir), (31, os.mkfifo)):
        report = next(root.glob(f"files/p*/p*/s{50000000 + number}.txt"))
        report.unlink()
        put(report)
    counts = ingest(store, root, name, "mimic", prompt_source=prompt_source, few_shot_per_class=3).counts
    counted = "excluded_report_unreadable" if prompt_source == "impression" else "report_unreadable"
    assert counts[counted] == 2
    assert inspect_source("mimic", root)["reports_missing"] == 2


def test_published_splits_are_kept_when_asked_for(store, tmp_path, name):
    root = write_mimic(tmp_path, studies())
    counts = ingest(store, root, name, "mimic", split_source="published", few_shot_per_class=2).counts
    assert [counts[split] for split in ("train", "validation", "test")] == [12, 4, 4]


def test_a_published_split_that_shares_patients_is_refused(store, tmp_path, name):
    shared = [mimic_study(40, HEALTHY, subject=10000000, split="test")]
    root = write_mimic(tmp_path, studies() + shared)
    with pytest.raises(DataError, match="the split table puts 1 patients into more than one split"):
        ingest(store, root, name, "mimic", split_source="published")


def start_ingest_and_stop_it_midway(tmp_path, name, environment):
    """A subprocess that has written some of its eighty shards and was stopped."""
    root = write_chexpert(tmp_path, cohort(40, 40))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    config = json.dumps({"name": name, "ingest": {"image_size_px": 32, "images_per_shard": 1}})
    command = [sys.executable, "-m", "radiffuse.cli", "ingest", "chexpert", "--source", str(root), "--config", config]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "dataset.json")],
        env={**os.environ, **environment, "TMPDIR": str(scratch)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("radiffuse-ingest-*/shard-00002.arrow")):
        assert process.poll() is None, "ingest ended before it was interrupted"
        assert time.monotonic() < deadline, "ingest wrote no shard within 60 s"
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    return process, scratch


def test_an_ingest_that_was_killed_leaves_nothing_that_looks_complete(store, tmp_path, store_environment):
    process, _ = start_ingest_and_stop_it_midway(tmp_path, "killed", store_environment)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not (tmp_path / "dataset.json").exists()
    assert [uri for uri in store.list("s3://datasets/killed-chexpert") if uri.endswith("manifest.json")] == []
    settings = IngestSettings(image_size_px=32, images_per_shard=1)
    manifest = ingest_dataset(store, "chexpert", Path(tmp_path), settings, "killed-chexpert", processes=1)
    assert store.find(manifest.uri) == manifest
    assert len(open_dataset(store, manifest)) == 80


def test_an_ingest_that_is_told_to_stop_leaves_no_temporary_files(tmp_path, store_environment):
    process, scratch = start_ingest_and_stop_it_midway(tmp_path, "stopped", store_environment)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(scratch.glob("radiffuse-*")) == []
