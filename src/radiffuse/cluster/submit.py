"""Send a training job to the cluster, or find the one that a former attempt sent."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from radiffuse.cluster.api_errors import ConflictError, NotFoundError, RefusedError, UnavailableError
from radiffuse.cluster.checks import check_needs
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import field, text, true_conditions
from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.cluster.kinds import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PLAN_LABEL,
    TRAINJOB,
    JobKind,
    Object,
    Resource,
    kind_of,
)
from radiffuse.cluster.owner import Owner, owner_of
from radiffuse.cluster.sections import RunFacts
from radiffuse.cluster.state import suspended_by
from radiffuse.cluster.stopping import resumption
from radiffuse.errors import ClusterError, ConfigError
from radiffuse.starts import forget_starts
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RUNTIMES = Resource("trainer.kubeflow.org", "v1alpha1", "trainingruntimes")
RUNTIME_FIRST = "trainingRuntime must be created before the TrainJob"
"""Words of Trainer's webhook, which it says in a dry run too, when nothing has been created yet."""


class Found(Enum):
    """What is to be done about a job of that name."""

    nothing = "nothing"
    attach = "attach"
    resume = "resume"
    replace = "replace"


@dataclass(frozen=True)
class Submitted:
    """The job that trains the plan now."""

    kind: JobKind
    namespace: str
    name: str
    uid: str
    how: str
    """'created', 'found', 'resumed' or 'replaced'."""


def job_for(plan: TrainPlan, source: str, namespace: str | None, overrides: tuple[str, ...] = ()) -> TrainingJob:
    """The job document resolved for a plan; `namespace` holds where the document names none."""
    job = load_job(source, overrides, run=RunFacts.of(plan))
    return job if job.namespace is not None else job.model_copy(update={"namespace": namespace})


def submit(
    client: ClusterClient, store: "Store", plan: TrainPlan, job: TrainingJob, owner: Owner, before: Callable[[], None]
) -> Submitted:
    """Make sure that exactly one job trains this plan; `before` is called just before the first change.

    Raises ConfigError when another plan's or another run's job has the name, ClusterError when the API refuses.
    """
    manifests = [owner.claim(manifest) for manifest in job.to_manifests()]
    kind, namespace = kind_of(manifests[-1]), str(job.namespace)
    deadline = time.monotonic() + job.deadlines.admitted_seconds
    how, said = "created", ""
    while True:
        try:
            existing = _find(client, kind, namespace, job.name)
            found = decide(existing, plan.digest, owner)
            if existing is not None and found in (Found.attach, Found.resume):
                before()
                return _take_over(client, kind, existing, found)
            if existing is not None:
                before()
                _replace(client, kind, existing, job.deadlines.cancelled_seconds)
                how = "replaced"
            created = _create(client, store, plan, job, manifests, before)
            return _submitted(kind, created, how)
        except (ConflictError, UnavailableError) as error:
            # Another attempt was faster, or the server or one of its webhooks is restarting.
            if time.monotonic() > deadline:
                raise _webhook_named(error, kind) from error
            if str(error) != said:
                logger.warning("job=%s trying again: %s", job.name, said := str(error))
            time.sleep(POLL_SECONDS)


def _webhook_named(error: ClusterError, kind: JobKind) -> ClusterError:
    if "failed calling webhook" not in str(error):
        return error
    return ClusterError(f"{error}; the webhook is that of {kind.operator}: is it running?")


def decide(existing: Object | None, digest: str, owner: Owner) -> Found:
    """What a job that has the name already means; raises ConfigError when it must be left alone."""
    if existing is None:
        return Found.nothing
    labels = field(existing, "metadata", "labels") or {}
    name = f"{text(existing, 'metadata', 'namespace')}/{text(existing, 'metadata', 'name')}"
    if labels.get(MANAGED_BY_LABEL) != MANAGED_BY or labels.get(PLAN_LABEL) != digest:
        raise ConfigError(
            f"a {existing.get('kind', 'job')} {name} exists and trains another plan ({labels.get(PLAN_LABEL, 'none')}, "
            f"not {digest}); delete it, or give this run another name"
        )
    if field(existing, "metadata", "deletionTimestamp") is not None:
        return Found.replace
    if true_conditions(existing).keys() & {"Succeeded", "Complete", "Failed"}:
        return Found.replace  # and what it reached is in the store
    theirs = owner_of(existing)
    if theirs is not None and text(theirs, "uid") != owner.uid:
        if suspended_by(existing):
            return Found.replace
        raise ConfigError(
            f"{theirs.get('kind', 'owner')} {theirs.get('name', '?')} trains the same plan now, as job {name}; wait "
            f'for it ("radiffuse job status {text(existing, "metadata", "name")} --watch"), or cancel it'
        )
    return Found.resume if suspended_by(existing) else Found.attach


def dry_run(client: ClusterClient, job: TrainingJob) -> list[Object]:
    """What the server would make of the manifests, after its own checks and its webhooks'; nothing is kept."""
    return [_send_dry(client, manifest, str(job.namespace)) for manifest in job.to_manifests()]


def _find(client: ClusterClient, kind: JobKind, namespace: str, name: str) -> Object | None:
    return client.find(kind.resource, namespace, name)


def _take_over(client: ClusterClient, kind: JobKind, existing: Object, found: Found) -> Submitted:
    if found is Found.resume:
        namespace, name = text(existing, "metadata", "namespace"), text(existing, "metadata", "name")
        existing = client.patch(kind.resource, namespace, name, resumption(kind))
        return _submitted(kind, existing, "resumed")
    return _submitted(kind, existing, "found")


def _replace(client: ClusterClient, kind: JobKind, existing: Object, seconds: float) -> None:
    """Delete a job that is over, and wait until its name is free."""
    submitted = _submitted(kind, existing, "replaced")
    try:
        client.delete(kind.resource, submitted.namespace, submitted.name, submitted.uid)
    except NotFoundError:
        return
    deadline = time.monotonic() + seconds
    while (left := _find(client, kind, submitted.namespace, submitted.name)) is not None:
        if text(left, "metadata", "uid") != submitted.uid:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the former job {submitted.namespace}/{submitted.name} is still there {seconds:.0f} s after it was "
                "deleted; its finalizers say who holds it"
            )
        time.sleep(POLL_SECONDS)


def _create(
    client: ClusterClient,
    store: "Store",
    plan: TrainPlan,
    job: TrainingJob,
    manifests: list[Object],
    before: Callable[[], None],
) -> Object:
    namespace = str(job.namespace)
    for manifest in manifests:
        _send_dry(client, manifest, namespace)
    check_needs(client, job, namespace)
    store.put_bytes(job.plan_uri, plan.model_dump_json().encode())
    # What the pods of a former job left must not end the new one, nor describe it.
    forget_starts(store, plan)
    store.delete([f"{plan.checkpoints_uri}/progress.json"])
    before()
    *companions, manifest = manifests
    for companion in companions:
        _put(client, companion, namespace)
    try:
        return _send(client, manifest, namespace)
    except RefusedError:
        for companion in companions:
            client.delete(resource_of(companion), namespace, companion["metadata"]["name"])
        raise


def _send_dry(client: ClusterClient, manifest: Object, namespace: str) -> Object:
    """The server's word on a manifest; where Trainer will not look at it before its runtime exists, the manifest."""
    try:
        return _send(client, manifest, namespace, is_dry_run=True)
    except RefusedError as error:
        if RUNTIME_FIRST not in str(error):
            raise
        logger.info(
            "job=%s accepted by the API; Trainer checks it when its runtime exists", manifest["metadata"]["name"]
        )
        return manifest


def _send(client: ClusterClient, manifest: Object, namespace: str, is_dry_run: bool = False) -> Object:
    resource = resource_of(manifest)
    try:
        return client.create(resource, namespace, manifest, is_dry_run)
    except NotFoundError as error:
        if "namespaces" in str(error):
            raise ConfigError(f"no namespace {namespace!r}; create it, or name another one: {error}") from error
        operator = TRAINJOB.operator if resource is RUNTIMES else kind_of(manifest).operator
        raise ClusterError(f"{client.server} knows no {manifest['kind']}: {operator} is not installed") from error


def _put(client: ClusterClient, manifest: Object, namespace: str) -> None:
    """Create it, or bring what a former job left up to date."""
    try:
        _send(client, manifest, namespace)
    except ConflictError:
        changes = {"metadata": manifest["metadata"], "spec": manifest["spec"]}
        client.patch(resource_of(manifest), namespace, manifest["metadata"]["name"], changes)


def resource_of(manifest: Object) -> Resource:
    """Where the API keeps a job or its runtime."""
    return RUNTIMES if manifest["kind"] == "TrainingRuntime" else kind_of(manifest).resource


def _submitted(kind: JobKind, existing: Object, how: str) -> Submitted:
    metadata = existing["metadata"]
    return Submitted(kind, metadata["namespace"], metadata["name"], metadata["uid"], how)
