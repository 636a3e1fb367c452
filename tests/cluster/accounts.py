"""Accounts with exactly the rights that a test gives them."""

from pathlib import Path

from radiffuse.cluster.permissions import Right, role
from tests.cluster.plane import ControlPlane


def account(plane: ControlPlane, namespace: str, name: str, granted: tuple[Right, ...]) -> Path:
    """A kubeconfig of a new account with exactly those rights."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        role(name, namespace, granted),
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    )
    return plane.kubeconfig_for(namespace, name)
