"""The rules of restricted Pod Security, and ours beyond them, for a pod's spec that no API server has seen."""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""


def containers(spec: Object) -> list[Object]:
    """All of a pod's containers."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def problems(spec: Object) -> list[str]:
    """What restricted Pod Security would refuse in a pod's spec, and what our own rules forbid."""
    found = list(_of_pod(spec))
    for container in containers(spec):
        security = spec.get("securityContext", {}) | container.get("securityContext", {})
        found += [f"{container['name']}: {problem}" for problem in _of_container(container, security)]
    return found


def _of_pod(spec: Object) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of {', '.join(kinds)}"
    if spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls"
    if "automountServiceAccountToken" not in spec:
        yield "does not say whether a token is mounted"


def _of_container(container: Object, security: Object) -> Iterator[str]:
    expected = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "readOnlyRootFilesystem": True,
    }
    for name, value in expected.items():
        if security.get(name) != value:
            yield f"{name} is {security.get(name)}, not {value}"
    if not security.get("runAsUser", 0):
        yield "no numeric user other than root"
    if security.get("privileged") or security.get("procMount", "Default") != "Default":
        yield "privileged, or with more of /proc"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(container.get("resources", {}).get(kind, {})):
            yield f"{kind} lack cpu or memory"
