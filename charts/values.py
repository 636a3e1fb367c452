"""Every value of the chart, with its default, bounds and meaning.

values.yaml, values.schema.json and the chart's README are written from here. A key is in camelCase, as in other
charts; inside `job.template` and `job.config.document` keys are those of the documents themselves. Nothing that is
secret is a value: secrets exist, and are named.
"""

from pydantic import Field

from charts.values_access import Images, Kfp, Rbac, ServiceAccount, Store
from charts.values_common import LAUNCHER, Annotations, ChartSettings, KubernetesObject, Labels, Resources, Scheduling
from charts.values_job import Job
from charts.values_kueue import Kueue
from charts.values_network import NetworkPolicy, PodDisruptionBudget
from charts.values_store import DevStore
from charts.values_watch import Monitoring
from radiffuse.cluster.names import DnsLabel, Namespace, ObjectName

MAX_FULL_NAME = 40
"""Leaves 23 of a label's 63 characters for what is added to it."""


class Pipelines(ChartSettings):
    """The compiled pipelines of Kubeflow Pipelines, with the images and the secret of these values in them."""

    config_maps: bool = Field(True, description="A ConfigMap for each, to be fetched and uploaded.")


class OperatorInit(ChartSettings):
    """The Training Operator's init container, restricted and with our image; docs/jobs.md says why."""

    enabled: bool = Field(False, description="Create the ConfigMap; the operator's Deployment must mount it.")
    namespace: Namespace = Field("kubeflow", description="Where the operator runs.")
    name: ObjectName = Field("training-operator-init-container", description="Of the ConfigMap.")


class Tests(ChartSettings):
    """`helm test`: a pod that runs `radiffuse doctor` with the job document."""

    enabled: bool = Field(True, description="Have it.")
    args: tuple[str, ...] = Field((), description="More arguments of `radiffuse doctor`.")
    resources: Resources = Field(LAUNCHER, description="Of the pod.")
    scheduling: Scheduling = Scheduling()


class ChartValues(ChartSettings):
    """The values of the chart `radiffuse`."""

    name_override: DnsLabel | None = Field(None, description="In place of the chart's name in object names and labels.")
    fullname_override: DnsLabel | None = Field(
        None,
        max_length=MAX_FULL_NAME,
        description="In place of release and chart name in object names; at most 40 characters.",
    )
    common_labels: Labels = Field({}, description="Of every object, and of training pods.")
    common_annotations: Annotations = Field({}, description="Of every object.")
    images: Images = Images()
    image_pull_secrets: tuple[ObjectName, ...] = Field((), description="Existing secrets for the images' registry.")
    service_account: ServiceAccount = ServiceAccount()
    rbac: Rbac = Rbac()
    kfp: Kfp = Kfp()
    store: Store = Store()
    dev_store: DevStore = DevStore()
    job: Job = Job()
    pipelines: Pipelines = Pipelines()
    monitoring: Monitoring = Monitoring()
    network_policy: NetworkPolicy = NetworkPolicy()
    kueue: Kueue = Kueue()
    operator_init: OperatorInit = OperatorInit()
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    tests: Tests = Tests()
    extra_objects: tuple[KubernetesObject, ...] = Field(
        (), description="More objects of the release; text in them may use the chart's templates."
    )
