"""A TrainJob under the real Trainer and JobSet: the same endings, states and exit codes as those of a PyTorchJob."""

import json
from typing import Any

import pytest

from radiffuse.cluster.api_errors import RefusedError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.state import Phase
from radiffuse.cluster.status import cancel_job
from radiffuse.cluster.submit import dry_run, job_for, submit
from radiffuse.errors import ClusterError
from radiffuse.outcome import Ending, Outcome
from radiffuse.storage import Store
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster.trainer import Trainer
from tests.cluster_model.launches import document, launched, make_plan

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("gpu_nodes", "trainer")]

WRONG = Ending(Outcome.WRONG_INPUT, "train.learning_rate must be below 1", 0).to_json()
WAIT = 60.0
KINDS = "trainjobs,trainingruntimes,jobsets"

Object = dict[str, Any]


def shown(outcome: str, **fields: Any) -> Object:
    return document(outcome, backend="trainjob", **fields)


def job_set(plane: ControlPlane, namespace: str, name: str) -> Object:
    return plane.get("jobset", name, "--namespace", namespace)


def pods(plane: ControlPlane, namespace: str) -> list[Object]:
    return list(plane.get("pods", "--namespace", namespace)["items"])


def test_a_train_job_is_made_pods_on_two_nodes_and_succeeds(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, store: Store, job_namespace: str
) -> None:
    with launched(control_plane, store, job_namespace, shown("succeed")) as launch:
        state = launch.wait()
        first, second = pods(control_plane, job_namespace)
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert sorted(pod.node for pod in state.pods) == list(gpu_nodes.names)
    for pod in (first, second):
        (container,) = pod["spec"]["containers"]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert (environment["PET_NNODES"], environment["PET_NPROC_PER_NODE"]) == ("2", "32")
        name = launch.job.name
        assert environment["PET_MASTER_ADDR"] == f"{name}-node-0-0.{name}"
        assert environment["PET_MASTER_PORT"] == str(launch.job.master_port)
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "32"
        assert container["args"][0] == "worker" and "command" not in container  # the image's entry point runs it


def test_a_train_job_that_trainer_refuses_leaves_no_runtime_behind(
    control_plane: ControlPlane, store: Store, job_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    job = job_for(plan, json.dumps(shown("succeed")), job_namespace)
    runtime, train_job = job.to_manifests()
    train_job["spec"]["trainer"]["env"] = [{"name": "PET_NNODES", "value": "3"}]
    monkeypatch.setattr(TrainingJob, "to_manifests", lambda self: [runtime, train_job])
    with ClusterClient(control_plane.kubeconfig) as client:
        assert [each["kind"] for each in dry_run(client, job)] == ["TrainingRuntime", "TrainJob"]
        with pytest.raises(RefusedError, match=r"admission webhook .*trainjob.* denied the request: .*PET_NNODES"):
            submit(client, store, plan, job, Owner(), lambda: None)
    assert control_plane.get(KINDS, "--namespace", job_namespace)["items"] == []


def test_what_no_retry_cures_fails_the_job_set_at_once(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with launched(control_plane, store, job_namespace, shown("exit-2", message=WRONG)) as launch:
        state = launch.wait()
        found = job_set(control_plane, job_namespace, launch.job.name)
    assert (state.phase, state.exit_code) == (Phase.failed, 2)
    assert "train.learning_rate must be below 1" in state.reason
    assert found["status"]["terminalState"] == "Failed" and found["status"].get("restarts", 0) == 0


def test_a_crash_starts_the_whole_gang_again(control_plane: ControlPlane, store: Store, job_namespace: str) -> None:
    with launched(control_plane, store, job_namespace, shown("exit-134,succeed")) as launch:
        state = launch.wait()
        found = job_set(control_plane, job_namespace, launch.job.name)
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert {end.exit_code for end in launch.timeline.ends} == {0, 134}
    assert found["status"]["restarts"] == 1


def test_a_gang_that_always_crashes_fails_after_its_restarts(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with launched(control_plane, store, job_namespace, shown("exit-134", max_restarts=1)) as launch:
        state = launch.wait()
        found = job_set(control_plane, job_namespace, launch.job.name)
    assert (state.phase, state.exit_code) == (Phase.failed, 1)
    assert "exited with 134 (crashed)" in state.reason
    assert found["status"]["restarts"] == 1


def test_a_pod_that_is_preempted_takes_its_gang_along_and_all_resume(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    wanted = shown("run,succeed")
    wanted["annotations"]["test.radiffuse.org/on-delete"] = "exit-143"
    with launched(control_plane, store, job_namespace, wanted) as launch:
        wait_until(lambda: launch.phases()[-1:] == ["starting"], WAIT, "containers run")
        before = {pod["metadata"]["name"] for pod in pods(control_plane, job_namespace)}
        control_plane.kubectl("delete", "pod", min(before), "--namespace", job_namespace, "--wait=false")
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert 143 in {end.exit_code for end in launch.timeline.ends}
    assert before.isdisjoint(pod.name for pod in state.pods)


def test_a_train_job_is_cancelled_resumed_and_deleted_with_its_runtime(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with (
        launched(control_plane, store, job_namespace, shown("run")) as launch,
        ClusterClient(control_plane.kubeconfig) as client,
    ):
        wait_until(lambda: launch.phases()[-1:] == ["starting"], WAIT, "containers run")
        name = launch.job.name
        assert cancel_job(client, job_namespace, name, should_delete=False) == "suspended"
        wait_until(lambda: pods(control_plane, job_namespace) == [], WAIT, "the pods are gone")
        wait_until(lambda: launch.phases()[-1] == "suspended", WAIT, "the launcher sees it")
        again = submit(client, store, launch.plan, launch.job, Owner(), lambda: None)
        assert again.how == "resumed"
        wait_until(lambda: len(pods(control_plane, job_namespace)) == 2, WAIT, "there are pods again")
        assert cancel_job(client, job_namespace, name, should_delete=True) == "deleted"
        assert launch.wait().phase is Phase.deleted
        wait_until(lambda: pods(control_plane, job_namespace) == [], WAIT, "the pods are gone")
        assert control_plane.get(KINDS, "--namespace", job_namespace)["items"] == []


def test_a_trainer_that_is_not_there_is_named_when_its_webhook_is_asked(
    control_plane: ControlPlane, trainer: Trainer, store: Store, job_namespace: str
) -> None:
    with (
        trainer.without("trainer"),
        launched(control_plane, store, job_namespace, shown(""), admitted_seconds=3) as launch,
        pytest.raises(ClusterError, match=r"failed calling webhook .* is that of Kubeflow Trainer 2\.3: is it running"),
    ):
        launch.wait()


def test_a_train_job_of_which_nobody_makes_pods_is_given_up_with_the_reason(
    control_plane: ControlPlane, trainer: Trainer, store: Store, job_namespace: str
) -> None:
    with (
        trainer.without("jobset"),
        launched(control_plane, store, job_namespace, shown(""), admitted_seconds=3) as launch,
    ):
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.failed, 1)
    assert "the operator has not made the job's pods within 3 s" in state.reason
    assert "is Kubeflow Trainer 2.3 installed and running" in state.reason
