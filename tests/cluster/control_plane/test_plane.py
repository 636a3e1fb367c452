"""The control plane is closed to the outside, enforces what it is told, and can be disturbed."""

import socket

import pytest

from tests.cluster.isolation import ADDRESS, BRIDGE
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import CommandError

pytestmark = pytest.mark.cluster


def test_nothing_outside_the_namespace_can_reach_it_or_be_reached(control_plane: ControlPlane) -> None:
    assert {name for _, name in socket.if_nameindex()} <= {"lo", BRIDGE}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, pytest.raises(OSError, match="unreachable"):
        probe.connect(("192.0.2.1", 9))
    assert control_plane.server == f"https://{ADDRESS}:6443"


def test_a_pod_that_is_not_restricted_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(CommandError, match=r"violates PodSecurity .restricted:"):
        control_plane.kubectl("--namespace", namespace, "run", "free", "--image=radiffuse.test/train:1")


def test_an_account_may_do_what_it_was_given_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.kubeconfig_for(namespace, "default")

    assert f"system:serviceaccount:{namespace}:default" in control_plane.kubectl(
        "auth", "whoami", kubeconfig=kubeconfig
    )
    with pytest.raises(CommandError, match="pods is forbidden"):
        control_plane.kubectl("get", "pods", kubeconfig=kubeconfig)


def test_without_the_operator_no_job_is_admitted_and_with_it_again(control_plane: ControlPlane, namespace: str) -> None:
    job = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "early", "namespace": namespace},
        "spec": {"pytorchReplicaSpecs": {}},
    }
    with control_plane.without_training_operator(), pytest.raises(CommandError, match="failed calling webhook"):
        control_plane.apply(job)

    control_plane.apply(job)


def test_the_kinds_of_trainer_and_jobset_are_known(control_plane: ControlPlane) -> None:
    kinds = control_plane.kubectl("api-resources", "--no-headers", "-o", "name").split()

    assert {
        "pytorchjobs.kubeflow.org",
        "trainjobs.trainer.kubeflow.org",
        "trainingruntimes.trainer.kubeflow.org",
        "clustertrainingruntimes.trainer.kubeflow.org",
        "jobsets.jobset.x-k8s.io",
    } <= set(kinds)
