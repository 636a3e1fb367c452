"""The Training Operator as a process beside the API server: its own manifests, ServiceAccount and webhook.

It reads its certificate where a Pod would mount it, below /tmp. So it gets a /tmp of its own, in a mount namespace, and
two runs do not meet there.
"""

import base64
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.build import executable, manifests
from tests.cluster.isolation import ADDRESS, ROOT
from tests.cluster.processes import run, wait_until

if TYPE_CHECKING:
    from tests.cluster.plane import ControlPlane

NAMESPACE = "kubeflow"
SECRET = "training-operator-webhook-cert"
OVERLAY = "manifests/overlays/standalone"
HEALTH = "http://127.0.0.1:8081"
START_SECONDS = 300.0
WITH_OWN_TMP = 'exec 9<"$1" && mount --bind "$2" /tmp && shift 2 && exec /proc/self/fd/9 "$@"'
"""The executable is opened first, since it may lie below the /tmp that is hidden then."""
INIT_CONTAINER = ROOT / "manifests" / "training-operator" / "init-container.yaml"
"""As we tell users to give it: the built-in one is refused where restricted Pod Security is enforced, and asks a name
server in a way that new versions of its tool report as a failure."""

Object = dict[str, Any]


def custom_resources() -> list[Object]:
    """The operator's manifests for PyTorchJob, with its Service leading here, and Trainer's and JobSet's CRDs.

    Without its Deployment, and without its other kinds of job, whose schemas are 3 MB for the API server to digest.
    """
    rendered = run(
        [str(executable("kubectl")), "kustomize", str(manifests("training-operator") / OVERLAY)], seconds=START_SECONDS
    )
    objects = [each for each in _documents(rendered) if each["kind"] != "Deployment" and not _is_other_job(each)]
    for each in objects:
        if each["kind"] == "Service":
            del each["spec"]["selector"]  # its endpoints are ours to write
    objects.append(_endpoints())
    folders = manifests("trainer") / "manifests/base/crds", manifests("jobset") / "config/components/crd/bases"
    paths = [path for folder in folders for path in sorted(folder.glob("*_*.yaml"))]
    return objects + [each for path in paths for each in _documents(path.read_text(encoding="utf-8"))]


def _documents(text: str) -> list[Object]:
    # PyYAML's own loader takes seconds for the half megabyte that a job's schema is.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, Loader=loader) if each is not None]


def _is_other_job(each: Object) -> bool:
    return bool(each["kind"] == "CustomResourceDefinition" and each["metadata"]["name"] != "pytorchjobs.kubeflow.org")


def _endpoints() -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "training-operator-process",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "training-operator"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": "webhook-server", "port": 9443, "protocol": "TCP"}],
    }


class TrainingOperator:
    """The operator's process; `custom_resources` must be applied before it starts."""

    def __init__(self, plane: "ControlPlane", init_image: str) -> None:
        """init_image: of the container that waits for the master's name in every worker; needs sh and getent."""
        self._plane = plane
        self._tmp = plane.folder / "operator-tmp"
        self._tmp.mkdir()
        (self._tmp / "initContainer.yaml").write_bytes(INIT_CONTAINER.read_bytes())
        kubeconfig = plane.kubeconfig_for(NAMESPACE, "training-operator")
        (self._tmp / "kubeconfig").write_bytes(kubeconfig.read_bytes())
        arguments = [
            "--enable-scheme=pytorchjob",
            "--metrics-bind-address=127.0.0.1:8080",
            "--health-probe-bind-address=127.0.0.1:8081",
            f"--pytorch-init-container-image={init_image}",
            "--pytorch-init-container-template-file=/tmp/initContainer.yaml",
            "--zap-log-level=info",
        ]
        binary = str(executable("training-operator"))
        command = ["unshare", "--mount", "sh", "-c", WITH_OWN_TMP, "sh", binary, str(self._tmp), *arguments]
        environment = {"KUBECONFIG": "/tmp/kubeconfig", "MY_POD_NAMESPACE": NAMESPACE, "TMPDIR": "/tmp"}
        self._server = plane.new_server("training-operator", command, environment)

    def start(self) -> None:
        """Start it and wait until it is ready, its webhook included; raises ServerError."""
        self._server.start()
        secret = wait_until(self._filled_secret, START_SECONDS, f"the operator fills the Secret {SECRET}")
        self._put_certificates(self._tmp / "k8s-webhook-server" / "serving-certs", secret)
        self._server.wait_until_ready(_is_ready, START_SECONDS)

    def stop(self) -> None:
        """Kill it."""
        self._server.stop(signal.SIGKILL)

    def _filled_secret(self) -> dict[str, str] | None:
        """The operator makes its certificates itself and keeps them in a Secret that was empty."""
        found = self._plane.get("secret", SECRET, "--namespace", NAMESPACE).get("data") or {}
        return found if "tls.crt" in found else None

    def _put_certificates(self, folder: Path, data: dict[str, str]) -> None:
        """What a kubelet would mount. The operator waits for tls.crt, so that comes last, and whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tls.key", "ca.crt", "tls.crt"):
            temporary = folder / f".{name}"
            temporary.write_bytes(base64.b64decode(data[name]))
            temporary.rename(folder / name)


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"{HEALTH}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
