"""Trainer and JobSet beside a control plane that runs: what a TrainJob needs to become pods."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.cluster.build import manifests
from tests.cluster.operator_process import Object, Operator, OperatorProcess, rendered

if TYPE_CHECKING:
    from tests.cluster.plane import ControlPlane

CONFIGURATION = "configuration.yaml"
OVERLAY = "manifests/overlays/manager"
OTHER_PRODUCT = "../../third-party/jobset"
"""Trainer's overlay fetches JobSet's from a URL; JobSet has its own here."""


def _controller(executable: str, api: str, webhook_port: int, health_port: int, **names: str) -> Operator:
    """One of the two, which read the same settings from a file; `api` is its kind's version."""
    settings = {
        "apiVersion": api,
        "kind": "Configuration",
        "webhook": {"port": webhook_port},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health_port}"},
        "leaderElection": {"leaderElect": False},
    }
    return Operator(
        executable=executable,
        webhook_port=webhook_port,
        health_port=health_port,
        arguments=(f"--config=/tmp/{CONFIGURATION}", "--zap-log-level=info"),
        files={CONFIGURATION: yaml.safe_dump(settings)},
        **names,
    )


JOBSET = _controller(
    "jobset",
    "config.jobset.x-k8s.io/v1alpha1",
    webhook_port=9444,
    health_port=8082,
    namespace="jobset-system",
    account="jobset-controller-manager",
    service="jobset-webhook-service",
    service_port_name="",
    secret="jobset-webhook-server-cert",
)
TRAINER = _controller(
    "trainer",
    "config.trainer.kubeflow.org/v1alpha1",
    webhook_port=9445,
    health_port=8083,
    namespace="kubeflow-system",
    account="kubeflow-trainer-controller-manager",
    service="kubeflow-trainer-controller-manager",
    service_port_name="webhook-server",
    secret="kubeflow-trainer-webhook-cert",
)


class Trainer:
    """Both controllers; their webhooks stay when they are gone, so that no TrainJob passes any more."""

    def __init__(self, plane: "ControlPlane") -> None:
        self._plane = plane
        self._objects = [
            each
            for each in (*_jobset_objects(), *_trainer_objects(plane.folder))
            if each["kind"] != "CustomResourceDefinition"  # the control plane has them
        ]
        self._processes: dict[str, OperatorProcess] = {}

    def __enter__(self) -> Self:
        self._plane.apply(*self._objects)
        try:
            for operator in (JOBSET, TRAINER):
                process = self._processes[operator.executable] = OperatorProcess(self._plane, operator)
                process.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill both."""
        for process in self._processes.values():
            process.stop()

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Stop one of them, 'jobset' or 'trainer', whose webhook then cannot be called; start it again at the end."""
        self._processes[name].stop()
        try:
            yield
        finally:
            self._processes[name].start()


def _jobset_objects() -> list[Object]:
    return rendered(manifests("jobset") / "config" / "default", JOBSET)


def _trainer_objects(scratch: Path) -> list[Object]:
    """Rendered from a copy of Trainer's manifests, in which one line is left out."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        overlay = shutil.copytree(manifests("trainer"), Path(folder) / "copy", copy_function=shutil.copyfile) / OVERLAY
        path = overlay / "kustomization.yaml"
        kustomization: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        kustomization["resources"].remove(OTHER_PRODUCT)
        path.write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return rendered(overlay, TRAINER)
