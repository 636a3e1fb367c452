"""What a launcher's account may do and why, as data: the documentation's table, a Role, and the test read it here."""

from dataclasses import dataclass
from typing import Any

from radiffuse.cluster.checks import LOCAL_QUEUES
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import EVENTS, PODS, PYTORCHJOB, SECRETS, TRAINJOB, Resource
from radiffuse.cluster.submit import RUNTIMES


@dataclass(frozen=True)
class Right:
    """Verbs on one kind of object in the namespace of the jobs."""

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
            PODS, ("get", "list", "watch"), "own workflow; nodes, restarts, exit codes and reasons of the job's pods"
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


def role(name: str, namespace: str, granted: tuple[Right, ...]) -> dict[str, Any]:
    """A Role with exactly those rights."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [right.rule() for right in granted],
    }


def permissions_page() -> str:
    """docs/permissions.md."""
    rows = [
        f"| `{right.resource.group or 'core'}` | `{right.target}` | {', '.join(right.verbs)} | {right.why} "
        f"| {right.without or 'nothing works'} |"
        for right in rights()
    ]
    return "\n".join((*INTRODUCTION, *rows, *REMARKS)) + "\n"


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
    "",
    "Written by `make generate` from `src/radiffuse/cluster/permissions.py`; the tests check each right against a real",
    "API server, both with it and without.",
)
