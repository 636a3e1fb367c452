"""Accounts with exactly the rights that a test gives them."""

from pathlib import Path
from typing import Any

from radiffuse.cluster.permissions import Right
from tests.cluster.plane import ControlPlane

RBAC = "rbac.authorization.k8s.io"


def account(plane: ControlPlane, namespace: str, name: str, granted: tuple[Right, ...]) -> Path:
    """A kubeconfig of a new account with exactly those rights."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        role(name, namespace, granted),
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    )
    return plane.kubeconfig_for(namespace, name)


def role(name: str, namespace: str, granted: tuple[Right, ...]) -> dict[str, Any]:
    """A Role with exactly those rights."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [right.rule() for right in granted],
    }


def cluster_role(name: str, granted: tuple[Right, ...]) -> dict[str, Any]:
    """A ClusterRole with exactly those rights."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [right.rule() for right in granted],
    }
