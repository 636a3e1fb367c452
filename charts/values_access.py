"""Who may do what, and where the object store is."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from charts.values_common import Annotations, ChartSettings, Image
from radiffuse.cluster.names import Namespace, ObjectName
from radiffuse.cluster.sections import StoreAccess


class Images(ChartSettings):
    """The two images of radiffuse."""

    train: Image = Field(Image(repository="radiffuse-train"), description="With torch: encodes and trains.")
    pipeline: Image = Field(
        Image(repository="radiffuse-pipeline"), description="Without torch: stages models, launches, looks for faults."
    )
    require_digest: bool = Field(False, description="Refuse every image of the chart that has no digest.")


class ServiceAccount(ChartSettings):
    """The account of the launcher, the only pod of ours that speaks with the API server."""

    create: bool = Field(True, description="Create it; false: it exists.")
    name: ObjectName | None = Field(
        None, description="None: the release's full name, or `default` where none is created."
    )
    annotations: Annotations = Field({}, description="Of the account, such as a cloud's role.")


class Rbac(ChartSettings):
    """A Role in each namespace where jobs are launched; docs/permissions.md says what for."""

    create: bool = Field(True, description="Create Role and RoleBinding; false: an administrator has.")
    secret_names: tuple[ObjectName, ...] = Field(
        (), description="Secrets that a launcher may look for beside those named in these values."
    )
    doctor_role: bool = Field(
        True, description="Let the launcher's account read what `radiffuse doctor` looks at in the namespace."
    )
    doctor_cluster_role: bool = Field(
        False,
        description="And beyond it: nodes, webhooks, classes. A ClusterRole that only reads; without it, skipped.",
    )


class Kfp(ChartSettings):
    """Kubeflow Pipelines, whose steps launch jobs under accounts of their own."""

    mode: Literal["none", "standalone", "multiUser"] = Field(
        "none", description="Not used; one namespace for all runs; or a namespace per profile."
    )
    namespace: Namespace = Field("kubeflow", description="Where a standalone KFP runs its steps.")
    service_account: ObjectName = Field("pipeline-runner", description="Account of a standalone KFP's steps.")
    profiles: tuple[Namespace, ...] = Field((), description="Namespaces of the profiles that may launch jobs.")
    profile_service_account: ObjectName = Field("default-editor", description="Account of a profile's steps.")


class Store(StoreAccess):
    """Where pods find the object store: an existing secret in each namespace where jobs run. No value is a secret."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
