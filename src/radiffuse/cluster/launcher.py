"""See a run through on the cluster: send its job or find it, follow it to its end, and fetch the result."""

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from radiffuse.cluster.cancel import Canceller
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.finish import wait_for_end
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import kind_of
from radiffuse.cluster.owner import find_owner
from radiffuse.cluster.state import JobState, Phase
from radiffuse.cluster.stopping import is_queued
from radiffuse.cluster.submit import Submitted, job_for, submit
from radiffuse.cluster.summary import write_summary
from radiffuse.cluster.timeline import Timeline
from radiffuse.cluster.watch import HeartbeatReader, JobWatcher
from radiffuse.errors import ConfigError, StorageError, TrainingError
from radiffuse.manifest import Manifest
from radiffuse.outcome import Outcome
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)


def train_in_cluster(
    store: "Store", plan: TrainPlan, source: str, summary: Path | None = None, kubeconfig: Path | None = None
) -> Manifest:
    """Train the plan as the job that a document describes, and return the result's manifest as a local run would.

    Writes the summary however it ends. Raises ConfigError for what no retry cures, TrainingError with the pods' reason,
    Preempted once a signal has suspended the job, ClusterError when the API refuses.
    """
    if (finished := store.find(plan.uri)) is not None:
        write_summary(summary, Timeline(plan.name), plan.uri, "The result was in the store already; nothing ran.")
        return finished
    job_for(plan, source, None)  # a document that does not fit is told before any cluster is looked for
    with ClusterClient(kubeconfig) as client:
        job = job_for(plan, source, client.namespace)
        timeline = Timeline(job.name)
        try:
            state = _run(client, lambda: ClusterClient(kubeconfig), store, plan, job, timeline)
            manifest = _result(store, plan, job, state)
        except Exception as error:
            with contextlib.suppress(StorageError):  # why training failed matters more
                write_summary(summary, timeline, plan.uri, str(error))
            raise
        write_summary(summary, timeline, plan.uri, "Training is done.")
        return manifest


def _run(
    client: ClusterClient,
    connect: Callable[[], ClusterClient],
    store: "Store",
    plan: TrainPlan,
    job: TrainingJob,
    timeline: Timeline,
) -> JobState:
    manifest = job.to_manifests()[-1]
    kind, namespace = kind_of(manifest), str(job.namespace)
    owner = find_owner(client, namespace)
    with Canceller(connect, kind, namespace, job.name, should_delete=is_queued(manifest)) as canceller:
        with canceller.sending():
            submitted = submit(client, store, plan, job, owner, canceller.arm)
        logger.info("job=%s %s namespace=%s kind=%s", job.name, submitted.how, namespace, kind.name)
        return see_through(client, store, plan, job, submitted, timeline, canceller.check)


def see_through(
    client: ClusterClient,
    store: "Store",
    plan: TrainPlan,
    job: TrainingJob,
    submitted: Submitted,
    timeline: Timeline,
    check: Callable[[], None] = lambda: None,
) -> JobState:
    """Follow the job to its end, its log on stderr, under the deadlines of its document."""
    progress = HeartbeatReader(store, plan.checkpoints_uri, plan.settings.total_batch_size)
    with JobWatcher(
        client,
        submitted.kind,
        submitted.namespace,
        submitted.name,
        progress,
        job.deadlines.heartbeat_seconds,
        submitted.uid,
    ) as watcher:
        return wait_for_end(watcher, client, job.deadlines, timeline, write_to_stderr, check)


def write_to_stderr(line: str) -> None:
    """A pod's log line among our own; it is another program's text and passes unchanged."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _result(store: "Store", plan: TrainPlan, job: TrainingJob, state: JobState) -> Manifest:
    if state.phase is Phase.succeeded:
        if (manifest := store.find(plan.uri)) is not None:
            return manifest
        raise TrainingError(f"job {job.name} succeeded, but {plan.uri} has no manifest; run again")
    if state.exit_code == Outcome.WRONG_INPUT:
        raise ConfigError(f"job {job.name} ended: {state.reason}")
    hint = "run again to go on from the newest checkpoint"
    raise TrainingError(f"job {job.name} {state.phase}: {state.reason}; {hint}")
