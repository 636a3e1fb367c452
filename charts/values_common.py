"""What several sections of the chart's values are made of: images, resources, and where a pod may run."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from radiffuse.cluster.names import LabelKey, LabelValue, ObjectName, Text
from radiffuse.cluster.quantities import Quantity
from radiffuse.cluster.sections import Toleration
from radiffuse.config import Settings

Labels = dict[LabelKey, LabelValue]
Annotations = dict[LabelKey, Text]
KubernetesObject = dict[str, Any]
"""A part of a manifest in Kubernetes' own spelling, which the API server checks."""
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]*(ms|s|m|h)$")]
Tag = Annotated[str, Field(pattern=r"^\w[\w.-]{0,127}$", json_schema_extra={"not": {"const": "latest"}})]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
PullPolicy = Literal["IfNotPresent", "Always", "Never"]


class ChartSettings(Settings):
    """A section of the chart's values; its keys are written as charts write them, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Image(ChartSettings):
    """An image, by the parts that sites replace separately."""

    registry: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9._/-]+)?$", description="Registry; None: the nodes' own default."
    )
    repository: str = Field(pattern=r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$", description="Name in the registry.")
    tag: Tag | None = Field(None, description="Never latest: all pods run the same code. None: the chart's appVersion.")
    digest: Digest | None = Field(None, description="sha256:..., what the tag must be; None: whatever it is.")
    pull_policy: PullPolicy = Field("IfNotPresent", description="When the nodes pull it.")


class Resources(ChartSettings):
    """What a container asks for, and what it may use."""

    requests: dict[LabelKey, Quantity] = Field({}, description="What the scheduler keeps free for it.")
    limits: dict[LabelKey, Quantity] = Field({}, description="What it may use at most; GPUs are given here.")


def resources(cpu: str, memory: str, most_cpu: str | None = None) -> Resources:
    """Requests, and limits of the same size but for what short bursts of work may take."""
    most = cpu if most_cpu is None else most_cpu
    return Resources(requests={"cpu": cpu, "memory": memory}, limits={"cpu": most, "memory": memory})


LAUNCHER = resources("200m", "512Mi", most_cpu="1")
"""It mostly waits; but what starts on a fifth of a core takes half a minute for it."""


class PodToleration(Toleration):
    """A taint that a pod of the chart bears, in Kubernetes' own spelling."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    operator: Literal["Equal", "Exists"] | None = Field(None, description="None: Equal.")
    toleration_seconds: int | None = Field(None, ge=0, description="Borne that long; None: for ever.")


class Scheduling(ChartSettings):
    """On which nodes a pod may run, and before which others."""

    node_selector: Labels = Field({}, description="Labels that the node must have.")
    tolerations: tuple[PodToleration, ...] = Field((), description="Taints that the pod bears.")
    affinity: KubernetesObject = Field({}, description="Affinity, in Kubernetes' own spelling.")
    topology_spread_constraints: tuple[KubernetesObject, ...] = Field(
        (), description="How copies are spread, in Kubernetes' own spelling."
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass; None: the default one.")
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass; None: the cluster's default.")


Override = Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)*=")]
"""section.field=value."""
