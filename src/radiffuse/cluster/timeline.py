"""What happened to a job and when, told in log lines as it happens, and kept for the summary."""

import logging
import time
from dataclasses import dataclass, field

from radiffuse.cluster.fields import text
from radiffuse.cluster.kinds import Object
from radiffuse.cluster.pods import ContainerEnd
from radiffuse.cluster.state import Heartbeat, JobState, Phase, event_seconds

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 30.0
TOLD_EVENTS = ("Pulling", "Pulled", "Scheduled", "Preempted", "Evicted", "Killing", "QuotaReserved", "Admitted")
"""Of the events that are no warnings, those worth a line."""
UNTOLD_WARNINGS = ("SetPodTemplateRestartPolicy",)
"""The operator warns of every job that its replicas' policy holds for their pods, as it should."""


@dataclass(frozen=True)
class Moment:
    """A phase or an event, from its time in seconds since 1970."""

    unix_seconds: float
    what: str
    why: str


@dataclass
class Timeline:
    """The story of one job; `see` tells what is new in each state."""

    name: str
    phases: list[Moment] = field(default_factory=list)
    events: list[Moment] = field(default_factory=list)
    ends: list[ContainerEnd] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last: JobState | None = None
    _told_events: set[tuple[str, str]] = field(default_factory=set)
    _told_step: tuple[int, float] = (-1, 0.0)

    def see(self, state: JobState) -> None:
        """Tell a change of phase or reason, new endings, and progress now and then."""
        for end in (end for pod in state.pods for end in pod.ends):
            if end not in self.ends:
                self.ends.append(end)
                logger.info("job=%s ended %s", self.name, end)
        before = self.last
        if before is None or (before.phase, before.reason) != (state.phase, state.reason):
            self._tell_phase(state, is_new=before is None or before.phase is not state.phase)
        if state.phase is Phase.running and state.heartbeat is not None:
            self._tell_progress(state.heartbeat)
        self.last = state

    def hear(self, events: list[Object]) -> None:
        """Tell the events that are new and worth it, oldest first."""
        for event in sorted(events, key=event_seconds):
            key = text(event, "metadata", "uid"), text(event, "message")
            kind, reason = text(event, "type"), text(event, "reason")
            is_told = reason in TOLD_EVENTS or (kind == "Warning" and reason not in UNTOLD_WARNINGS)
            if key in self._told_events or not is_told:
                continue
            self._told_events.add(key)
            about = text(event, "involvedObject", "name")
            self.events.append(Moment(event_seconds(event), f"{about}: {reason}", text(event, "message")))
            logger.info("job=%s event=%s about=%s %s", self.name, reason, about, text(event, "message"))

    def note(self, words: str) -> None:
        """Say something once, and keep it for the summary."""
        if words not in self.notes:
            self.notes.append(words)
            logger.warning("job=%s %s", self.name, words)

    def _tell_phase(self, state: JobState, is_new: bool) -> None:
        if is_new:
            self.phases.append(Moment(time.time(), state.phase, state.reason))
        elif self.phases:
            self.phases[-1] = Moment(self.phases[-1].unix_seconds, state.phase, state.reason)
        logger.info("job=%s phase=%s%s", self.name, state.phase, f" {state.reason}" if state.reason else "")

    def _tell_progress(self, heartbeat: Heartbeat) -> None:
        step, told = self._told_step
        now = time.monotonic()
        if heartbeat.global_step != step and now - told >= PROGRESS_SECONDS:
            self._told_step = heartbeat.global_step, now
            logger.info("job=%s %s", self.name, progress_words(heartbeat))


def progress_words(heartbeat: Heartbeat) -> str:
    """One line: step, loss, speed, time left."""
    left = heartbeat.seconds_left
    words = f"step={heartbeat.global_step}/{heartbeat.max_train_steps}"
    words += f" loss={heartbeat.loss:.4g}" if heartbeat.loss is not None else ""
    words += f" images_per_second={heartbeat.images_per_second:.4g}"
    return words if left is None else f"{words} left={duration(left)}"


def duration(seconds: float) -> str:
    """As people say it: 45s, 3m20s, 2h05m, 3d04h."""
    whole = max(0, round(seconds))
    for unit, size, lower, lower_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // lower_size:02}{lower}"
    return f"{whole}s"
