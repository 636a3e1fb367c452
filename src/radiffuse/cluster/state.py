"""What state a training job is in and why, from what the API and the store say. Pure and total."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from radiffuse.cluster.fields import field, mapping, number, objects, text, true_conditions, unix_seconds
from radiffuse.cluster.kinds import ENDED_BECAUSE, QUEUE_LABEL, SUSPENDED_BY, JobKind, Object
from radiffuse.cluster.pods import ContainerEnd, PodState, Stage, cause, read_pods
from radiffuse.outcome import Outcome, read_ending


class Phase(StrEnum):
    """Where a job is, in the order in which a job that goes well passes through them."""

    queued = "queued"
    """Nobody has let it in yet: a queue holds it back, or the operator has not seen it."""
    admitted = "admitted"
    """Its pods may start, but not all of them have a node."""
    scheduled = "scheduled"
    pulling = "pulling"
    starting = "starting"
    """Containers start, or start again: rendezvous, loading, resuming."""
    running = "running"
    """Optimizer steps are reported."""
    stalled = "stalled"
    suspended = "suspended"
    succeeded = "succeeded"
    failed = "failed"
    deleted = "deleted"

    @property
    def is_end(self) -> bool:
        """Whether nothing more comes by itself."""
        return self in (Phase.succeeded, Phase.failed, Phase.deleted)


PHASE_OF_STAGE = {
    Stage.UNSCHEDULED: Phase.admitted,
    Stage.SCHEDULED: Phase.scheduled,
    Stage.PULLING: Phase.pulling,
    Stage.STARTING: Phase.starting,
}


@dataclass(frozen=True)
class Heartbeat:
    """What node 0 leaves in the store as training goes on."""

    global_step: int
    max_train_steps: int
    loss: float | None
    """None before the first step of a start."""
    images_per_second: float
    start: int
    """Which start of the job wrote it, from 1."""
    unix_seconds: float
    total_batch_size: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step at the present speed; None when that cannot be told."""
        if self.total_batch_size is None or not self.images_per_second > 0:
            return None
        left = (self.max_train_steps - self.global_step) * self.total_batch_size / self.images_per_second
        return max(0.0, left) if math.isfinite(left) else None


def read_heartbeat(data: bytes | str, total_batch_size: int | None = None) -> Heartbeat | None:
    """The worker's progress record; None when it is anything else."""
    try:
        found = json.loads(data)
        return Heartbeat(
            global_step=int(found["global_step"]),
            max_train_steps=int(found["max_train_steps"]),
            loss=None if found["loss"] is None else float(found["loss"]),
            images_per_second=float(found["images_per_second"]),
            start=int(found["start"]),
            unix_seconds=float(found["unix_seconds"]),
            total_batch_size=total_batch_size,
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


@dataclass(frozen=True)
class JobState:
    """A job as it is now."""

    phase: Phase
    reason: str
    """Why it is not further, or how it ended; empty when there is nothing to say."""
    exit_code: int | None = None
    """Of whoever waits for the job: 0 done, 1 failed, 2 wrong settings or data; None while it goes on."""
    pods: tuple[PodState, ...] = ()
    heartbeat: Heartbeat | None = None
    should_end: ContainerEnd | None = None
    """An ending that no retry cures, in a job whose operator would start it again."""

    @property
    def restarts(self) -> int:
        """Of all pods that exist now."""
        return sum(pod.restarts for pod in self.pods)


def observe(
    kind: JobKind,
    job: Object | None,
    pods: Iterable[Object] = (),
    events: Sequence[Object] = (),
    heartbeat: Heartbeat | None = None,
    *,
    now: float,
    stalled_after_seconds: float = math.inf,
    is_heartbeat_known: bool = True,
    remembered: Sequence[ContainerEnd] = (),
) -> JobState:
    """The job's state; `job` is None once it is gone, `now` is in seconds since 1970.

    `remembered` are endings of containers and pods that exist no more. Without access to the store
    (`is_heartbeat_known` False) containers that run count as running.
    """
    seen = read_pods(kind, pods)
    ends = (*remembered, *(end for pod in seen for end in pod.ends))
    if job is None:
        return JobState(Phase.deleted, _gone(ends), Outcome.FAILED, seen, heartbeat)
    if field(job, "metadata", "deletionTimestamp") is not None:
        return JobState(Phase.deleted, "somebody deleted it", Outcome.FAILED, seen, heartbeat)
    conditions = true_conditions(job)
    if kind.done_condition in conditions:
        return JobState(Phase.succeeded, "", Outcome.DONE, seen, heartbeat)
    if "Failed" in conditions:
        reason, code = _failure(job, conditions["Failed"], ends)
        return JobState(Phase.failed, reason, code, seen, heartbeat)
    if is_suspended(job):
        phase, reason = _suspended(job, events)
        return JobState(phase, reason, None, seen, heartbeat)
    final = next((end for end in ends if end.is_final), None)
    if (early := _not_all_pods(kind, job, seen, events)) is not None:
        return JobState(*early, None, seen, heartbeat, final)
    phase, reason = _of_pods(seen, ends)
    if phase is Phase.running and is_heartbeat_known:
        phase, reason = _of_heartbeat(seen, ends, heartbeat, now, stalled_after_seconds)
    return JobState(phase, reason, None, seen, heartbeat, final)


def is_suspended(job: Object) -> bool:
    """Whether the job is told to have no pods."""
    return True in (field(job, "spec", "suspend"), field(job, "spec", "runPolicy", "suspend"))


def suspended_by(job: Object) -> str:
    """Who of us suspended it: 'launcher' or 'deadline'; empty when it was somebody else."""
    return text(job, "metadata", "annotations", SUSPENDED_BY)


def _suspended(job: Object, events: Sequence[Object]) -> tuple[Phase, str]:
    if by := suspended_by(job):
        return Phase.suspended, f"suspended by its {by}; run the same command again to go on"
    queue = text(job, "metadata", "labels", QUEUE_LABEL)
    if queue:
        return Phase.queued, _with_word_of(job, events, f"waits in queue {queue}")
    return Phase.suspended, "somebody suspended it"


def _not_all_pods(
    kind: JobKind, job: Object, pods: Sequence[PodState], events: Sequence[Object]
) -> tuple[Phase, str] | None:
    expected = expected_pods(job)
    if len(pods) >= expected:
        return None
    if not pods and not objects(job, "status", "conditions"):
        return Phase.queued, f"nothing has reacted to it: is {kind.operator} installed and running?"
    failures = [event for event in events if text(event, "reason").startswith("Failed")]
    return Phase.admitted, _with_word_of(job, failures, f"{len(pods)} of {expected} pods exist")


def expected_pods(job: Object) -> int:
    """Of either kind of job, when it runs."""
    replicas = mapping(job, "spec", "pytorchReplicaSpecs").values()
    if replicas:
        return sum(_at_least(number(spec, "replicas")) for spec in replicas)
    return _at_least(number(job, "spec", "trainer", "numNodes"))


def _at_least(count: int | None, least: int = 1) -> int:
    return least if count is None else max(count, 0)


def _of_pods(pods: Sequence[PodState], ends: Sequence[ContainerEnd]) -> tuple[Phase, str]:
    slowest = min(pods, key=lambda pod: pod.stage, default=None)
    if slowest is None or slowest.stage is Stage.RUNNING:
        return Phase.running, ""
    why = ": ".join(filter(None, (slowest.word, slowest.why)))
    reason = f"{slowest.name}: {why}"
    if slowest.stage is Stage.STARTING and (last := cause(ends)) is not None:
        reason = f"{reason}; {last}"
    return PHASE_OF_STAGE[slowest.stage], reason


def _of_heartbeat(
    pods: Sequence[PodState], ends: Sequence[ContainerEnd], heartbeat: Heartbeat | None, now: float, limit: float
) -> tuple[Phase, str]:
    started = pods[0].started if pods else None  # node 0, whose own clock also dates the heartbeat
    if heartbeat is None or (started is not None and heartbeat.unix_seconds < started):
        last = cause(ends)
        return Phase.starting, "no progress reported yet" + (f"; started again: {last}" if last else "")
    if heartbeat.loss is None and not all(pod.is_done for pod in pods):
        return Phase.starting, f"no step reported yet; it goes on from step {heartbeat.global_step}"
    age = now - heartbeat.unix_seconds
    if age > limit and not all(pod.is_done for pod in pods):
        return Phase.stalled, f"no progress for {age:.0f} s, the last at step {heartbeat.global_step}"
    return Phase.running, ""


def _failure(job: Object, condition: Object, ends: Sequence[ContainerEnd]) -> tuple[str, int]:
    told = read_ending(text(job, "metadata", "annotations", ENDED_BECAUSE))
    if told is not None:
        return told.reason, _exit_code(told.outcome)
    words = text(condition, "message") or text(condition, "reason") or "the operator gives no reason"
    found = cause(ends)
    if found is None:
        return words, Outcome.FAILED
    return f"{found} ({words})", _exit_code(found.exit_code)


def _exit_code(code: int | None) -> int:
    return Outcome.WRONG_INPUT if code == Outcome.WRONG_INPUT else Outcome.FAILED


def _gone(ends: Sequence[ContainerEnd]) -> str:
    found = cause(ends)
    return "the job was deleted" + (f"; before that, {found}" if found else "")


def _with_word_of(job: Object, events: Sequence[Object], reason: str) -> str:
    """With the newest event about the job itself: a queue's, a quota's or an admission's reason stands nowhere else."""
    own = [event for event in events if text(event, "involvedObject", "name") == text(job, "metadata", "name")]
    newest = max(own, key=event_seconds, default=None)
    return f"{reason} ({text(newest, 'reason')}: {text(newest, 'message')})" if newest is not None else reason


def event_seconds(event: Object) -> float:
    """When an event last happened, seconds since 1970; 0 when it does not say."""
    for path in (("series", "lastObservedTime"), ("lastTimestamp",), ("eventTime",), ("metadata", "creationTimestamp")):
        if (found := unix_seconds(event, *path)) is not None:
            return found
    return 0.0
