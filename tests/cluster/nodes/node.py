"""A real node: containerd, a bridge for its pods and a kubelet; its folders, address and control groups are its own."""

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.build import executable
from tests.cluster.certificates import write_kubeconfig
from tests.cluster.isolation import BRIDGE
from tests.cluster.nodes.cgroups import make_cgroup
from tests.cluster.nodes.containerd import Containerd, clone
from tests.cluster.nodes.network import DNS_ADDRESS
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import ServerError, run

READY_SECONDS = 120.0
DEVICE_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
"""Where every kubelet listens for device plugins, of which there are none here; the last one that starts has it."""
RUNTIME_STARTS = "server is not initialized yet"
"""What a kubelet ends with that comes too early; systemd would start it again."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


@dataclass(frozen=True)
class Place:
    """Where one of several nodes on this machine finds its own network, folders and control groups."""

    index: int
    folder: Path
    cgroup: str

    @property
    def name(self) -> str:
        """The node's, in the cluster."""
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        """The node's; the first is the control plane's own."""
        return f"10.199.0.{self.index + 1}"

    @property
    def bridge(self) -> str:
        """What its pods are plugged into."""
        return f"pods{self.index}"

    @property
    def pod_range(self) -> str:
        """Addresses of its pods."""
        return f"10.244.{self.index}.0/24"


class Node:
    """One node of the cluster; start it once, lose it at most once."""

    def __init__(self, plane: ControlPlane, place: Place, images: Path, pause: str) -> None:
        """images: a containerd's root to copy; pause: the name of the image that holds a pod's namespaces."""
        self._plane = plane
        self._place = place
        place.folder.mkdir()
        clone(images, place.folder / "containerd")
        self.containerd = Containerd(
            f"containerd-{place.index}", place.folder / "containerd", plane.log_folder, pause, self._write_network()
        )
        self._kubelet = plane.new_server(f"kubelet-{place.index}", self._kubelet_command())

    @property
    def name(self) -> str:
        """As the cluster knows it."""
        return self._place.name

    def start(self) -> None:
        """Start it without waiting for the cluster to notice; raises ServerError."""
        run(["ip", "address", "replace", f"{self._place.address}/32", "dev", BRIDGE])
        make_cgroup(self._place.cgroup)
        self.containerd.start()
        DEVICE_SOCKET.unlink(missing_ok=True)
        deadline = time.monotonic() + READY_SECONDS
        while not self._kubelet_listens():  # two that begin to listen at the same moment end each other
            if time.monotonic() > deadline:
                raise ServerError(f"{self.containerd.socket} was not ready for kubelets in {READY_SECONDS:.0f} s")

    def wait_until_ready(self) -> None:
        """Wait until pods can be placed on it; raises ServerError or CommandError."""
        self._kubelet.wait_until_ready(self._is_registered, READY_SECONDS)
        wait = ("wait", "--for=condition=Ready", f"node/{self.name}", f"--timeout={READY_SECONDS:.0f}s")
        self._plane.kubectl(*wait, seconds=READY_SECONDS)

    def lose(self) -> None:
        """Kill kubelet, containers and daemon at once and cut the network, as a power cut would."""
        run(["ip", "link", "set", self._place.bridge, "down"])
        self._kubelet.stop(signal.SIGKILL)
        self.containerd.kill_containers()
        self.containerd.stop()

    def give_up(self) -> None:
        """Say, as an operator or a cloud controller must, that it will not come back: its pods may be replaced."""
        self._plane.kubectl("taint", "node", self.name, OUT_OF_SERVICE)

    def stop(self) -> None:
        """Stop kubelet and daemon; what they started ends with the process namespace."""
        self._kubelet.stop()
        self.containerd.stop()

    def _kubelet_listens(self) -> bool:
        self._kubelet.start()
        try:
            self._kubelet.wait_until_ready(DEVICE_SOCKET.exists, READY_SECONDS)
        except ServerError:
            if RUNTIME_STARTS not in self._kubelet.tail():
                raise
            return False  # containerd answers before its half for kubelets does
        return True

    def _is_registered(self) -> bool:
        return self.name in self._plane.kubectl("get", "nodes", "--output=name")

    def _write_network(self) -> Path:
        folder = self._place.folder / "cni"
        folder.mkdir()
        ipam = {
            "type": "host-local",
            "dataDir": str(self._place.folder / "addresses"),
            "ranges": [[{"subnet": self._place.pod_range}]],
        }
        bridge = {
            "type": "bridge",
            "bridge": self._place.bridge,
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": True,
            "ipMasq": False,  # there is nothing outside to be hidden from
            "ipam": ipam,
        }
        document = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
        (folder / "10-pods.conflist").write_text(json.dumps(document), encoding="utf-8")
        return folder

    def _kubelet_command(self) -> list[str]:
        folder, place = self._place.folder, self._place
        config = folder / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._kubelet_config()), encoding="utf-8")
        certificate, key = self._plane.authority.client(
            f"{place.name}-client", f"system:node:{place.name}", "system:nodes"
        )
        credentials = {"client-certificate": str(certificate), "client-key": str(key)}
        kubeconfig = write_kubeconfig(
            folder / "kubeconfig", self._plane.server, self._plane.authority.certificate, credentials, "default"
        )
        return [
            str(executable("kubelet")),
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'pki'}",
            f"--hostname-override={place.name}",
            f"--node-ip={place.address}",
            "--v=2",
        ]

    def _kubelet_config(self) -> dict[str, Any]:
        place, authority = self._place, self._plane.authority
        names = (place.name, place.address)
        certificate, key = authority.server(f"{place.name}-server", f"system:node:{place.name}", "system:nodes", names)
        resolver = place.folder / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\n", encoding="utf-8")  # nothing but the cluster has a name here
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": place.cgroup,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20_000,
            "failSwapOn": False,
            "address": place.address,
            "healthzBindAddress": place.address,
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority.certificate)}},
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "containerRuntimeEndpoint": f"unix://{self.containerd.socket}",
            "podLogsDir": str(self._plane.log_folder / f"pods-{place.index}"),
            "volumePluginDir": str(place.folder / "volume-plugins"),
            # The images are all there is: none may be collected, however full the disk.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "5s",
        }
