"""Wait for a job's end: log and progress on the way, a deadline for every phase, no retries where none can help."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import Object
from radiffuse.cluster.logs import LogFollower
from radiffuse.cluster.pods import ContainerEnd, cause
from radiffuse.cluster.sections import Deadlines
from radiffuse.cluster.state import JobState, Phase, expected_pods
from radiffuse.cluster.stopping import fail_for_good, is_queued, stop
from radiffuse.cluster.timeline import Timeline
from radiffuse.cluster.watch import TICK_SECONDS, JobWatcher
from radiffuse.errors import ClusterError
from radiffuse.outcome import Ending, Outcome

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 3.0
SETTLE_SECONDS = 2.0
"""Job and pods are watched apart, so how a pod ended may arrive after the job's own end."""

UNMET = {
    "queued_seconds": "its queue has not admitted the job",
    "admitted_seconds": "the operator has not made the job's pods",
    "scheduled_seconds": "not every pod has found a node",
    "pulled_seconds": "not every container could be started",
    "started_seconds": "training has not begun",
    "heartbeat_seconds": "training makes no progress",
    "cancelled_seconds": "the operator has not ended the job",
}


class PhaseClock:
    """How long a job has been waiting for the same thing."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._limits = deadlines.model_dump()
        self._waits_for: str | None = None
        self._since = 0.0

    def overdue(self, waits_for: str | None, now: float) -> str | None:
        """What is late, in words, or None; `now` is in seconds on any clock."""
        if waits_for != self._waits_for:
            self._waits_for, self._since = waits_for, now
        if waits_for is None:
            return None
        limit = (
            0 if waits_for == "heartbeat_seconds" else self._limits[waits_for]
        )  # a stall has lasted that long already
        if now - self._since < limit:
            return None
        return f"{UNMET[waits_for]} within {self._limits[waits_for]} s"


def waits_for(state: JobState, job: Object | None) -> str | None:
    """The name of the deadline that a job in this state is under; None when it is under none."""
    if state.should_end is not None:
        return "cancelled_seconds"
    if state.phase is Phase.queued:
        return "queued_seconds" if job is not None and is_queued(job) else "admitted_seconds"
    if state.phase is Phase.admitted:
        return "admitted_seconds" if len(state.pods) < expected_pods(job or {}) else "scheduled_seconds"
    return {
        Phase.suspended: "queued_seconds",
        Phase.scheduled: "pulled_seconds",
        Phase.pulling: "pulled_seconds",
        Phase.starting: "started_seconds",
        Phase.stalled: "heartbeat_seconds",
    }.get(state.phase)


def wait_for_end(
    watcher: JobWatcher,
    writer: ClusterClient,
    deadlines: Deadlines,
    timeline: Timeline,
    write_log: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> JobState:
    """Follow the job to its end, and end it where nothing else would; `writer` sends the requests that do.

    `check` is called every second at least, and stops the waiting by raising. Raises ClusterError when the API refuses
    to be watched or is gone for long.
    """
    clock, is_told_to_fail = PhaseClock(deadlines), False
    with LogFollower(
        watcher.client, watcher.namespace, watcher.kind.container, write_log, drain_seconds=DRAIN_SECONDS
    ) as log:
        watcher.wait_until_known(check)
        while True:
            check()
            watcher.check()
            state = _look(watcher, timeline)
            if state.phase.is_end:
                return _settle(watcher, timeline, state)
            _follow(log, state)
            if state.should_end is not None and not is_told_to_fail:
                is_told_to_fail = _fail(watcher, writer, timeline, state.should_end)
            late = clock.overdue(waits_for(state, watcher.job), time.monotonic())
            if late is not None:
                return _give_up(watcher, writer, timeline, state, late)
            watcher.wait(TICK_SECONDS)


def _look(watcher: JobWatcher, timeline: Timeline) -> JobState:
    state = watcher.state()
    timeline.see(state)
    timeline.hear(watcher.events.items())
    for note in watcher.notes:
        timeline.note(note)
    return state


def _follow(log: LogFollower, state: JobState) -> None:
    if state.pods and (state.pods[0].started is not None or state.pods[0].ends):
        first = state.pods[0]
        log.follow(first.name, (first.started, len(first.ends)))


def _settle(watcher: JobWatcher, timeline: Timeline, state: JobState) -> JobState:
    watcher.read_progress()
    state = _look(watcher, timeline)
    deadline = time.monotonic() + SETTLE_SECONDS
    while state.phase is Phase.failed and cause(timeline.ends) is None and time.monotonic() < deadline:
        watcher.wait(0.1)
        state = _look(watcher, timeline)
    return state


def _fail(watcher: JobWatcher, writer: ClusterClient, timeline: Timeline, end: ContainerEnd) -> bool:
    """Tell the operator that this job has failed; False when that must be tried again."""
    try:
        fail_for_good(writer, watcher.kind, watcher.namespace, watcher.name, _as_ending(end))
    except ClusterError as error:
        timeline.note(f"the job could not be ended: {error}")
        return False
    return True


def _as_ending(end: ContainerEnd) -> Ending:
    told = end.ending
    code = Outcome(end.exit_code) if end.exit_code in set(Outcome) else Outcome.CRASHED
    return Ending(code, str(end), told.global_step if told is not None else 0)


def _give_up(watcher: JobWatcher, writer: ClusterClient, timeline: Timeline, state: JobState, late: str) -> JobState:
    end = state.should_end
    code = Outcome.WRONG_INPUT if end is not None and end.exit_code == Outcome.WRONG_INPUT else Outcome.FAILED
    reason = str(end) if end is not None else f"{late}: {state.reason or state.phase}"
    step = state.heartbeat.global_step if state.heartbeat is not None else 0
    job = watcher.job
    try:
        should_delete = job is not None and is_queued(job)
        stop(
            writer, watcher.kind, watcher.namespace, watcher.name, should_delete, "deadline", Ending(code, reason, step)
        )
    except ClusterError as error:
        timeline.note(f"the job could not be suspended and may go on: {error}")
    ended = replace(state, phase=Phase.failed, reason=reason, exit_code=int(code))
    timeline.see(ended)
    return ended
