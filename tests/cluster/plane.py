"""A Kubernetes control plane, started from its own binaries; tests/cluster/README.md shows what tests do with it."""

import contextlib
import json
import logging
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.cluster.api import Api
from tests.cluster.build import executable
from tests.cluster.certificates import Authority, write_kubeconfig
from tests.cluster.isolation import ADDRESS
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.processes import Server, run, wait_until
from tests.cluster.training_operator import custom_resources, training_operator

logger = logging.getLogger(__name__)

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
START_SECONDS = 300.0
"""The API server is ready in seconds; with two cores that are busy with other things it takes minutes."""
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "10.96.0.1",
    ADDRESS,
)


class ControlPlane:
    """etcd, API server, controller-manager, scheduler and the Training Operator, with their custom resources."""

    def __init__(self, folder: Path, log_folder: Path, init_image: str = "radiffuse.test/init:1") -> None:
        """folder: scratch, for this object alone; log_folder: one <component>.log each. Both must exist.

        init_image: of the container that waits for the master in every worker pod; real nodes need one with getent.
        """
        self._kubectl = str(executable("kubectl"))  # looked up now: a test may give its processes another cache
        self.folder = folder
        self.log_folder = log_folder
        self.server = f"https://{ADDRESS}:6443"
        self.authority = Authority(folder / "pki")
        self.kubeconfig = self._client_kubeconfig("admin", "admin", "system:masters")
        self._etcd = self.new_server("etcd", _etcd_command(folder))
        self._api_server = self.new_server("kube-apiserver", self._api_server_command())
        self._controllers = [self._controller_manager(), self._scheduler()]
        self._init_image = init_image
        self._operator: OperatorProcess | None = None
        tls = ssl.create_default_context(cafile=str(self.authority.certificate))
        tls.load_cert_chain(folder / "pki" / "admin.crt", folder / "pki" / "admin.key")
        self.api = Api(self.server, tls)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _start(self) -> None:
        start = time.monotonic()
        self._etcd.start()
        self._api_server.start()
        resources = custom_resources(self._init_image)  # rendered while the API server starts
        self._wait_for_api_server()
        logger.info("cluster api_server_seconds=%.1f", time.monotonic() - start)
        for controller in self._controllers:
            controller.start()
        self.apply(*resources)
        self.wait_for_kinds(*resources)
        self._operator = OperatorProcess(self, training_operator(self._init_image))
        self._operator.start()
        logger.info("cluster control_plane_seconds=%.1f", time.monotonic() - start)

    def stop(self) -> None:
        """Kill everything; nothing that it holds is of use afterwards."""
        if self._operator is not None:
            self._operator.stop()
        for server in (*self._controllers, self._api_server, self._etcd):
            server.stop(signal.SIGKILL)

    def new_server(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> Server:
        """A server, not yet started, whose log is <name>.log."""
        return Server(name, command, self.log_folder / f"{name}.log", environment)

    def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None, seconds: float = 60.0) -> str:
        """What kubectl prints, by default as the admin; raises CommandError with its words, or TimeoutError."""
        chosen = self.kubeconfig if kubeconfig is None else kubeconfig
        # Its cache of the API's kinds goes by address, which every run has in common.
        options = [f"--kubeconfig={chosen}", f"--cache-dir={self.folder / 'kubectl-cache'}"]
        return run([self._kubectl, *options, *arguments], stdin, seconds)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects on the server's side; raises CommandError with the API's words."""
        for each in objects:
            self.api.apply(each, START_SECONDS)

    def wait_for_kinds(self, *objects: dict[str, Any]) -> None:
        """Wait until the API tells clients of every kind that these objects define, which is later than Established."""
        names = {each["metadata"]["name"] for each in objects if each["kind"] == "CustomResourceDefinition"}

        def unknown() -> set[str]:
            return names - set(self.kubectl("api-resources", "-o", "name", seconds=START_SECONDS).split())

        wait_until(lambda: not unknown(), START_SECONDS, f"the API knows {', '.join(sorted(names))}")

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get` finds; raises CommandError."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return found

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount; raises CommandError where there is no such account."""
        token = self.kubectl("--namespace", namespace, "create", "token", service_account, "--duration=12h").strip()
        path = self.folder / f"{namespace}-{service_account}.kubeconfig"
        return write_kubeconfig(path, self.server, self.authority.certificate, {"token": token}, namespace)

    def restart_api_server(self, down_seconds: float = 0.0) -> None:
        """Kill the API server and start it again; watches from older resource versions then get 410, expired."""
        self._api_server.stop(signal.SIGKILL)
        time.sleep(down_seconds)
        self._api_server.start()
        self._wait_for_api_server()

    @contextlib.contextmanager
    def without_training_operator(self) -> Iterator[None]:
        """Stop the operator, whose webhook then cannot be called either, and start it again at the end."""
        assert self._operator is not None
        self._operator.stop()
        try:
            yield
        finally:
            self._operator.start()

    def _wait_for_api_server(self) -> None:
        self._api_server.wait_until_ready(lambda: self.api.answers("/readyz"), START_SECONDS)

    def _client_kubeconfig(self, name: str, user: str, group: str | None = None) -> Path:
        certificate, key = self.authority.client(name, user, group)
        credentials = {"client-certificate": str(certificate), "client-key": str(key)}
        path = self.folder / f"{name}.kubeconfig"
        return write_kubeconfig(path, self.server, self.authority.certificate, credentials, "default")

    def _api_server_command(self) -> list[str]:
        pki = self.folder / "pki"
        self.authority.server("apiserver", "kube-apiserver", None, SERVER_NAMES)
        self.authority.client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
        self.authority.client("front-proxy", "front-proxy-client")
        return [
            str(executable("kube-apiserver")),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={ADDRESS}",
            "--secure-port=6443",
            "--authorization-mode=Node,RBAC",
            # The second is OpenShift's: an object that blocks its owner's deletion needs rights over the owner.
            "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            # There is no kube-proxy here, so the server itself finds a webhook's address behind its Service.
            "--enable-aggregator-routing=true",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki}/front-proxy.crt",
            f"--proxy-client-key-file={pki}/front-proxy.key",
            "--profiling=false",
        ]

    def _controller_manager(self) -> Server:
        pki = self.folder / "pki"
        command = [
            *self._controller_command("kube-controller-manager"),
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt",
            "--use-service-account-credentials=true",
            f"--cluster-cidr={POD_RANGE}",
            "--allocate-node-cidrs=false",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
        ]
        return self.new_server("kube-controller-manager", command)

    def _scheduler(self) -> Server:
        return self.new_server("kube-scheduler", self._controller_command("kube-scheduler"))

    def _controller_command(self, name: str) -> list[str]:
        kubeconfig = self._client_kubeconfig(name, f"system:{name}")
        options = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        credentials = [f"--{option}={kubeconfig}" for option in options]
        return [str(executable(name)), *credentials, "--leader-elect=false", "--bind-address=127.0.0.1"]


def _etcd_command(folder: Path) -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        str(executable("etcd")),
        "--name=test",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--unsafe-no-fsync",  # a power cut may lose it all, which is what happens at the end anyway
        "--log-level=warn",
    ]
