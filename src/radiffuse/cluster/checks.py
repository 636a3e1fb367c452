"""What a job needs of its namespace, looked for before it is sent; a pod would say it an hour later, or never."""

import logging

from radiffuse.cluster.api_errors import ForbiddenError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import mapping
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import SECRETS, Object, Resource
from radiffuse.errors import ConfigError

logger = logging.getLogger(__name__)

LOCAL_QUEUES = tuple(Resource("kueue.x-k8s.io", version, "localqueues") for version in ("v1beta2", "v1beta1"))


def check_needs(client: ClusterClient, job: TrainingJob, namespace: str) -> None:
    """Raise ConfigError that names every secret, entry of a secret or queue that is missing.

    What this account may not look at is said once and taken on trust.
    """
    problems = [
        problem for name, entries in needed_secrets(job) if (problem := _secret(client, namespace, name, entries))
    ]
    if job.queue is not None and (problem := _queue(client, namespace, job.queue)):
        problems.append(problem)
    if problems:
        raise ConfigError("; ".join(problems) + ". Nothing was sent")


def needed_secrets(job: TrainingJob) -> list[tuple[str, list[str]]]:
    """Names of the secrets that the pods refer to, each with the entries that it must have."""
    store = job.store
    entries = [store.access_key_entry, store.secret_key_entry]
    if store.endpoint is None:
        entries.append(store.endpoint_entry)
    needed = [(store.secret, entries)]
    if store.ca_secret is not None:
        needed.append((store.ca_secret, [store.ca_entry]))
    return needed + [(name, []) for name in job.image_pull_secrets]


def _secret(client: ClusterClient, namespace: str, name: str, entries: list[str]) -> str | None:
    found = _look(client, SECRETS, namespace, name)
    return None if found is None else secret_problem(found, namespace, name, entries)


def secret_problem(found: Object, namespace: str, name: str, entries: list[str]) -> str | None:
    """What is wrong with a secret, `found` being empty when there is none; None when it has what it must have."""
    if not found:
        return (
            f"no secret {name!r} in namespace {namespace}: create it with {', '.join(entries) or 'the registry'} in it "
            "(docs/cluster.md), or name another one in the job document"
        )
    missing = [entry for entry in entries if entry not in mapping(found, "data")]
    if missing:
        return f"the secret {name!r} in namespace {namespace} has no {', '.join(missing)}"
    return None


def _queue(client: ClusterClient, namespace: str, name: str) -> str | None:
    found = [_look(client, resource, namespace, name) for resource in LOCAL_QUEUES]
    if any(queue is None or queue for queue in found):
        return None
    return (
        f"no queue {name!r} in namespace {namespace}: Kueue is not installed or has no such LocalQueue "
        '("kubectl get localqueues" lists them)'
    )


def _look(client: ClusterClient, resource: Resource, namespace: str, name: str) -> Object | None:
    """The object, an empty one when there is none, and None when this account may not look."""
    try:
        return client.find(resource, namespace, name) or {}
    except ForbiddenError:
        logger.info("%s=%s not checked: this account may not read it", resource.plural, name)
        return None
