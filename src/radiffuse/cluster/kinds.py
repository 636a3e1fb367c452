"""The two kinds of training job: where the API keeps them, and how the same facts are spelt in each."""

from dataclasses import dataclass
from typing import Any, Literal

KindName = Literal["PyTorchJob", "TrainJob"]
Object = dict[str, Any]

MANAGED_BY = "radiffuse"
NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
PLAN_LABEL = "radiffuse.org/plan"
RUN_LABEL = "radiffuse.org/run"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SUSPENDED_BY = "radiffuse.org/suspended-by"
ENDED_BECAUSE = "radiffuse.org/ended-because"
"""Annotation: the reason for which the launcher ended a job, since the pods that knew it are deleted."""


@dataclass(frozen=True)
class Resource:
    """A collection of the API; `group` is empty for the core."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Its URL below the server; the namespace is None for what has none, the name for the whole collection."""
        root = f"/apis/{self.group}" if self.group else "/api"
        parts = [root, self.version, *(("namespaces", namespace) if namespace is not None else ()), self.plural]
        return "/".join([*parts, *(part for part in (name, subresource) if part is not None)])

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
SECRETS = Resource("", "v1", "secrets")
NAMESPACES = Resource("", "v1", "namespaces")
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


@dataclass(frozen=True)
class JobKind:
    """One kind of training job."""

    name: KindName
    resource: Resource
    container: str
    """Of the pod's containers the one that trains."""
    job_label: str
    """On each pod: the name of its job."""
    index_label: str
    """On each pod: its number among the pods that share its role."""
    done_condition: str
    operator: str
    """What must be installed for such a job to run, for messages."""

    def suspension(self, is_suspended: bool) -> Object:
        """The part of a merge patch that stops the job's pods, or lets them start."""
        if self.name == "TrainJob":
            return {"spec": {"suspend": is_suspended}}
        return {"spec": {"runPolicy": {"suspend": is_suspended}}}


PYTORCHJOB = JobKind(
    name="PyTorchJob",
    resource=Resource("kubeflow.org", "v1", "pytorchjobs"),
    container="pytorch",
    job_label="training.kubeflow.org/job-name",
    index_label="training.kubeflow.org/replica-index",
    done_condition="Succeeded",
    operator="Kubeflow Training Operator 1.9",
)
TRAINJOB = JobKind(
    name="TrainJob",
    resource=Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    container="node",
    job_label="jobset.sigs.k8s.io/jobset-name",
    index_label="batch.kubernetes.io/job-completion-index",
    done_condition="Complete",
    operator="Kubeflow Trainer 2.3",
)
KINDS: dict[str, JobKind] = {kind.name: kind for kind in (PYTORCHJOB, TRAINJOB)}


def kind_of(manifest: Object) -> JobKind:
    """The kind of a job's manifest or object; raises KeyError for anything else."""
    return KINDS[manifest["kind"]]
