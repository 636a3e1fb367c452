"""Objects of Kueue, for those who have none yet. They are named after the release and its namespace."""

from pydantic import Field

from charts.values_common import ChartSettings, KubernetesObject, Labels
from radiffuse.cluster.names import DnsLabel, LabelKey, ObjectName
from radiffuse.cluster.quantities import Quantity

_NAMED = "None: the release's namespace and full name."


class LocalQueue(ChartSettings):
    """The queue of a namespace."""

    create: bool = Field(False, description="Create it in each namespace where jobs are launched, and send jobs to it.")
    name: DnsLabel | None = Field(None, description=_NAMED)


class ClusterQueue(ChartSettings):
    """How much may be used at once."""

    create: bool = Field(False, description="Create it; it needs `quotas`.")
    name: ObjectName | None = Field(None, description=f"What the LocalQueue belongs to. {_NAMED}")
    quotas: dict[LabelKey, Quantity] = Field(
        {}, description="By resource, such as cpu, memory and nvidia.com/gpu; all that the pods ask for."
    )
    cohort: ObjectName | None = Field(None, description="Queues that lend each other what is free; None: alone.")
    preemption: KubernetesObject = Field({}, description="Whom it may evict, in Kueue's own spelling.")


class ResourceFlavor(ChartSettings):
    """The nodes that quotas are of."""

    create: bool = Field(False, description="Create it.")
    name: ObjectName | None = Field(None, description=f"What the ClusterQueue's quotas are of. {_NAMED}")
    node_labels: Labels = Field({}, description="Labels of the nodes; a topology needs at least one.")
    node_taints: tuple[KubernetesObject, ...] = Field((), description="Taints that keep others off, as on the node.")
    tolerations: tuple[KubernetesObject, ...] = Field((), description="Given to admitted pods.")


class KueueTopology(ChartSettings):
    """Which node labels say what is near what."""

    create: bool = Field(False, description="Create it, and name it in the ResourceFlavor.")
    name: ObjectName | None = Field(None, description=_NAMED)
    levels: tuple[LabelKey, ...] = Field(
        ("kubernetes.io/hostname",), min_length=1, description="Node labels, the widest first."
    )


class WorkloadPriority(ChartSettings):
    """Which jobs wait for which."""

    create: bool = Field(False, description="Create it, and give it to the job template where that names none.")
    name: ObjectName | None = Field(None, description=_NAMED)
    value: int = Field(100, ge=-(2**31), le=2**31 - 1, description="The higher goes first.")


class Kueue(ChartSettings):
    """Queueing by Kueue (API v1beta2)."""

    local_queue: LocalQueue = LocalQueue()
    cluster_queue: ClusterQueue = ClusterQueue()
    resource_flavor: ResourceFlavor = ResourceFlavor()
    topology: KueueTopology = KueueTopology()
    workload_priority: WorkloadPriority = WorkloadPriority()
