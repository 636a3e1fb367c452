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


class BatchJob:
    """A batch Job whose pods run a launcher."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._scope = plane, ("--namespace", namespace)
        spec = {"backoffLimit": 10, "template": pod_template()}
        self.reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "launcher"}
        plane.apply(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "launcher", "namespace": namespace}}
            | {"spec": spec}
        )
        self.reference["uid"] = plane.get("job", "launcher", *self._scope)["metadata"]["uid"]

    def pod(self) -> str:
        """The name of its pod, once it has one."""
        found = wait_until(self._pods, 60, "the Job has a pod")
        return str(found[0]["metadata"]["name"])

    def replace_pod(self) -> str:
        """Take its pod away; the name of the next."""
        old = self.pod()
        self._plane.kubectl("delete", "pod", old, *self._scope)
        wait_until(lambda: self._pods() and self.pod() != old, 60, "the Job has another pod")
        return self.pod()

    def delete(self) -> None:
        """As `helm uninstall` does."""
        self._plane.kubectl("delete", "job", "launcher", "--cascade=background", *self._scope)

    def _pods(self) -> list[Object]:
        return list(self._plane.get("pods", "--selector=batch.kubernetes.io/job-name=launcher", *self._scope)["items"])


def test_a_batch_job_owns_what_its_pods_send_and_its_next_pod_resumes_what_the_last_has_suspended(
    control_plane: ControlPlane,
    launcher: ClusterClient,
    store: Store,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch, plan = BatchJob(control_plane, namespace), make_plan()
    monkeypatch.setenv(POD_NAME_VARIABLE, batch.pod())
    first = submit(launcher, store, plan, job_of(plan, namespace), find_owner(launcher, namespace), lambda: None)
    stop(launcher, PYTORCHJOB, namespace, first.name, False, "launcher")
    monkeypatch.setenv(POD_NAME_VARIABLE, batch.replace_pod())
    second = submit(launcher, store, plan, job_of(plan, namespace), find_owner(launcher, namespace), lambda: None)
    assert (first.how, second.how) == ("created", "resumed") and first.uid == second.uid
    (job,) = jobs(control_plane, namespace)
    assert job["metadata"]["ownerReferences"] == [batch.reference]
    assert not job["spec"]["runPolicy"]["suspend"]
    batch.delete()
    wait_until(lambda: jobs(control_plane, namespace) == [], 60, "the garbage collector has taken the job")


def test_a_pod_that_nothing_owns_sends_a_job_without_owner(
    control_plane: ControlPlane, launcher: ClusterClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control_plane.apply({"apiVersion": "v1", "kind": "Pod", **pod_template(name="alone", namespace=namespace)})
    monkeypatch.setenv(POD_NAME_VARIABLE, "alone")
    assert find_owner(launcher, namespace).reference is None
