"""A job is sent exactly once, whoever tries and however often; what is missing is said before anything is sent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster.api_errors import RefusedError, UnauthenticatedError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import PYTORCHJOB
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.stopping import stop
from radiffuse.cluster.submit import Submitted, dry_run, job_for, submit
from radiffuse.errors import ClusterError, ConfigError
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.cluster.plane import ControlPlane
from tests.cluster_model.launches import document, make_inputs, make_plan, make_secret

pytestmark = pytest.mark.cluster

RECORD = b'{"outcome": "GAVE_UP", "reason": "x", "global_step": 0}'


@pytest.fixture
def client(control_plane: ControlPlane) -> Any:
    with ClusterClient(control_plane.kubeconfig) as made:
        yield made


def job_of(plan: TrainPlan, namespace: str, **fields: Any) -> TrainingJob:
    return job_for(plan, json.dumps(document(**fields)), namespace)


def send(client: ClusterClient, store: Store, plan: TrainPlan, namespace: str, **fields: Any) -> Submitted:
    return submit(client, store, plan, job_of(plan, namespace, **fields), Owner(), lambda: None)


def jobs(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    return list(plane.get("pytorchjobs", "--namespace", namespace)["items"])


def test_a_job_is_sent_once_and_then_found(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    first, second = (send(client, store, plan, job_namespace) for _ in range(2))
    assert (first.how, second.how) == ("created", "found")
    assert first.uid == second.uid
    (job,) = jobs(control_plane, job_namespace)
    assert job["metadata"]["name"] == f"few-{plan.digest[:8]}"
    assert TrainPlan.model_validate_json(store.get_bytes(f"{plan.checkpoints_uri}/plan.json")) == plan


def test_a_job_that_is_sent_anew_forgets_why_the_last_one_was_given_up(
    client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    record = f"{plan.checkpoints_uri}/outcome.json"
    store.put_bytes(record, RECORD)
    send(client, store, plan, job_namespace)
    assert not store.exists(record)
    store.put_bytes(record, RECORD)
    send(client, store, plan, job_namespace)  # found, and what it has recorded is its own
    assert store.exists(record)


def test_what_was_suspended_is_resumed(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    sent = send(client, store, plan, job_namespace)
    stop(client, PYTORCHJOB, job_namespace, sent.name, False, "launcher")
    again = send(client, store, plan, job_namespace)
    assert (again.how, again.uid) == ("resumed", sent.uid)
    (job,) = jobs(control_plane, job_namespace)
    assert job["spec"]["runPolicy"]["suspend"] is False
    assert "radiffuse.org/suspended-by" not in job["metadata"].get("annotations", {})


@pytest.mark.usefixtures("gpu_nodes")
def test_a_job_that_failed_is_replaced(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    sent = send(client, store, plan, job_namespace, outcome="exit-134", max_restarts=0)
    wait = ("wait", "--for=condition=Failed", "--timeout=60s", f"pytorchjob/{sent.name}")
    control_plane.kubectl("--namespace", job_namespace, *wait, seconds=70)
    again = send(client, store, plan, job_namespace)
    assert again.how == "replaced" and again.uid != sent.uid


def test_two_plans_whose_jobs_would_have_one_name_are_told_apart(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    send(client, store, plan, job_namespace)
    other = plan.model_copy(update={"digest": plan.digest[:8] + "00000000"})
    with pytest.raises(ConfigError, match=rf"PyTorchJob {job_namespace}/few-{plan.digest[:8]} exists and trains anoth"):
        send(client, store, other, job_namespace)
    assert len(jobs(control_plane, job_namespace)) == 1


def test_a_job_of_somebody_elses_that_has_the_name_is_left_alone(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    (manifest,) = job_of(plan, job_namespace).to_manifests()
    manifest["metadata"]["labels"] = {}
    control_plane.apply(manifest)
    with pytest.raises(ConfigError, match="trains another plan"):
        send(client, store, plan, job_namespace)


@pytest.mark.parametrize("backend", ["pytorchjob", "trainjob"])
def test_a_dry_run_keeps_nothing(
    control_plane: ControlPlane, client: ClusterClient, namespace: str, backend: str
) -> None:
    answers = dry_run(client, job_of(make_plan(), namespace, backend=backend))
    assert all(answer["metadata"]["uid"] for answer in answers)
    assert control_plane.get("pytorchjobs,trainjobs,trainingruntimes", "--namespace", namespace)["items"] == []


def test_a_trainjob_is_sent_with_its_runtime_and_found_again(
    control_plane: ControlPlane, client: ClusterClient, store: Store, job_namespace: str
) -> None:
    plan = make_plan()
    hows = [send(client, store, plan, job_namespace, backend="trainjob").how for _ in range(2)]
    assert hows == ["created", "found"]
    (job,) = control_plane.get("trainjobs", "--namespace", job_namespace)["items"]
    (runtime,) = control_plane.get("trainingruntimes", "--namespace", job_namespace)["items"]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]


@pytest.mark.parametrize(
    ("entries", "fields", "words"),
    [
        ((), {}, "no secret 'radiffuse-store' in namespace"),
        (("MINIO_ACCESS_KEY",), {}, "secret 'radiffuse-store' in namespace .* has no MINIO_SECRET_KEY, MINIO_ENDPOINT"),
        (None, {"image_pull_secrets": ["registry"]}, "no secret 'registry' in namespace"),
        (None, {"queue": "team-a"}, "no queue 'team-a' in namespace .*: Kueue is not installed or has no such"),
    ],
)
def test_what_a_job_needs_and_is_missing_is_said_before_anything_is_sent(
    control_plane: ControlPlane,
    client: ClusterClient,
    store: Store,
    namespace: str,
    entries: tuple[str, ...] | None,
    fields: dict[str, Any],
    words: str,
) -> None:
    if entries != ():
        make_secret(control_plane, namespace, *(entries or ()))
    plan = make_plan()
    with pytest.raises(ConfigError, match=words):
        send(client, store, plan, namespace, **fields)
    assert jobs(control_plane, namespace) == []
    assert not store.exists(f"{plan.checkpoints_uri}/plan.json")


def test_a_namespace_that_does_not_exist_is_named(client: ClusterClient, store: Store) -> None:
    with pytest.raises(ConfigError, match="no namespace 'nowhere'; create it, or name another one"):
        send(client, store, make_plan(), "nowhere")


def test_the_webhooks_own_words_are_shown(client: ClusterClient, namespace: str) -> None:
    (manifest,) = job_of(make_plan(), namespace).to_manifests()
    manifest["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["name"] = "main"
    with pytest.raises(RefusedError, match=r"admission webhook .* denied .*must have at least one container with name"):
        client.create(PYTORCHJOB.resource, namespace, manifest, is_dry_run=True)


def test_the_servers_own_words_about_a_field_are_shown(client: ClusterClient, namespace: str) -> None:
    (manifest,) = job_of(make_plan(), namespace).to_manifests()
    manifest["spec"]["runPolicy"]["cleanPodPolicy"] = 3
    with pytest.raises(RefusedError, match=r"spec\.runPolicy\.cleanPodPolicy: Invalid value"):
        client.create(PYTORCHJOB.resource, namespace, manifest, is_dry_run=True)


def test_an_expired_token_is_told_from_a_missing_right(control_plane: ControlPlane, tmp_path: Path) -> None:
    document_ = yaml.safe_load(control_plane.kubeconfig.read_text())
    document_["users"][0]["user"] = {"token": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"}
    path = tmp_path / "expired"
    path.write_text(yaml.safe_dump(document_))
    with (
        ClusterClient(path) as client,
        pytest.raises(UnauthenticatedError, match=r"did not accept the credentials .* log in again"),
    ):
        client.get(PYTORCHJOB.resource, "default", "x")


def test_a_server_that_is_not_there_and_one_that_is_another_are_told_apart(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    document_ = yaml.safe_load(control_plane.kubeconfig.read_text())
    cluster = document_["clusters"][0]["cluster"]
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document_).replace(control_plane.server, "https://127.0.0.1:1"))
    with (
        ClusterClient(path) as client,
        pytest.raises(UnavailableError, match=r"cannot reach https://127\.0\.0\.1:1 .*refu"),
    ):
        client.get(PYTORCHJOB.resource, "default", "x")
    del cluster["certificate-authority-data"]
    path.write_text(yaml.safe_dump(document_))
    with ClusterClient(path) as client, pytest.raises(ClusterError, match="no trusted TLS connection to https://10"):
        client.get(PYTORCHJOB.resource, "default", "x")


def test_the_commands_show_and_cancel_a_job(
    control_plane: ControlPlane,
    client: ClusterClient,
    store: Store,
    store_access: None,
    job_namespace: str,
    tmp_path: Path,
) -> None:
    data, model = (manifest_file(tmp_path / f"{index}.json", each) for index, each in enumerate(make_inputs()))
    run = json.dumps({"name": "few", "train": {"total_batch_size": 64, "train_batch_size": 1}})
    where = ("--kubeconfig", str(control_plane.kubeconfig), "--namespace", job_namespace)
    given = ("--data", data, "--model", model, "--config", run, "--job", json.dumps(document(after_milliseconds=1)))

    dry = radiffuse("submit", *given, *where, "--dry-run")
    assert "kind: PyTorchJob" in dry and jobs(control_plane, job_namespace) == []
    sent = json.loads(radiffuse("submit", *given, *where, "--json"))
    assert sent["how"] == "created"
    assert "created" not in radiffuse("submit", *given, *where)
    assert sent["name"] in radiffuse("status", *where)
    shown = json.loads(radiffuse("status", sent["name"], *where, "--json"))
    assert shown["name"] == sent["name"] and shown["exit_code"] is None
    assert radiffuse("cancel", sent["name"], *where).endswith("suspended\n")
    assert "suspended by its user" in radiffuse("status", sent["name"], *where)
    assert radiffuse("submit", *given, *where).endswith("resumed\n")
    assert radiffuse("cancel", sent["name"], *where, "--delete").endswith("deleted\n")
    result = CliRunner().invoke(app, ["job", "status", sent["name"], *where])
    assert isinstance(result.exception, ClusterError) or result.exit_code == 0


def manifest_file(path: Path, manifest: Any) -> str:
    manifest.save(path)
    return str(path)


def radiffuse(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["job", *arguments], env=dict(os.environ))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
