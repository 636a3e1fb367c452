"""A job meets the operator's webhook and the scheduler as in any cluster, and its fake pods end as they are told."""

from typing import Any

import pytest

from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import CommandError, wait_until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pytorchjob(name: str, namespace: str, container: str = "pytorch", **annotations: str) -> dict[str, Any]:
    """A job over two pods of 32 GPUs; annotations by the last part of their names, underscores for hyphens."""
    pod = {
        "metadata": {
            "annotations": {f"test.radiffuse.org/{key.replace('_', '-')}": each for key, each in annotations.items()}
        },
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [
                {
                    "name": container,
                    "image": "radiffuse.test/train:1",
                    "securityContext": RESTRICTED,
                    "resources": {"limits": {"nvidia.com/gpu": 32}},
                }
            ],
        },
    }
    replica = {"replicas": 1, "restartPolicy": "OnFailure", "template": pod}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nprocPerNode": "32",
            "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 3},
            "pytorchReplicaSpecs": {"Master": replica, "Worker": replica},
        },
    }


def wait_for(plane: ControlPlane, namespace: str, job: str, condition: str) -> None:
    wait = ("wait", f"--for=condition={condition}", f"--timeout={SECONDS:.0f}s", f"pytorchjob/{job}")
    plane.kubectl("--namespace", namespace, *wait, seconds=SECONDS + 10)


def container_status(plane: ControlPlane, namespace: str, pod: str) -> dict[str, Any]:
    statuses = plane.get("pod", pod, "--namespace", namespace)["status"].get("containerStatuses") or [{}]
    status: dict[str, Any] = statuses[0]
    return status


def test_the_webhook_refuses_a_wrong_job_in_its_own_words(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(CommandError, match="must have at least one container with name pytorch"):
        control_plane.apply(pytorchjob("wrong", namespace, container="main"))
    with pytest.raises(CommandError, match="DNS-1035 label"):
        control_plane.apply(pytorchjob("1st", namespace))
    two_masters = pytorchjob("wrong", namespace)
    two_masters["spec"]["pytorchReplicaSpecs"]["Master"] = {
        **two_masters["spec"]["pytorchReplicaSpecs"]["Master"],
        "replicas": 2,
    }
    with pytest.raises(CommandError, match=r"pytorchReplicaSpecs\[Master\]\.replicas: Forbidden: must be 1"):
        control_plane.apply(two_masters)


def test_a_container_is_restarted_in_place_and_the_job_succeeds(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    outcome = {"outcome": "restart-143,succeed", "termination_message": '{"outcome": "preempted"}'}
    control_plane.apply(pytorchjob("again", namespace, after_milliseconds="1500", **outcome))

    def restarted() -> dict[str, Any] | None:
        status = container_status(control_plane, namespace, "again-master-0")
        return status if status.get("restartCount") == 1 else None

    wait_for(control_plane, namespace, "again", "Running")
    ended = wait_until(restarted, SECONDS, "the master is restarted")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (143, '{"outcome": "preempted"}')
    wait_for(control_plane, namespace, "again", "Succeeded")


def test_a_container_that_always_fails_ends_the_job_at_its_limit(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    control_plane.apply(pytorchjob("never", namespace, outcome="exit-1", after_milliseconds="300"))

    wait_for(control_plane, namespace, "never", "Failed")


@pytest.mark.parametrize(
    ("outcome", "reason"), [("pull-error", "ImagePullBackOff"), ("stay-pending", "ContainerCreating")]
)
def test_a_container_that_cannot_start_waits_and_says_why(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str, outcome: str, reason: str
) -> None:
    control_plane.apply(pytorchjob("stuck", namespace, outcome=outcome))

    def waits() -> bool:
        names = control_plane.kubectl("get", "pods", "-o", "name", "--namespace", namespace)
        if "stuck-master-0" not in names:
            return False
        state = container_status(control_plane, namespace, "stuck-master-0").get("state", {})
        return bool(state.get("waiting", {}).get("reason") == reason)

    wait_until(waits, SECONDS, f"the master waits with {reason}")


def test_a_killed_container_says_oomkilled_and_an_evicted_pod_is_failed(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    job = pytorchjob("pressed", namespace, outcome="oom,run")
    evicted = pytorchjob("", "", outcome="evicted")["spec"]["pytorchReplicaSpecs"]["Worker"]
    job["spec"]["pytorchReplicaSpecs"]["Worker"] = evicted
    control_plane.apply(job)

    def oom() -> bool:
        last = container_status(control_plane, namespace, "pressed-master-0").get("lastState", {})
        return bool(last.get("terminated", {}).get("reason") == "OOMKilled")

    def was_evicted() -> bool:
        events = control_plane.get("events", "--namespace", namespace)["items"]
        return any(each["reason"] == "Evicted" for each in events)

    wait_for(control_plane, namespace, "pressed", "Running")
    wait_until(oom, SECONDS, "the master was killed for memory")
    wait_until(was_evicted, SECONDS, "the worker was evicted")


def test_a_deleted_pod_shows_its_exit_code_before_it_is_gone(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    control_plane.apply(pytorchjob("taken", namespace, on_delete="exit-143"))
    wait_for(control_plane, namespace, "taken", "Running")
    control_plane.kubectl("--namespace", namespace, "delete", "pod", "taken-worker-0", "--wait=false")

    def code() -> int | None:
        terminated = container_status(control_plane, namespace, "taken-worker-0").get("state", {}).get("terminated")
        return terminated["exitCode"] if terminated else None

    assert wait_until(code, SECONDS, "the worker has ended") == 143


def test_what_a_pod_logged_is_shown(control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str) -> None:
    control_plane.apply(pytorchjob("talks", namespace))
    wait_for(control_plane, namespace, "talks", "Running")
    gpu_nodes.write_log(namespace, "talks-master-0", "global_step=1\nglobal_step=2")

    def logs() -> str:
        try:
            return control_plane.kubectl("--namespace", namespace, "logs", "talks-master-0")
        except CommandError:  # kwok has yet to learn of the source
            return ""

    assert wait_until(logs, SECONDS, "the log is served") == "global_step=1\nglobal_step=2\n"
