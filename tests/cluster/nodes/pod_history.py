"""Every end of a container in a namespace, noted as the cluster tells it: a deleted pod cannot be asked any more."""

import json
import subprocess
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from tests.cluster.build import executable
from tests.cluster.plane import ControlPlane


@dataclass(frozen=True)
class ContainerEnd:
    """One end of a pod's main container."""

    pod: str
    container_id: str
    exit_code: int
    reason: str
    finished: datetime
    message: str

    @property
    def outcome(self) -> str:
        """What the worker said of it in its termination log; empty when it could not."""
        try:
            return str(json.loads(self.message)["outcome"])
        except (ValueError, KeyError, TypeError):
            return ""


class PodHistory:
    """Watches the pods of one namespace while the context lasts."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._command = [str(executable("kubectl")), "--kubeconfig", str(plane.kubeconfig), "get", "--raw"]
        self._command.append(f"/api/v1/namespaces/{namespace}/pods?watch=true")
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="pod-history", daemon=True)
        self._ends: dict[str, ContainerEnd] = {}
        self._nodes: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._reader.join(10)

    @property
    def ends(self) -> list[ContainerEnd]:
        """So far, in the order in which they finished."""
        return sorted(self._ends.values(), key=lambda end: end.finished)

    def nodes_of(self, pod: str) -> list[str]:
        """On which nodes pods of that name were, one after the other."""
        return self._nodes.get(pod, [])

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._note(json.loads(line)["object"])

    def _note(self, pod: dict[str, Any]) -> None:
        if pod.get("kind") != "Pod":
            return
        name, nodes = pod["metadata"]["name"], self._nodes.setdefault(pod["metadata"]["name"], [])
        if (node := pod["spec"].get("nodeName")) is not None and node not in nodes[-1:]:
            nodes.append(node)
        for status in pod["status"].get("containerStatuses", []):
            for state in (status["state"], status["lastState"]):
                if (ended := state.get("terminated")) and ended.get("containerID") and ended.get("finishedAt"):
                    self._ends[ended["containerID"]] = _end(name, ended)


def _end(pod: str, ended: dict[str, Any]) -> ContainerEnd:
    return ContainerEnd(
        pod=pod,
        container_id=ended["containerID"],
        exit_code=ended["exitCode"],
        reason=ended.get("reason", ""),
        finished=datetime.fromisoformat(ended["finishedAt"]),
        message=ended.get("message", ""),
    )
