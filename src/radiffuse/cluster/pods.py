"""What a job's pods say: how far each one is, how its container ended, and what that means. Pure and total."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from radiffuse.cluster.fields import field, mapping, number, objects, text, true_conditions, unix_seconds
from radiffuse.cluster.kinds import JobKind, Object
from radiffuse.outcome import Ending, Outcome, read_ending

KILLED = 137
NOT_AN_IMAGE = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError")
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
MEANINGS = {
    Outcome.WRONG_INPUT: "wrong settings or data, which no retry cures",
    Outcome.GAVE_UP: "gave up: several starts without progress",
    Outcome.CRASHED: "crashed",
    Outcome.PREEMPTED: "stopped from outside, its checkpoint complete",
    KILLED: "killed from outside (SIGKILL)",
}


class Stage(IntEnum):
    """How far a pod is; a job is as far as the pod that is least far."""

    UNSCHEDULED = 0
    SCHEDULED = 1
    PULLING = 2
    STARTING = 3
    RUNNING = 4


@dataclass(frozen=True)
class ContainerEnd:
    """One ending of a training container, or of the pod as a whole."""

    pod: str
    exit_code: int | None
    """None when the pod itself was ended, such as by an eviction."""
    reason: str
    """The kubelet's word: Error, OOMKilled, Evicted and the like."""
    message: str
    finished: float
    """Seconds since 1970; 0 when nobody recorded it."""

    @property
    def ending(self) -> Ending | None:
        """What the worker left, when it could."""
        return read_ending(self.message)

    @property
    def is_final(self) -> bool:
        """Whether the worker says that another start would end the same way."""
        return self.exit_code in (Outcome.WRONG_INPUT, Outcome.GAVE_UP)

    @property
    def precedence(self) -> tuple[int, float]:
        """Sorts causes before echoes: a rank that lost its peer fails too, and says nothing of the reason."""
        if self.is_final:
            return 0, self.finished
        if self.reason in ("OOMKilled", "Evicted"):
            return 1, self.finished
        return (3 if self.exit_code == Outcome.PREEMPTED else 2), self.finished

    def __str__(self) -> str:
        if self.reason == "OOMKilled":
            return f"{self.pod} was OOMKilled: it went over its memory limit; give the job more memory per node"
        if self.exit_code is None:
            return f"{self.pod} was ended: {': '.join(filter(None, (self.reason, self.message)))}"
        ending = self.ending
        said = ending.reason if ending is not None else self.message[-300:]
        meaning = MEANINGS.get(self.exit_code)
        if meaning is None:
            meaning = self.reason if self.reason not in ("", "Error") else "no code of the worker's; see its log"
        return f"{self.pod} exited with {self.exit_code} ({meaning})" + (f": {said}" if said else "")


@dataclass(frozen=True)
class PodState:
    """One pod, as a person wants to read it."""

    name: str
    role: str
    node: str
    """Empty while it has none."""
    stage: Stage
    word: str
    """What it does or waits for, in one or two words."""
    why: str
    """Why it is not further, or empty."""
    restarts: int
    started: float | None
    """When its training container last started, seconds since 1970."""
    is_done: bool
    ends: tuple[ContainerEnd, ...]


def read_pods(kind: JobKind, pods: Iterable[Object]) -> tuple[PodState, ...]:
    """The job's pods, node 0 first."""
    return tuple(sorted((read_pod(kind, pod) for pod in pods), key=lambda pod: (_rank(pod.role), pod.name)))


def read_pod(kind: JobKind, pod: Object) -> PodState:
    """One pod's state; the training container counts, unless an init container still holds it up."""
    name = text(pod, "metadata", "name") or "?"
    status = _container_status(pod, kind.container)
    stage, word, why = _progress(pod, status)
    return PodState(
        name=name,
        role=_role(kind, pod),
        node=text(pod, "spec", "nodeName"),
        stage=stage,
        word=word,
        why=why,
        restarts=number(status, "restartCount") or 0,
        started=unix_seconds(status, "state", "running", "startedAt"),
        is_done=text(pod, "status", "phase") == "Succeeded",
        ends=tuple(_ends(name, pod, status)),
    )


def cause(ends: Sequence[ContainerEnd]) -> ContainerEnd | None:
    """Of all endings the one that explains the others; endings with 0 explain nothing."""
    return min((end for end in ends if end.exit_code != 0), key=lambda end: end.precedence, default=None)


def _progress(pod: Object, status: Object) -> tuple[Stage, str, str]:
    if field(pod, "metadata", "deletionTimestamp") is not None:
        return Stage.STARTING, "ending", "it was deleted and will be replaced"
    phase = text(pod, "status", "phase")
    if phase == "Succeeded":
        return Stage.RUNNING, "done", ""
    if phase == "Failed":
        return Stage.STARTING, "failed", text(pod, "status", "message") or text(pod, "status", "reason")
    if "PodScheduled" not in true_conditions(pod) and not text(pod, "spec", "nodeName"):
        return Stage.UNSCHEDULED, *_unscheduled(pod)
    if field(status, "state", "running") is not None:
        return Stage.RUNNING, "running", ""
    return _waiting(pod, status)


def _unscheduled(pod: Object) -> tuple[str, str]:
    for condition in objects(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled":
            return text(condition, "reason") or "pending", text(condition, "message")
    return "pending", "the scheduler has not looked at it yet"


def _waiting(pod: Object, status: Object) -> tuple[Stage, str, str]:
    for init in objects(pod, "status", "initContainerStatuses"):
        if field(init, "state", "running") is not None:
            return Stage.STARTING, "waits for node 0", ""
        if (found := _held_up(init)) is not None:
            return found
    if (found := _held_up(status)) is not None:
        return found
    if field(status, "state", "terminated") is not None:
        is_done = number(status, "state", "terminated", "exitCode") == 0
        return (Stage.RUNNING, "done", "") if is_done else (Stage.STARTING, "restarting", "")
    if not status:
        return Stage.SCHEDULED, "scheduled", ""
    return Stage.PULLING, "pulling", ""


def _held_up(status: Object) -> tuple[Stage, str, str] | None:
    reason, message = text(status, "state", "waiting", "reason"), text(status, "state", "waiting", "message")
    if reason in NOT_AN_IMAGE:
        return Stage.STARTING, reason, message
    return (Stage.PULLING, reason, message or _image(status, reason)) if reason in IMAGE_REASONS else None


def _image(status: Object, reason: str) -> str:
    return f"{reason} for {text(status, 'image')}"


def _ends(name: str, pod: Object, status: Object) -> Iterable[ContainerEnd]:
    for state in ("state", "lastState"):
        ended = mapping(status, state, "terminated")
        if ended:
            finished = unix_seconds(ended, "finishedAt") or 0.0
            message = field(ended, "message")
            message = message if isinstance(message, str) else ""
            yield ContainerEnd(name, number(ended, "exitCode"), text(ended, "reason"), message, finished)
    # Evicted, NodeLost, UnexpectedAdmissionError: the pod as a whole, whatever became of its containers.
    if text(pod, "status", "phase") == "Failed" and text(pod, "status", "reason"):
        yield ContainerEnd(name, None, text(pod, "status", "reason"), text(pod, "status", "message"), 0.0)


def _container_status(pod: Object, container: str) -> Object:
    listed = objects(pod, "status", "containerStatuses")
    return next((status for status in listed if text(status, "name") == container), {})


def _role(kind: JobKind, pod: Object) -> str:
    labels = mapping(pod, "metadata", "labels")
    role = text(labels, "training.kubeflow.org/replica-type") or "node"
    return f"{role}-{text(labels, kind.index_label) or '?'}"


def _rank(role: str) -> tuple[int, int]:
    """Node 0 first: the master, or the pod with completion index 0."""
    name, _, index = role.rpartition("-")
    number_ = int(index) if index.isascii() and index.isdigit() else 2**31
    return (0 if name == "master" else 1), number_
