"""Two nodes of 32 GPUs that exist only in the API: kwok plays the kubelet, and pods do what their annotations say."""

import datetime
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.cluster.build import executable, manifests
from tests.cluster.isolation import ADDRESS

if TYPE_CHECKING:
    from tests.cluster.plane import ControlPlane

GPUS_PER_NODE = 32
PORT = 10247
READY_SECONDS = 300.0
ACCOUNT = "kwok-controller"
STAGES = Path(__file__).parent / "stages.yaml"
"""Of pods; those of nodes are kwok's own."""
NODE_STAGES = ("stage/node/fast/node-initialize.yaml", "stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml")
CAPACITY = {
    "cpu": "256",
    "memory": "2Ti",
    "pods": "110",
    "ephemeral-storage": "4Ti",
    "nvidia.com/gpu": str(GPUS_PER_NODE),
}


class GpuNodes:
    """kwok and its nodes, on a control plane that runs."""

    names = ("gpu-0", "gpu-1")

    def __init__(self, plane: "ControlPlane") -> None:
        self._plane = plane
        self._kustomize = manifests("kwok") / "kustomize"
        self._logs = plane.folder / "pod-logs"

    def __enter__(self) -> Self:
        crds = [self._read(f"crd/bases/kwok.x-k8s.io_{kind}.yaml") for kind in ("stages", "logs")]
        rights = [self._read("rbac/role.yaml"), self._read("rbac/role_binding.yaml")]
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        self._plane.apply(*crds, *rights, account | {"metadata": {"name": ACCOUNT, "namespace": "kube-system"}})
        self._plane.wait_for_kinds(*crds)
        stages = yaml.safe_load(STAGES.read_text(encoding="utf-8"))["items"]
        self._plane.apply(*(self._read(path) for path in NODE_STAGES), *stages)
        self._server = self._plane.new_server("kwok", self._command())
        self._server.start()
        self._plane.apply(*(_node(name) for name in self.names))
        try:
            self._server.wait_until_ready(self._are_ready, READY_SECONDS)
        except BaseException:
            self._server.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop(signal.SIGKILL)

    def succeed(self, namespace: str) -> None:
        """Let the containers that run in a namespace end with exit 0."""
        outcome = "test.radiffuse.org/outcome=succeed"
        self._plane.kubectl("annotate", "pods", "--all", "--overwrite", outcome, "--namespace", namespace)

    def write_log(self, namespace: str, pod: str, text: str) -> None:
        """Append lines to what `kubectl logs` shows of a pod, in the format in which a kubelet keeps them."""
        path = self._logs / f"{namespace}_{pod}.log"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch()
            self._plane.apply(_log_source(namespace, pod, path))
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{now} stdout F {line}\n" for line in text.splitlines())

    def _command(self) -> list[str]:
        certificate, key = self._plane.authority.server("kwok", "kwok", None, (ADDRESS,))
        return [
            str(executable("kwok")),
            f"--kubeconfig={self._plane.kubeconfig_for('kube-system', ACCOUNT)}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
            "--enable-crds=Stage,Logs",
            "--cidr=10.250.0.0/24",
            f"--node-ip={ADDRESS}",
            f"--node-port={PORT}",
            f"--server-address={ADDRESS}:{PORT}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
        ]

    def _are_ready(self) -> bool:
        nodes = self._plane.get("nodes")["items"]
        ready = [
            condition["status"]
            for node in nodes
            for condition in node["status"].get("conditions", [])
            if condition["type"] == "Ready"
        ]
        return ready == ["True"] * len(self.names)

    def _read(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load((self._kustomize / path).read_text(encoding="utf-8"))
        return document


def _node(name: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.present": "true",
        "topology.kubernetes.io/zone": "zone-1",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": CAPACITY, "allocatable": CAPACITY},
    }


def _log_source(namespace: str, pod: str, path: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Logs",
        "metadata": {"name": pod, "namespace": namespace},
        "spec": {"logs": [{"logsFile": str(path), "follow": True}]},
    }
