"""What a launcher's account may do and why, as data: the documentation's table, a Role, and the test read it here."""

from dataclasses import dataclass
from typing import Any

import yaml

from radiffuse.cluster.checks import LOCAL_QUEUES
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import EVENTS, NAMESPACES, PODS, PYTORCHJOB, SECRETS, TRAINJOB, Resource
from radiffuse.cluster.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LIMIT_RANGES,
    LOCAL_ACCESS_REVIEWS,
    NODES,
    POD_MONITORS,
    PRIORITY_CLASSES,
    PROMETHEUSES,
    RESOURCE_QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    WEBHOOKS,
    WORKLOAD_PRIORITIES,
)
from radiffuse.cluster.submit import RUNTIMES


@dataclass(frozen=True)
class Right:
    """Verbs on one kind of object, in the namespace of the jobs unless said otherwise."""

    resource: Resource
    verbs: tuple[str, ...]
    why: str
    without: str | None = None
    """What happens without it; None: the launcher does not work."""
    subresource: str = ""
    names: tuple[str, ...] = ()
    """Only objects of these names; empty: all."""

    @property
    def target(self) -> str:
        """As RBAC writes it: pods, pods/log."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def rule(self) -> dict[str, Any]:
        """The rule of a Role."""
        rule: dict[str, Any] = {"apiGroups": [self.resource.group], "resources": [self.target]}
        return rule | {"verbs": list(self.verbs)} | ({"resourceNames": list(self.names)} if self.names else {})

    @property
    def line(self) -> str:
        """The rule as one line of YAML, to be pasted into a Role."""
        return str(yaml.safe_dump(self.rule(), default_flow_style=True, sort_keys=False, width=10_000)).strip()


JOB_VERBS = ("get", "list", "watch", "create", "patch", "delete")
JOB_WHY = "send, find again, follow, suspend, resume and replace the job"

PYTORCHJOB_RIGHTS = (Right(PYTORCHJOB.resource, JOB_VERBS, JOB_WHY),)
TRAINJOB_RIGHTS = (
    Right(TRAINJOB.resource, JOB_VERBS, JOB_WHY),
    Right(RUNTIMES, ("create", "patch", "delete"), "the runtime that the job refers to"),
)


def common_rights(job: TrainingJob | None = None) -> tuple[Right, ...]:
    """Those that both kinds of job need; a job document narrows secrets to those that it names."""
    secrets: tuple[str, ...] = ()
    if job is not None:
        named = (job.store.secret, job.store.ca_secret, *job.image_pull_secrets)
        secrets = tuple(name for name in named if name is not None)
    unchecked = "a missing one shows only as a pod that cannot start, after its deadline"
    return (
        Right(
            PODS,
            ("get", "list", "watch"),
            "what owns the launcher; nodes, restarts, exit codes and reasons of the job's pods",
        ),
        Right(PODS, ("get",), "the first node's log in the step's log", "no log is shown", subresource="log"),
        Right(EVENTS, ("list", "watch"), "reasons in the log and the summary", "reasons come from the pods alone"),
        Right(SECRETS, ("get",), "the secrets exist and have their entries", unchecked, names=secrets),
        Right(LOCAL_QUEUES[0], ("get",), "the queue exists, where the job names one", "a missing one is a long wait"),
    )


def rights(job: TrainingJob | None = None) -> tuple[Right, ...]:
    """All that a launcher uses: for one job's kind, or for both kinds."""
    if job is None:
        return PYTORCHJOB_RIGHTS + TRAINJOB_RIGHTS + common_rights()
    return (PYTORCHJOB_RIGHTS if job.backend == "pytorchjob" else TRAINJOB_RIGHTS) + common_rights(job)


WEBHOOK_NAMES = {
    "PyTorchJob": ("validator.training-operator.kubeflow.org",),
    "TrainJob": ("validator.trainer.kubeflow.org", "jobset-validating-webhook-configuration"),
}
"""ValidatingWebhookConfigurations of the operators, as their own manifests name them."""
QUEUE_CONFIGURATION = "kueue-manager-config"
KFP_ACCOUNTS = ("pipeline-runner", "default-editor")
"""Those that run the steps of pipelines: standalone, and in a profile's namespace."""

_UNSEEN = "`radiffuse doctor` skips it"
DOCTOR_RIGHTS = (
    Right(NAMESPACES, ("get",), "the namespace exists, and its Pod Security level", _UNSEEN),
    Right(RESOURCE_QUOTAS, ("list",), "the job fits the quota", _UNSEEN),
    Right(LIMIT_RANGES, ("list",), "a pod fits the limits", _UNSEEN),
    Right(SERVICE_ACCOUNTS, ("get",), "the pods' account, and those of KFP", _UNSEEN),
    Right(LOCAL_ACCESS_REVIEWS, ("create",), "what KFP's account may do; changes nothing", _UNSEEN),
    Right(POD_MONITORS, ("list",), "Prometheus is told of the pods", _UNSEEN),
)
"""What `radiffuse doctor` looks at in the namespace of the jobs, beside `rights()`. All of it is optional."""
DOCTOR_CLUSTER_RIGHTS = (
    Right(NODES, ("list",), "GPUs per node, and whether the gang fits", _UNSEEN),
    Right(
        WEBHOOKS,
        ("get",),
        "the operator's webhook, and its certificate's expiry",
        _UNSEEN,
        names=tuple(name for names in WEBHOOK_NAMES.values() for name in names),
    ),
    Right(ENDPOINT_SLICES, ("list",), "the operator runs", _UNSEEN),
    Right(DEPLOYMENTS, ("get",), "the operator's init container", _UNSEEN, names=("training-operator",)),
    Right(RUNTIME_CLASSES, ("get",), "the job's RuntimeClass exists", _UNSEEN),
    Right(PRIORITY_CLASSES, ("get",), "the job's PriorityClass exists", _UNSEEN),
    Right(WORKLOAD_PRIORITIES, ("get",), "the job's WorkloadPriorityClass exists", _UNSEEN),
    Right(CONFIG_MAPS, ("get",), "Kueue manages this kind of job", _UNSEEN, names=(QUEUE_CONFIGURATION,)),
    Right(PROMETHEUSES, ("list",), "a Prometheus picks the PodMonitor", _UNSEEN),
)
"""What it looks at beyond that namespace, in a ClusterRole: read only, no wildcard. All of it is optional."""


def permissions_page() -> str:
    """docs/permissions.md."""
    doctor = [
        f"| {where} | `{right.resource.group or 'core'}` | `{right.target}` | {', '.join(right.verbs)} "
        f"| {', '.join(f'`{name}`' for name in right.names) or 'all'} | {right.why} |"
        for where, granted in (("namespace", DOCTOR_RIGHTS), ("cluster", DOCTOR_CLUSTER_RIGHTS))
        for right in granted
    ]
    return "\n".join((*INTRODUCTION, *map(_row, rights()), *REMARKS, *DOCTOR_INTRODUCTION, *doctor, *ORIGIN)) + "\n"


def _row(right: Right) -> str:
    return (
        f"| `{right.resource.group or 'core'}` | `{right.target}` | {', '.join(right.verbs)} | {right.why} "
        f"| {right.without or 'nothing works'} |"
    )


INTRODUCTION = (
    "# What a launcher's account needs",
    "",
    "In the namespace of the jobs, and nowhere else: a Role, no ClusterRole, no wildcard. The pods of a job use no",
    "account at all: they mount no token.",
    "",
    "| API group | resource | verbs | for | without it |",
    "|---|---|---|---|---|",
)
REMARKS = (
    "",
    "- Only the kind of job that the job document's `backend` names is needed.",
    "- `secrets` may be narrowed by `resourceNames` to those that the job document names.",
    "- KFP's `pipeline-runner` (standalone) has all of this but `events`, `localqueues` and Trainer's group. The",
    "  `default-editor` of a profile gets PyTorchJobs by aggregation.",
    "- Nothing is needed for a dry run beyond `create`, and nothing for asking what one may do.",
)
DOCTOR_INTRODUCTION = (
    "",
    "## What `radiffuse doctor` looks at beside that",
    "",
    "Each is optional: without it the check is skipped and says which right it lacks. None of them changes anything.",
    "",
    "| where | API group | resource | verbs | names | for |",
    "|---|---|---|---|---|---|",
)
ORIGIN = (
    "",
    "Written by `make generate` from `src/radiffuse/cluster/permissions.py`; the tests check each right against a real",
    "API server, both with it and without.",
)
