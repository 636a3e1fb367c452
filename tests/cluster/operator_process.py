"""An operator as a process beside the API server: its own ServiceAccount, and its webhook behind its own Service.

It reads its certificate where a pod would mount it, below /tmp. So it gets a /tmp of its own, in a mount namespace, and
two operators do not meet there.
"""

import base64
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.build import executable
from tests.cluster.isolation import ADDRESS
from tests.cluster.processes import run, wait_until

if TYPE_CHECKING:
    from tests.cluster.plane import ControlPlane

START_SECONDS = 300.0
WITH_OWN_TMP = 'exec 9<"$1" && mount --bind "$2" /tmp && shift 2 && exec /proc/self/fd/9 "$@"'
"""The executable is opened first, since it may lie below the /tmp that is hidden then."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Operator:
    """One operator: the names that its own manifests give its parts, and the ports that it gets here."""

    executable: str
    namespace: str
    account: str
    service: str
    service_port_name: str
    """Empty for a Service whose only port has no name."""
    secret: str
    """Which holds the webhook's certificate. The operator makes it, and fills the Secret, which must exist."""
    webhook_port: int
    health_port: int
    arguments: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    """In its /tmp, by name."""


class OperatorProcess:
    """An operator's process; its manifests must be applied before it starts."""

    def __init__(self, plane: "ControlPlane", operator: Operator) -> None:
        self._plane, self._operator = plane, operator
        self._tmp = Path(tempfile.mkdtemp(prefix=f"{operator.executable}-", dir=plane.folder))
        kubeconfig = plane.kubeconfig_for(operator.namespace, operator.account)
        for name, text in {**operator.files, "kubeconfig": kubeconfig.read_text(encoding="utf-8")}.items():
            (self._tmp / name).write_text(text, encoding="utf-8")
        binary = str(executable(operator.executable))
        command = ["unshare", "--mount", "sh", "-c", WITH_OWN_TMP, "sh", binary, str(self._tmp), *operator.arguments]
        environment = {"KUBECONFIG": "/tmp/kubeconfig", "MY_POD_NAMESPACE": operator.namespace, "TMPDIR": "/tmp"}
        self._server = plane.new_server(operator.executable, command, environment)

    def start(self) -> None:
        """Start it and wait until it is ready, its webhook included; raises ServerError."""
        self._server.start()
        secret = wait_until(
            self._filled_secret, START_SECONDS, f"the operator fills the Secret {self._operator.secret}"
        )
        self._put_certificates(self._tmp / "k8s-webhook-server" / "serving-certs", secret)
        self._server.wait_until_ready(self._is_ready, START_SECONDS)

    def stop(self) -> None:
        """Kill it."""
        self._server.stop(signal.SIGKILL)

    def _filled_secret(self) -> dict[str, str] | None:
        operator = self._operator
        found = self._plane.get("secret", operator.secret, "--namespace", operator.namespace).get("data") or {}
        return found if "tls.crt" in found else None

    def _put_certificates(self, folder: Path, data: dict[str, str]) -> None:
        """What a kubelet would mount. The operator waits for tls.crt, so that comes last, and whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tls.key", "ca.crt", "tls.crt"):
            temporary = folder / f".{name}"
            temporary.write_bytes(base64.b64decode(data[name]))
            temporary.rename(folder / name)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._operator.health_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def read_documents(text: str) -> list[Object]:
    """The objects of a file of YAML documents."""
    # PyYAML's own loader takes seconds for the half megabyte that a job's schema is.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, Loader=loader) if each is not None]


def rendered(folder: Path, operator: Operator) -> list[Object]:
    """What kustomize makes of the operator's manifests, without its Deployment, and its Service leading here."""
    text = run([str(executable("kubectl")), "kustomize", str(folder)], seconds=START_SECONDS)
    objects = [each for each in read_documents(text) if each["kind"] != "Deployment"]
    for each in objects:
        if each["kind"] == "Service":
            del each["spec"]["selector"]  # its endpoints are ours to write
    return [*objects, _endpoints(operator)]


def _endpoints(operator: Operator) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{operator.service}-process",
            "namespace": operator.namespace,
            "labels": {"kubernetes.io/service-name": operator.service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": operator.service_port_name, "port": operator.webhook_port, "protocol": "TCP"}],
    }
