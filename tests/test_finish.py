"""How a pipeline's run ended, told from what its steps noted in the store."""

import json
from collections.abc import Iterator

import pytest

from radiffuse import step_notes
from radiffuse.errors import ConfigError, StorageError
from radiffuse.finish import describe_end, read_steps
from radiffuse.step_notes import StepNote, begin_note, end_note, fail_note, read_notes
from radiffuse.storage import Store

STEPS = ["ingest", "train", "evaluate"]
FAILED = json.dumps({"state": "FAILED", "pipelineTaskName": "exit-handler-1", "error": {}})
COMPLETE = json.dumps({"state": "COMPLETE", "pipelineTaskName": "exit-handler-1", "error": {}})


@pytest.fixture(autouse=True)
def _one_step_per_process(monkeypatch: pytest.MonkeyPatch, store_environment: dict[str, str]) -> Iterator[None]:
    yield
    monkeypatch.setattr(step_notes, "_current", None)


def begin(run: str, step: str, **more: str) -> None:
    begin_note({"inputs": {"parameterValues": {"run": run, "step": step, **more}}})


def note(run: str, step: str, **more: str) -> None:
    begin(run, step, **more)
    end_note(f"result of {step}")


def test_a_run_whose_steps_are_all_done_says_so_first() -> None:
    for step in STEPS:
        note("finish-done", step)
    page = describe_end("finish-done", COMPLETE, STEPS)
    assert page.startswith("# Done: all 3 steps\n")
    assert "| train | done | 0 s | result of train |" in page
    assert "artifacts of the step `evaluate`" in page


def test_a_step_that_was_given_wrong_input_is_named_with_its_message() -> None:
    note("finish-wrong", "ingest")
    begin("finish-wrong", "train")
    fail_note(ConfigError("train.learning_rate: too | large"))
    page = describe_end("finish-wrong", FAILED, STEPS)
    assert page.startswith("# Failed in train: 1 of 3 steps done\n")
    assert "| train | failed | 0 s | train.learning_rate: too \\| large |" in page
    assert "| evaluate | not started |  |  |" in page
    assert "correct what its message names" in page
    assert "submit the same run again" in page


def test_a_step_that_was_killed_noted_no_end() -> None:
    begin("finish-killed", "ingest")
    page = describe_end("finish-killed", FAILED, STEPS)
    assert page.startswith("# Failed in ingest: 0 of 3 steps done\n")
    assert "its pod was deleted, ran out of memory or passed its deadline" in page


def test_a_failure_that_may_pass_is_told_from_one_that_will_not() -> None:
    begin("finish-store", "ingest")
    fail_note(StorageError("the store is down"))
    assert "`ingest` failed for a reason that may pass" in describe_end("finish-store", FAILED, STEPS)


def test_the_text_of_an_error_that_is_not_ours_is_not_noted(store: Store) -> None:
    begin("finish-foreign", "ingest")
    fail_note(ValueError("Jane Doe has a pleural effusion"))
    (found,) = read_notes(store, "finish-foreign")
    assert found.error == "ValueError; the step's log has the rest"


def test_a_failure_without_a_failed_step_is_kfps_own() -> None:
    note("finish-kfp", "ingest")
    page = describe_end("finish-kfp", FAILED, STEPS)
    assert page.startswith("# Failed: 1 of 3 steps done\n")
    assert "KFP could not start one" in page


def test_parts_come_before_the_step_that_completes_them() -> None:
    for part in ("2/2", "1/2"):
        note("finish-parts", "ingest", part=part)
    note("finish-parts", "ingest")
    rows = [line.split(" | ")[0] for line in describe_end("finish-parts", COMPLETE, ["ingest"]).splitlines()]
    assert [row for row in rows if row.startswith("| ingest")] == ["| ingest 1/2", "| ingest 2/2", "| ingest"]


def test_a_status_that_says_running_is_not_believed() -> None:
    """KFP 2.17 says so of a graph with a ParallelFor in it."""
    note("finish-running", "ingest")
    assert describe_end("finish-running", '{"state": "RUNNING"}', ["ingest"]).startswith("# Done: all 1 steps")


def test_without_a_store_the_end_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIO_ENDPOINT")
    page = describe_end("finish-blind", FAILED, STEPS)
    assert page.startswith("# Failed; how, the store cannot say\n")
    assert "MINIO_ENDPOINT is not set" in page


def test_a_step_that_no_pipeline_runs_notes_nothing(store: Store) -> None:
    begin_note({"outputs": {"outputFile": "out"}})
    end_note("nothing")
    assert step_notes._current is None


def test_a_note_that_cannot_be_written_does_not_stop_the_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MINIO_ENDPOINT")
    note("finish-unwritten", "ingest")
    assert "step_not_noted step=ingest" in caplog.text


def test_a_note_of_another_version_is_left_out(store: Store) -> None:
    note("finish-old", "ingest")
    store.put_bytes(f"{step_notes.NOTES_URI}/finish-old/train.json", b'{"version": 9}')
    assert [found.step for found in read_notes(store, "finish-old")] == ["ingest"]


def test_notes_of_steps_and_parts_have_names_of_their_own() -> None:
    notes = [StepNote(run="r", step="sample before", part=part, started_unix_seconds=0) for part in ("", "1/2", "2/2")]
    assert [found.uri.rpartition("/")[2] for found in notes] == [
        "sample-before.json",
        "sample-before-1-2.json",
        "sample-before-2-2.json",
    ]


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1]", "ingest"])
def test_steps_that_are_no_list_of_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--steps must be a JSON list of names"):
        read_steps(text)


def test_a_status_that_is_not_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="--status must be KFP's final status as JSON"):
        describe_end("finish-status", "{{$.inputs.parameters['status']}}", STEPS)
