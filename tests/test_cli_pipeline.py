"""What the command line does for a pipeline: outputs found by address, parts, notes, the end of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from radiffuse import step_notes
from radiffuse.manifest import load_manifest
from radiffuse.step_notes import read_notes
from radiffuse.storage import Store
from tests.data.layouts import cohort, write_chexpert
from tests.test_cli import run
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("store_environment")


@pytest.fixture(autouse=True)
def _one_step_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_notes, "_current", None)


def executor_input(tmp_path: Path, run_id: str, step: str) -> str:
    artifact = {"artifacts": [{"name": "out", "uri": "minio://kfp/out", "type": {"schemaTitle": "system.Markdown"}}]}
    outputs: dict[str, Any] = {"artifacts": {"summary": artifact}, "outputFile": str(tmp_path / "output.json")}
    inputs = {"parameterValues": {"run": run_id, "step": step} if step else {"run": run_id}}
    return json.dumps({"inputs": inputs, "outputs": outputs})


def test_an_output_in_the_store_is_found_by_its_address(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(store, tmp_path / "model", name="cli-found")
    out = tmp_path / "model.json"
    assert run(monkeypatch, "find", f"{model.uri}/", "--kind", "model", "--out", str(out)) == 0
    assert load_manifest(out) == model
    assert run(monkeypatch, "stage", model.uri, "--out", str(out)) == 0
    assert run(monkeypatch, "find", model.uri, "--kind", "dataset", "--out", str(out)) == 1
    assert f"{model.uri} is a model; this step needs a dataset" in capsys.readouterr().err
    assert run(monkeypatch, "find", "s3://models/none/0", "--out", str(out)) == 1
    assert "nothing complete at s3://models/none/0" in capsys.readouterr().err


def test_a_step_notes_its_end_and_a_failing_one_why(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(store, tmp_path / "model", name="cli-noted")
    words = ["--out", str(tmp_path / "m.json"), "--executor-input"]
    assert run(monkeypatch, "stage", model.uri, *words, executor_input(tmp_path, "cli-run", "stage")) == 0
    assert run(monkeypatch, "stage", "s3://models/none/0", *words, executor_input(tmp_path, "cli-run", "base")) == 1
    done, failed = read_notes(store, "cli-run")
    assert (done.state, done.result) == ("done", f"model {model.uri}")
    assert (failed.state, failed.is_input_wrong) == ("failed", True)
    assert failed.error.startswith("nothing complete at s3://models/none/0")


def test_the_end_of_a_run_is_told_and_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "minio" / "summary"
    words = ["--steps", '["ingest"]', "--out", str(page), "--executor-input", executor_input(tmp_path, "cli-end", "")]
    assert run(monkeypatch, "finish", "cli-end", "--status", '{"state": "FAILED"}', *words) == 0
    assert page.read_text() == capsys.readouterr().out
    assert page.read_text().startswith("# Failed: 0 of 1 steps done")
    (described,) = json.loads((tmp_path / "output.json").read_text())["artifacts"]["summary"]["artifacts"]
    assert described["metadata"] == {}


def test_a_part_needs_no_place_for_a_manifest_and_the_whole_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.dumps({"name": "cli-part", "ingest": {"image_size_px": 32, "few_shot_per_class": 0}})
    words = ["ingest", "chexpert", "--source", str(write_chexpert(tmp_path, cohort(2, 2))), "--config", config]
    assert run(monkeypatch, *words, "--part", "1/1") == 0
    assert capsys.readouterr().out == "part 1/1 images=4\n"
    assert run(monkeypatch, *words, "--part", "2/1") == 2
    assert run(monkeypatch, *words) == 2
    assert "--out is missing: where to write the manifest" in capsys.readouterr().err
