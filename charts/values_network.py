"""Network policies, and how many pods an eviction may take."""

from typing import Any

from pydantic import Field

from charts.values_common import ChartSettings, KubernetesObject, Port

_DNS: dict[str, Any] = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
_MONITORING: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
Peers = tuple[KubernetesObject, ...]


class Destination(ChartSettings):
    """Where connections may go."""

    to: Peers = Field((), description="Peers in Kubernetes' own spelling; empty: anywhere.")
    ports: tuple[Port, ...] = Field(min_length=1, description="TCP ports, as the destination itself listens.")


class Dns(Destination):
    """The cluster's DNS; UDP too."""

    to: Peers = Field(
        (_DNS,), description="Peers in Kubernetes' own spelling, a node's own cache among them; empty: anywhere."
    )
    ports: tuple[Port, ...] = Field((53,), min_length=1, description="UDP and TCP; 5353 on OpenShift.")


class Scrape(ChartSettings):
    """Who may read metrics."""

    origin: Peers = Field(
        (_MONITORING,), alias="from", description="Peers in Kubernetes' own spelling; empty: anybody."
    )


class NetworkPolicy(ChartSettings):
    """Closes our pods, and opens what they need. Needs a network plugin that enforces policies."""

    enabled: bool = Field(False, description="Create them, in each namespace where jobs are launched.")
    dns: Dns = Dns()
    store: Destination = Field(
        Destination(ports=(443, 9000)), description="The object store; the development store is known without this."
    )
    api_server: Destination = Field(
        Destination(ports=(443, 6443)), description="The API server, for the launcher and `helm test` alone."
    )
    internet: Destination = Field(
        Destination(ports=(443,)), description="Package index and model hub, for the launcher's steps alone."
    )
    scrape: Scrape = Scrape()
    extra_ingress: tuple[KubernetesObject, ...] = Field((), description="More rules, for all our pods.")
    extra_egress: tuple[KubernetesObject, ...] = Field((), description="More rules, for all our pods.")


class TrainingBudget(ChartSettings):
    """Evictions of training pods. A gang that loses a pod checkpoints and starts again, so there is none by default."""

    enabled: bool = Field(False, description="Create it, in each namespace where jobs are launched.")
    min_available: int | None = Field(
        None, ge=1, description="Training pods of the namespace that stay; None: the nodes of the job template."
    )


class StoreBudget(ChartSettings):
    """Evictions of the development store."""

    enabled: bool = Field(False, description="Refuse them; whoever drains its node deletes the pod by hand.")


class PodDisruptionBudget(ChartSettings):
    """What a drained node may evict."""

    training: TrainingBudget = TrainingBudget()
    dev_store: StoreBudget = StoreBudget()
