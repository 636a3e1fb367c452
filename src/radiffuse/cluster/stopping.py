"""Stopping a job on purpose: suspend it so that it can go on, let its operator fail it for good, or delete it."""

import logging

from radiffuse.cluster.api_errors import NotFoundError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import text
from radiffuse.cluster.kinds import ENDED_BECAUSE, PYTORCHJOB, QUEUE_LABEL, SUSPENDED_BY, JobKind, Object
from radiffuse.outcome import Ending

logger = logging.getLogger(__name__)


def is_queued(manifest: Object) -> bool:
    """Whether Kueue manages the job: it lifts every suspension that is not its own."""
    return bool(text(manifest, "metadata", "labels", QUEUE_LABEL))


def suspension(kind: JobKind, by: str, because: Ending | None = None) -> Object:
    """The patch that stops the pods and keeps the job, and says who did it and why."""
    said = {SUSPENDED_BY: by} | ({ENDED_BECAUSE: because.to_json()} if because is not None else {})
    return {"metadata": {"annotations": said}, **kind.suspension(True)}


def resumption(kind: JobKind) -> Object:
    """The patch that undoes `suspension`."""
    return {"metadata": {"annotations": {SUSPENDED_BY: None, ENDED_BECAUSE: None}}, **kind.suspension(False)}


def stop(
    client: ClusterClient,
    kind: JobKind,
    namespace: str,
    name: str,
    should_delete: bool,
    by: str,
    because: Ending | None = None,
) -> None:
    """Suspend the job, or delete it; one request. One that is gone already is well."""
    try:
        if should_delete:
            client.delete(kind.resource, namespace, name)
        else:
            client.patch(kind.resource, namespace, name, suspension(kind, by, because))
    except NotFoundError:
        logger.info("job=%s is gone already", name)


def fail_for_good(client: ClusterClient, kind: JobKind, namespace: str, name: str, because: Ending) -> None:
    """Let the operator mark the job as failed and clean up, in place of another restart; the reason stays on the job.

    A TrainJob's own failure policy does this, so there only the reason is left.
    """
    changes: Object = {"metadata": {"annotations": {ENDED_BECAUSE: because.to_json()}}}
    if kind is PYTORCHJOB:
        changes["spec"] = {"runPolicy": {"backoffLimit": 0}}
    client.patch(kind.resource, namespace, name, changes)
