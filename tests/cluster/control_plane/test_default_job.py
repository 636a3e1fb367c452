"""The default job, as rendered, on the live API with the real operator, webhook and scheduler."""

from typing import Any

import pytest

from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.errors import ConfigError
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import CommandError, wait_until
from tests.cluster_model.jobs import RUN, make_job

pytestmark = pytest.mark.cluster

SECONDS = 60.0
Object = dict[str, Any]


def create(plane: ControlPlane, namespace: str, job: TrainingJob) -> None:
    (manifest,) = job.to_manifests()
    plane.apply(manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}})


def wait_for(plane: ControlPlane, namespace: str, job: TrainingJob, condition: str) -> None:
    wait = ("wait", f"--for=condition={condition}", f"--timeout={SECONDS:.0f}s", f"pytorchjob/{job.name}")
    plane.kubectl("--namespace", namespace, *wait, seconds=SECONDS + 10)


def pods_of(plane: ControlPlane, namespace: str, job: TrainingJob) -> dict[str, Object]:
    """Pods by what follows the job's name."""
    selector = f"app.kubernetes.io/instance={job.name}"
    found = plane.get("pods", "--namespace", namespace, "--selector", selector)["items"]
    return {pod["metadata"]["name"].removeprefix(f"{job.name}-"): pod for pod in found}


def environment(pod: Object) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}


def test_the_default_job_runs_on_two_nodes_of_32_gpus_and_succeeds(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    job = make_job()
    create(control_plane, namespace, job)
    wait_for(control_plane, namespace, job, "Running")
    pods = pods_of(control_plane, namespace, job)
    assert set(pods) == {"master-0", "worker-0"}
    assert {pod["spec"]["nodeName"] for pod in pods.values()} == set(gpu_nodes.names)
    for rank, pod in enumerate(pods[name] for name in ("master-0", "worker-0")):
        assert (
            environment(pod).items()
            >= {
                "PET_NNODES": "2",
                "PET_NPROC_PER_NODE": "32",
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": f"{job.name}-master-0",
                "PET_MASTER_PORT": "23456",
                "WORLD_SIZE": "64",
            }.items()
        )
        assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "32"
        assert pod["status"]["qosClass"] == "Guaranteed"
    gpu_nodes.succeed(namespace)
    wait_for(control_plane, namespace, job, "Succeeded")


def test_the_service_of_the_master_has_a_port_for_prometheus(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    job = make_job()
    create(control_plane, namespace, job)
    wait_for(control_plane, namespace, job, "Running")
    service = control_plane.get("service", f"{job.name}-master-0", "--namespace", namespace)
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"pytorchjob-port": 23456, "gang": 23457, "metrics": 9090}


def test_a_second_job_waits_for_gpus_and_the_scheduler_says_so(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    first, second = make_job(), make_job(run=RUN.model_copy(update={"digest": "f" * 16}))
    create(control_plane, namespace, first)
    wait_for(control_plane, namespace, first, "Running")
    create(control_plane, namespace, second)

    def is_refused() -> bool:
        pods = pods_of(control_plane, namespace, second).values()
        told = [condition.get("message", "") for pod in pods for condition in pod["status"].get("conditions", [])]
        return sum("2 Insufficient nvidia.com/gpu" in message for message in told) == 2

    wait_until(is_refused, SECONDS, "the scheduler refuses both pods of the second job")
    assert {pod["status"]["phase"] for pod in pods_of(control_plane, namespace, second).values()} == {"Pending"}


def test_two_pods_of_a_job_never_share_a_node_even_where_both_would_fit(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, namespace: str
) -> None:
    job = make_job("nodes=4", "gpus_per_node=8")
    create(control_plane, namespace, job)

    def places() -> list[str] | None:
        pods = pods_of(control_plane, namespace, job).values()
        is_settled = len(pods) == 4 and all(pod["status"].get("conditions") for pod in pods)
        return sorted(pod["spec"].get("nodeName", "") for pod in pods) if is_settled else None

    assert wait_until(places, SECONDS, "the scheduler has looked at four pods") == ["", "", *gpu_nodes.names]


def test_a_wrong_job_is_refused_by_the_model_before_and_by_the_webhook_after(
    control_plane: ControlPlane, namespace: str
) -> None:
    with pytest.raises(ConfigError, match=r"run\.name: must be a DNS-1035 label"):
        load_job("2x32", run=RUN.model_dump() | {"name": "1st"})
    (manifest,) = make_job().to_manifests()
    manifest["metadata"] |= {"name": "1st", "namespace": namespace}
    with pytest.raises(CommandError, match="a DNS-1035 label must consist of"):
        control_plane.apply(manifest)
