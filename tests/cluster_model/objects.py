"""Objects as an API server would send them, for tests of what is read from them."""

from typing import Any

Object = dict[str, Any]
NOW = 1_800_000_000.0
STARTED = "2027-01-15T07:59:00Z"
"""A minute before NOW."""
STARTED_SECONDS = NOW - 60


def condition(kind: str, status: str = "True", **fields: str) -> Object:
    return {"type": kind, "status": status, **fields}


def pytorchjob(*conditions: Object, nodes: int = 2, **metadata: Any) -> Object:
    replicas = {"Master": {"replicas": 1}} | ({"Worker": {"replicas": nodes - 1}} if nodes > 1 else {})
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "demo-1a2b3c4d", "namespace": "train", "uid": "u1", **metadata},
        "spec": {"runPolicy": {}, "pytorchReplicaSpecs": replicas},
        "status": {"conditions": list(conditions)},
    }


def trainjob(*conditions: Object, nodes: int = 2, **metadata: Any) -> Object:
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "demo-1a2b3c4d", "namespace": "train", "uid": "u1", **metadata},
        "spec": {"trainer": {"numNodes": nodes}},
        "status": {"conditions": list(conditions)},
    }


def pod(role: str = "master", index: int = 0, status: Object | None = None, node: str = "gpu-0", **more: Any) -> Object:
    labels = {"training.kubeflow.org/replica-type": role, "training.kubeflow.org/replica-index": str(index)}
    return {
        "metadata": {"name": f"demo-1a2b3c4d-{role}-{index}", "labels": labels, **more},
        "spec": {"nodeName": node} if node else {},
        "status": status if status is not None else running(),
    }


def running(restarts: int = 0, last: Object | None = None, started: str = STARTED) -> Object:
    status = {"name": "pytorch", "restartCount": restarts, "state": {"running": {"startedAt": started}}}
    if last is not None:
        status["lastState"] = {"terminated": last}
    return {"phase": "Running", "conditions": [condition("PodScheduled")], "containerStatuses": [status]}


def waiting(reason: str, message: str = "", restarts: int = 0, last: Object | None = None) -> Object:
    status = {"name": "pytorch", "restartCount": restarts, "state": {"waiting": {"reason": reason, "message": message}}}
    if last is not None:
        status["lastState"] = {"terminated": last}
    return {"phase": "Pending", "conditions": [condition("PodScheduled")], "containerStatuses": [status]}


def unschedulable(message: str) -> Object:
    return {
        "phase": "Pending",
        "conditions": [condition("PodScheduled", "False", reason="Unschedulable", message=message)],
    }


def terminated(code: int, reason: str = "Error", message: str = "", finished: str = STARTED) -> Object:
    return {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}


def event(about: str, reason: str, message: str, when: str = STARTED, kind: str = "Warning") -> Object:
    return {
        "metadata": {"uid": f"{about}-{reason}-{when}"},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": when,
        "involvedObject": {"name": about},
    }
