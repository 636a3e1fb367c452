"""What a launcher runs for owns its job: it takes the job with it, and a launcher that comes after another goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import PYTORCHJOB
from radiffuse.cluster.owner import KFP_POD_NAME_VARIABLE, POD_NAME_VARIABLE, Owner, find_owner
from radiffuse.cluster.permissions import rights
from radiffuse.cluster.stopping import stop
from radiffuse.cluster.submit import job_for, submit
from radiffuse.errors import ConfigError
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.cluster.accounts import account
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster_model.launches import make_plan, make_secret

pytestmark = pytest.mark.cluster

Object = dict[str, Any]


@pytest.fixture
def launcher(control_plane: ControlPlane, namespace: str) -> Iterator[ClusterClient]:
    """A client with a launcher's rights and no other."""
    make_secret(control_plane, namespace)
    with ClusterClient(account(control_plane, namespace, "launcher", rights())) as made:
        assert made.namespace == namespace
        yield made


def pod_template(**metadata: Any) -> Object:
    """Of a launcher, as restricted Pod Security lets it in."""
    security = {"runAsNonRoot": True, "runAsUser": 20002, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "main", "image": "radiffuse.test/step:1"}
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {"securityContext": security, "containers": [container], "restartPolicy": "Never"}
    return {"metadata": metadata, "spec": spec}


@pytest.fixture
def workflow(control_plane: ControlPlane, namespace: str) -> Object:
    """A reference to a workflow, which has a step's pod."""
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    control_plane.apply(kind | {"metadata": {"name": "finetune-x", "namespace": namespace}})
    found = control_plane.get("workflow", "finetune-x", "--namespace", namespace)
    reference = kind | {"name": "finetune-x", "uid": found["metadata"]["uid"]}
    template = pod_template(
        name="step", namespace=namespace, ownerReferences=[reference], labels={"pipeline/runid": "7f3a"}
    )
    control_plane.apply({"apiVersion": "v1", "kind": "Pod", **template})
    return reference


def jobs(plane: ControlPlane, namespace: str) -> list[Object]:
    return list(plane.get("pytorchjobs", "--namespace", namespace)["items"])


def job_of(plan: TrainPlan, namespace: str) -> TrainingJob:
    return job_for(plan, "2x32", namespace)


def test_a_run_owns_its_job_and_takes_it_with_it(
    control_plane: ControlPlane,
    launcher: ClusterClient,
    store: Store,
    namespace: str,
    workflow: Object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KFP_POD_NAME_VARIABLE, "step")
    owner = find_owner(launcher, namespace)
    assert owner.reference == workflow
    plan = make_plan()
    submit(launcher, store, plan, job_of(plan, namespace), owner, lambda: None)
    (job,) = jobs(control_plane, namespace)
    assert job["metadata"]["ownerReferences"] == [workflow]
    assert job["metadata"]["annotations"]["radiffuse.org/pipeline-run"] == "7f3a"
    other = Owner({**workflow, "name": "finetune-y", "uid": "another"})
    with pytest.raises(ConfigError, match="Workflow finetune-x trains the same plan now"):
        submit(launcher, store, plan, job_of(plan, namespace), other, lambda: None)
    control_plane.kubectl("delete", "workflow", "finetune-x", "--namespace", namespace)
    wait_until(lambda: jobs(control_plane, namespace) == [], 60, "the garbage collector has taken the job")


def start_batch_job(plane: ControlPlane, namespace: str) -> tuple[Object, list[str]]:
    """A reference to a batch Job whose pods run a launcher, and the names of two of them."""
    # Both at once: after the end of one the Job waits ten seconds before it makes the next.
    spec = {"parallelism": 2, "completions": 2, "template": pod_template()}
    kind = {"apiVersion": "batch/v1", "kind": "Job"}
    plane.apply(kind | {"metadata": {"name": "launcher", "namespace": namespace}, "spec": spec})
    found = plane.get("job", "launcher", "--namespace", namespace)

    def two() -> list[str]:
        pods = plane.get("pods", "--selector=batch.kubernetes.io/job-name=launcher", "--namespace", namespace)["items"]
        return [pod["metadata"]["name"] for pod in pods] if len(pods) == 2 else []

    return kind | {"name": "launcher", "uid": found["metadata"]["uid"]}, wait_until(two, 60, "the Job has its pods")


def test_a_batch_job_owns_what_its_pods_send_and_another_of_them_resumes_what_one_has_suspended(
    control_plane: ControlPlane,
    launcher: ClusterClient,
    store: Store,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = make_plan()
    reference, (one, other) = start_batch_job(control_plane, namespace)
    monkeypatch.setenv(POD_NAME_VARIABLE, one)
    first = submit(launcher, store, plan, job_of(plan, namespace), find_owner(launcher, namespace), lambda: None)
    stop(launcher, PYTORCHJOB, namespace, first.name, False, "launcher")
    monkeypatch.setenv(POD_NAME_VARIABLE, other)
    second = submit(launcher, store, plan, job_of(plan, namespace), find_owner(launcher, namespace), lambda: None)
    assert (first.how, second.how) == ("created", "resumed") and first.uid == second.uid
    (job,) = jobs(control_plane, namespace)
    assert job["metadata"]["ownerReferences"] == [reference]
    assert not job["spec"]["runPolicy"]["suspend"]
    # As `helm uninstall` does.
    control_plane.kubectl("delete", "job", "launcher", "--cascade=background", "--namespace", namespace)
    wait_until(lambda: jobs(control_plane, namespace) == [], 60, "the garbage collector has taken the job")


def test_a_pod_that_nothing_owns_sends_a_job_without_owner(
    control_plane: ControlPlane, launcher: ClusterClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control_plane.apply({"apiVersion": "v1", "kind": "Pod", **pod_template(name="alone", namespace=namespace)})
    monkeypatch.setenv(POD_NAME_VARIABLE, "alone")
    assert find_owner(launcher, namespace).reference is None
