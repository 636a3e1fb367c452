"""Every step of every pipeline under the rules of a real KFP backend, and those rules themselves."""

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from radiffuse.embedded_store import EmbeddedStore
from radiffuse.manifest import Manifest, StoredObject
from radiffuse.staging import stage_model
from radiffuse.storage import Store
from tests.data import layouts
from tests.pipelines.kfp_backend import Backend, Run
from tests.pipelines.kfp_rest import KfpServer, kfp_run_submit
from tests.pipelines.kfp_sandbox import why_no_sandbox
from tests.pipelines.kfp_step import PATH, Launcher, World
from tests.pipelines.kfp_values import BackendError, after_round_trip, checked_input, substituted
from tests.pipelines.test_finetune import CONFIG, mimic_studies
from tests.tiny import tiny_pipeline

PIPELINES = Path(__file__).parents[2] / "pipelines"
STEPS = ("ingest", "ingest external", "stage", "encode", "sample before", "train", "sample after", "evaluate")
needs_sandbox = pytest.mark.skipif(why_no_sandbox() is not None, reason=str(why_no_sandbox()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies on the volume that ingest steps see."""
    folder = tmp_path_factory.mktemp("data")
    layouts.write_chexpert(folder, layouts.cohort(healthy=32, effusion=32))
    layouts.write_mimic(folder / "mimic", mimic_studies(24))
    tiny_pipeline(folder / "base")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("kfp-store")) as server:
        yield server


def world(folder: Path, server: EmbeddedStore, data: Path) -> World:
    secret = {name: value for name, value in server.environment.items() if name.startswith("MINIO_")}
    folder.chmod(0o755)
    return World(folder, {"radiffuse-store": secret}, {"radiffuse-data": data}, f"{sys.prefix}/bin:{PATH}")


def arguments(server: EmbeddedStore, data: Path, *names: str) -> dict[str, Any]:
    base = stage_model(Store(server.settings), str(data / "base"))
    (source,) = [path.name for path in data.iterdir() if path.name.startswith("CheXpert")]
    known = {
        "source": f"/data/{source}",
        "external_source": "/data/mimic",
        "config": json.dumps(CONFIG),
        "base_model": base.uri,
    }
    return {name: known[name] for name in names}


SPEED = re.compile(rb'((?:images_per_second|data_wait_seconds)"?[:=] ?)[-+.0-9e]+')


def outputs(server: EmbeddedStore) -> dict[str, Any]:
    """What every complete output in the store holds, by address; how fast it was made is no part of it."""
    store = Store(server.settings)
    uris = [uri for bucket in ("datasets", "models", "samples", "reports") for uri in store.list(f"s3://{bucket}")]
    found = {}
    for folder in (uri.removesuffix("/manifest.json") for uri in uris if uri.endswith("/manifest.json")):
        manifest = store.find(folder)
        assert manifest is not None
        counts = {name: count for name, count in manifest.counts.items() if name != "images_per_second"}
        found[folder] = {"counts": counts} | {item.name: content(store, manifest, item) for item in manifest.objects}
    return found


def content(store: Store, manifest: Manifest, item: StoredObject) -> bytes | str:
    """The page draws the speed, so it is left to the figures that it draws."""
    if item.name.endswith((".json", ".jsonl", ".md")):
        return SPEED.sub(rb"\1", store.get_bytes(f"{manifest.uri}/{item.name}"))
    return "" if item.name.endswith(".html") else item.sha256


def submitted_by_kfp(there: World, package: Path, parameters: dict[str, Any]) -> Run:
    """The run that KFP's own command line submits to a server, which hands what it gets to the backend."""
    backends = []

    def execute(text: str, given: dict[str, Any], report: Callable[[str, str], None]) -> str:
        received = there.folder / "received.yaml"
        received.write_text(text)
        backends.append(Backend(there, received, report=report))
        return backends[0].run(given).state

    words = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
    with KfpServer(execute) as server:
        done = kfp_run_submit(server, package, "-w", *words)
    assert done.returncode == 0, done.stderr
    assert f"Run is finished with state {backends[0].run_record.state}." in done.stdout
    return backends[0].run_record


def check_success(run: Run) -> None:
    assert run.state == "SUCCEEDED", {step.name: step.error for step in run.steps.values() if step.error}
    summary = run.steps["finish"]
    assert summary.log.startswith("# Done: all "), summary.log


@needs_sandbox
def test_all_steps_of_all_pipelines_pass(tmp_path: Path, store_server: EmbeddedStore, data: Path) -> None:
    there = world(tmp_path, store_server, data)
    common = arguments(store_server, data, "source", "config", "base_model")
    parts = submitted_by_kfp(there, PIPELINES / "finetune_parts.yaml", common)
    check_success(parts)
    assert {"ingest 1/2", "encode 2/2", "sample before 1/2", "sample after 2/2"} < set(parts.steps)
    whole = Backend(there, PIPELINES / "finetune.yaml").run(common)
    check_success(whole)
    external = Backend(there, PIPELINES / "finetune_external.yaml").run(
        arguments(store_server, data, "source", "config", "base_model", "external_source")
    )
    check_success(external)
    report = external.steps["evaluate"].artifacts
    assert report["metrics"]["metadata"]["num_samples"] == 8.0
    assert report["report"]["metadata"]["store_uri"].startswith("s3://reports/tiny-run/")
    page = there.object_path(report["html"]["uri"])
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert there.object_path(external.steps["train"].artifacts["summary"]["uri"]).stat().st_size > 0
    judged = Backend(there, PIPELINES / "evaluate.yaml").run(
        {
            "dataset": whole.steps["ingest"].artifacts["dataset"]["metadata"]["store_uri"],
            "model": whole.steps["train"].artifacts["adapted"]["metadata"]["store_uri"],
            "base_model": common["base_model"],
            "config": common["config"],
        }
    )
    check_success(judged)


@needs_sandbox
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11))])
def test_a_step_killed_at_any_point_and_started_again_ends_in_the_same_outputs(
    seed: int, tmp_path: Path, store_server: EmbeddedStore, data: Path
) -> None:
    names = ("source", "config", "base_model", "external_source")
    chance = random.Random(seed)
    (tmp_path / "calm").mkdir()
    calm = Backend(world(tmp_path / "calm", store_server, data), PIPELINES / "finetune_external.yaml")
    check_success(calm.run(arguments(store_server, data, *names)))
    with EmbeddedStore(tmp_path / "store") as server:
        terminate = {step: chance.uniform(0.5, 12) for step in (*STEPS, "finish")}
        rough = Backend(world(tmp_path, server, data), PIPELINES / "finetune_external.yaml", terminate)
        check_success(rough.run(arguments(server, data, *names)))
        assert max(step.attempts for step in rough.run_record.steps.values()) == 2
        ended = outputs(server)
    expected = outputs(store_server)
    assert len(ended) >= 7
    for uri, output in ended.items():
        assert output.keys() == expected[uri].keys()
        assert [name for name, held in output.items() if held != expected[uri][name]] == [], uri


@needs_sandbox
def test_a_step_that_fails_ends_the_run_with_advice(tmp_path: Path, store_server: EmbeddedStore, data: Path) -> None:
    given = arguments(store_server, data, "config", "base_model") | {"source": "/data/nowhere"}
    run = Backend(world(tmp_path, store_server, data), PIPELINES / "finetune.yaml").run(given)
    assert run.state == "FAILED"
    assert set(run.steps) == {"ingest", "stage", "sample before", "finish"}, "what needs no data goes on"
    page = run.steps["finish"].log
    assert page.startswith("# Failed in ingest: 2 of 7 steps done")
    assert "| evaluate | not started |" in page
    assert "`ingest` was given what it cannot use; correct what its message names." in page


def test_a_number_for_a_text_becomes_text_on_its_way_into_a_graph(tmp_path: Path) -> None:
    backend = Backend(World(tmp_path, {}), PIPELINES / "finetune.yaml")
    inside = backend.checked(backend.spec["components"]["comp-exit-handler-1"], {"pipelinechannel--memory": 8})
    assert inside.inputs == {"pipelinechannel--memory": "8"}


def test_a_field_of_the_pod_that_is_no_text_fails_the_step(tmp_path: Path) -> None:
    launcher = Launcher(World(tmp_path, {}), {"image": "{{$.inputs.parameters['pipelinechannel--image']}}"}, {}, "")
    with pytest.raises(BackendError, match="must come from text, not from 8"):
        launcher.check_pod_fields({"pipelinechannel--image": 8})


def test_a_step_without_its_secret_never_starts(tmp_path: Path, data: Path) -> None:
    given = {"source": "/data", "config": "demo", "base_model": "tiny"}
    run = Backend(World(tmp_path, {}, {"radiffuse-data": data}), PIPELINES / "finetune.yaml").run(given)
    assert run.state == "FAILED"
    assert "CreateContainerConfigError: no MINIO_ENDPOINT in secret 'radiffuse-store'" in run.steps["stage"].error


INPUT: dict[str, Any] = {
    "inputs": {"parameterValues": {"n": 1.0, "ok": True, "names": ["a"], "text": 'x"\n'}, "artifacts": {}},
    "outputs": {"artifacts": {}, "parameters": {}, "outputFile": "/tmp/out"},
}


def test_placeholders_become_text_as_the_launcher_writes_it() -> None:
    words = [f"{{{{$.inputs.parameters['{name}']}}}}" for name in ("n", "ok", "names", "text")]
    assert substituted(words, INPUT, {}) == ["1", "true", '["a"]', 'x"\n']


@pytest.mark.parametrize("literal", ["{{$.outputs.output_file}}", "{{$.pipeline_job_uuid}}", '{"Concat": ["a", "b"]}'])
def test_what_the_launcher_does_not_know_stays_literal(literal: str) -> None:
    assert substituted([literal], INPUT, {}) == [literal]


def test_a_parameter_that_was_not_passed_fails_the_driver() -> None:
    with pytest.raises(BackendError, match="parameter not found in executor input"):
        substituted(["{{$.inputs.parameters['absent']}}"], INPUT, {})


def test_metadata_come_back_changed_and_a_null_fails_the_step() -> None:
    assert after_round_trip({"i": 1, "b": True, "l": [1], "d": {"a": 1}, "s": "x"}) == {
        "i": 1.0, "b": 1, "l": {"list": [1]}, "d": {"struct": {"a": 1}}, "s": "x",
    }  # fmt: skip
    with pytest.raises(BackendError, match="metadata 'n' is null"):
        after_round_trip({"n": None})


@pytest.mark.parametrize(("value", "kind"), [("1", "NUMBER_INTEGER"), (True, "NUMBER_DOUBLE"), ("[]", "LIST")])
def test_the_driver_converts_nothing_but_to_text(value: object, kind: str) -> None:
    with pytest.raises(BackendError, match="type mismatch"):
        checked_input("x", value, kind)
    assert checked_input("x", ["a"], "STRING") == '["a"]'
