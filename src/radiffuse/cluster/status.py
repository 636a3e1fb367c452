"""Looking at jobs from outside: a table of one job's pods, a list of all jobs, logs, and cancelling by hand."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import text
from radiffuse.cluster.kinds import (
    KINDS,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PLAN_LABEL,
    PODS,
    RUN_LABEL,
    TRAINJOB,
    JobKind,
    Object,
)
from radiffuse.cluster.pods import PodState, read_pods
from radiffuse.cluster.sections import Deadlines
from radiffuse.cluster.state import JobState, observe
from radiffuse.cluster.stopping import is_queued, stop
from radiffuse.cluster.submit import RUNTIMES
from radiffuse.cluster.timeline import duration, progress_words
from radiffuse.cluster.watch import TICK_SECONDS, HeartbeatReader, JobWatcher
from radiffuse.errors import ClusterError, ConfigError, StorageError
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.storage import Store

OURS = f"{MANAGED_BY_LABEL}={MANAGED_BY}"


def find_job(client: ClusterClient, namespace: str, name: str) -> tuple[JobKind, Object]:
    """The job of that name and its kind; raises ClusterError when there is none of either kind."""
    refused: ClusterError | None = None
    for kind in KINDS.values():
        try:
            if (found := client.find(kind.resource, namespace, name)) is not None:
                return kind, found
        except ForbiddenError as error:
            refused = refused or error
    if refused is not None and not client_may_read_any(client, namespace):
        raise refused
    raise ClusterError(f'no job {name!r} in namespace {namespace}; "radiffuse job status" lists those that there are')


def client_may_read_any(client: ClusterClient, namespace: str) -> bool:
    """Whether at least one kind of job may be read."""
    return any(client.may("get", kind.resource, namespace) for kind in KINDS.values())


@contextlib.contextmanager
def watching(client: ClusterClient, namespace: str, name: str) -> Iterator[JobWatcher]:
    """A watcher of the job, with its progress where a store is configured."""
    kind, job = find_job(client, namespace, name)
    store, uri, batch = _store_of(job)
    progress = HeartbeatReader(store, uri, batch)
    if store is not None:
        progress.read()
    with JobWatcher(client, kind, namespace, name, progress, Deadlines().heartbeat_seconds) as watcher:
        watcher.wait_until_known()
        yield watcher


def look(client: ClusterClient, namespace: str, name: str) -> JobState:
    """The job's state now."""
    with watching(client, namespace, name) as watcher:
        return watcher.state()


def follow_status(client: ClusterClient, namespace: str, name: str, write: Callable[[str], None], is_json: bool) -> int:
    """Write the job's state whenever it changes, until it ends; returns the exit code that goes with the end."""
    shown = None
    with watching(client, namespace, name) as watcher:
        while True:
            watcher.check()
            state = watcher.state()
            if (key := _shown(state)) != shown:
                shown = key
                write(as_json(name, state) if is_json else f"{table(name, state)}\n")
            if state.exit_code is not None:
                return state.exit_code
            watcher.wait(TICK_SECONDS)


def table(name: str, state: JobState) -> str:
    """What a person wants to know, pods last."""
    lines = [f"{name}  {state.phase}"]
    if state.reason:
        lines.append(f"  {state.reason}")
    if state.heartbeat is not None:
        age = f", {duration(time.time() - state.heartbeat.unix_seconds)} ago"
        lines.append(f"  {progress_words(state.heartbeat)}{age}")
    if not state.pods:
        return "\n".join([*lines, "  no pods"])
    head = ("POD", "NODE", "STATE", "RESTARTS", "EXITS", "WHY")
    return "\n".join([*lines, "", *_columns([head, *map(_cells, state.pods)])])


def as_json(name: str, state: JobState) -> str:
    """One line of JSON for machines."""
    document = asdict(state) | {"name": name, "phase": state.phase.value, "restarts": state.restarts}
    document["seconds_left"] = state.heartbeat.seconds_left if state.heartbeat is not None else None
    for pod, described in zip(state.pods, document["pods"], strict=True):
        described["stage"] = pod.stage.name.lower()
    del document["should_end"]
    return json.dumps(document)


def listing(client: ClusterClient, namespace: str, is_json: bool) -> str:
    """All jobs that radiffuse made in a namespace, newest first; raises ClusterError when no kind may be listed."""
    found: list[tuple[str, str, str, str, str]] = []
    refused: list[ClusterError] = []
    for kind in KINDS.values():
        try:
            jobs, _ = client.list_items(kind.resource, namespace, labels=OURS)
        except (ForbiddenError, NotFoundError) as error:
            refused.append(error)
            continue
        for job in jobs:
            pods, _ = client.list_items(PODS, namespace, labels=f"{kind.job_label}={text(job, 'metadata', 'name')}")
            state = observe(kind, job, pods, now=time.time(), is_heartbeat_known=False)
            created = text(job, "metadata", "creationTimestamp")
            found.append((created, text(job, "metadata", "name"), kind.name, state.phase.value, state.reason))
    if len(refused) == len(KINDS):
        raise refused[0]
    found.sort(reverse=True)
    head = ("CREATED", "NAME", "KIND", "PHASE", "WHY")
    if is_json:
        return json.dumps([dict(zip(map(str.lower, head), row, strict=True)) for row in found])
    return "\n".join(_columns([head, *found])) if found else f"no jobs of radiffuse in namespace {namespace}"


def log_lines(
    client: ClusterClient, namespace: str, name: str, node: int, should_follow: bool, is_previous: bool
) -> Iterator[str]:
    """Lines of the log of one of the job's pods; raises ClusterError when there is no such pod."""
    kind, _ = find_job(client, namespace, name)
    pods = read_pods(kind, client.list_items(PODS, namespace, labels=f"{kind.job_label}={name}")[0])
    if node >= len(pods):
        there = f"its pods are 0 to {len(pods) - 1}" if pods else 'it has no pods; "radiffuse job status" says why'
        raise ClusterError(f"job {name} has no node {node}: {there}")
    query = {"follow": "true"} if should_follow else {"previous": "true"} if is_previous else {}
    yield from client.log(PODS, namespace, pods[node].name, kind.container, query)


def cancel_job(client: ClusterClient, namespace: str, name: str, should_delete: bool) -> str:
    """Suspend the job, or delete it; returns which. A queue would lift a suspension, so what it manages is deleted."""
    kind, job = find_job(client, namespace, name)
    should_delete = should_delete or is_queued(job)
    stop(client, kind, namespace, name, should_delete, "user")
    if should_delete and kind is TRAINJOB:
        with contextlib.suppress(NotFoundError, ForbiddenError):
            client.delete(RUNTIMES, namespace, name)
    return "deleted" if should_delete else "suspended"


def _store_of(job: Object) -> "tuple[Store | None, str, int | None]":
    """The store, where its settings are given, with the run's folder and the images of an optimizer step."""
    labels = job["metadata"].get("labels") or {}
    uri = f"s3://checkpoints/{labels.get(RUN_LABEL, '')}-{labels.get(PLAN_LABEL, '')}"
    from radiffuse.storage import open_store

    try:
        store = open_store()
        plan = TrainPlan.model_validate_json(store.get_bytes(f"{uri}/plan.json"))
    except ConfigError:
        return None, uri, None
    except (StorageError, ValueError):
        return store, uri, None
    return store, uri, plan.settings.total_batch_size


def _shown(state: JobState) -> tuple[object, ...]:
    step = state.heartbeat.global_step if state.heartbeat is not None else None
    return state.phase, state.reason, step, tuple(_cells(pod) for pod in state.pods)


def _cells(pod: PodState) -> tuple[str, ...]:
    exits = ",".join(str(end.exit_code) if end.exit_code is not None else end.reason for end in pod.ends)
    return pod.name, pod.node or "-", pod.word, str(pod.restarts), exits or "-", pod.why


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
