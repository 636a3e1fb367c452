"""Watch a job of either kind to its end: deadlines for every phase, endings that no retry cures, log and progress."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import text
from radiffuse.cluster.kinds import EVENTS, PODS, JobKind, Object
from radiffuse.cluster.mirror import Mirror
from radiffuse.cluster.pods import ContainerEnd
from radiffuse.cluster.state import Heartbeat, JobState, observe, read_heartbeat
from radiffuse.errors import ClusterError, ObjectNotFoundError, StorageError

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
HEARTBEAT_POLL_SECONDS = 5.0
FIRST_ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 900.0
"""A server that is gone for longer is reported; the job itself goes on without it."""


class HeartbeatReader:
    """Reads the job's progress record from the store now and then, in a thread of its own: the store may be slow."""

    def __init__(self, store: "Store | None", checkpoints_uri: str, total_batch_size: int | None) -> None:
        self._store, self._uri, self._total_batch_size = store, f"{checkpoints_uri}/progress.json", total_batch_size
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._changed = time.monotonic()
        self.heartbeat: Heartbeat | None = None
        self.error: StorageError | None = None

    def __enter__(self) -> Self:
        if self._store is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._store is not None:
            self._thread.join(timeout=1.0)  # a store that is down is not waited for; the thread is a daemon

    @property
    def is_known(self) -> bool:
        """Whether the store can be asked."""
        return self._store is not None and self.error is None

    @property
    def silent_seconds(self) -> float:
        """How long training has made no step, by this process's own clock."""
        return time.monotonic() - self._changed

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.read()
            self._stopped.wait(HEARTBEAT_POLL_SECONDS)

    def read(self) -> None:
        """Look once."""
        assert self._store is not None
        try:
            found = read_heartbeat(self._store.get_bytes(self._uri), self._total_batch_size)
            self.error = None
        except ObjectNotFoundError:
            found, self.error = None, None
        except StorageError as error:
            self.error = error
            return
        if found is not None and self.heartbeat is None:
            self._changed = time.monotonic() - max(0.0, time.time() - found.unix_seconds)
        elif found is not None and self.heartbeat is not None and _place(found) != _place(self.heartbeat):
            self._changed = time.monotonic()
        self.heartbeat = found


def _place(heartbeat: Heartbeat) -> tuple[int, int]:
    return heartbeat.start, heartbeat.global_step


class JobWatcher:
    """What is known of one job at any moment. Use it as a context manager; it reads and never writes."""

    def __init__(
        self,
        client: ClusterClient,
        kind: JobKind,
        namespace: str,
        name: str,
        progress: HeartbeatReader,
        stalled_after_seconds: float = math.inf,
        uid: str | None = None,
    ) -> None:
        self.client, self.kind, self.namespace, self.name = client, kind, namespace, name
        self._progress, self._stalled_after, self._uid = progress, stalled_after_seconds, uid
        self._ends: list[ContainerEnd] = []
        self._wake = threading.Event()
        wake = self._wake.set
        self.jobs = Mirror(client, kind.resource, namespace, wake, fields=f"metadata.name={name}")
        self.pods = Mirror(client, PODS, namespace, wake, labels=f"{kind.job_label}={name}")
        self.events = Mirror(client, EVENTS, namespace, wake, keep=self._is_about_us)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for part in (self.jobs, self.pods, self.events, self._progress):
            self._stack.enter_context(part)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait(self, seconds: float) -> None:
        """Until something changes, that long at most."""
        self._wake.wait(seconds)
        self._wake.clear()

    def wait_until_known(self, check: Callable[[], None] = lambda: None) -> None:
        """Until job and pods are listed; raises why they cannot be, and what `check` raises every second."""
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        while not (self.jobs.is_synced and self.pods.is_synced):
            check()
            self.check()
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.client.server} gave no list of jobs and pods in {FIRST_ANSWER_SECONDS:.0f} s"
                )
            self.wait(TICK_SECONDS)

    def check(self) -> None:
        """Raise what stops the watching: no right, no such kind of job, a server that is gone."""
        error = self.jobs.error or self.pods.error
        if isinstance(error, NotFoundError):
            raise ClusterError(
                f"{self.client.server} knows no {self.kind.name}: {self.kind.operator} is not installed; install it, "
                "or choose the other backend in the job document"
            ) from error
        if error is not None:
            raise error
        since = self.jobs.silent_since
        if since is not None and time.monotonic() - since > SILENCE_SECONDS:
            raise UnavailableError(
                f"{self.client.server} has not answered for {SILENCE_SECONDS:.0f} s; the job goes on without its "
                "launcher, and running the same command again finds it"
            )

    def read_progress(self) -> None:
        """Look at the store now, where it answers."""
        if self._progress.is_known:
            self._progress.read()

    @property
    def job(self) -> Object | None:
        """The job as last seen; None when it is gone, or when another has taken its name."""
        found = self.jobs.items()
        if not found or (self._uid is not None and text(found[0], "metadata", "uid") != self._uid):
            return None
        return found[0]

    def state(self) -> JobState:
        """The job's state now."""
        heartbeat = self._progress.heartbeat
        now = time.time()
        if heartbeat is not None:  # how long ago by our own clock, and only if training made a step
            now = heartbeat.unix_seconds + self._progress.silent_seconds
        state = observe(
            self.kind,
            self.job,
            self.pods.items(),
            self.events.items(),
            heartbeat,
            now=now,
            stalled_after_seconds=self._stalled_after,
            is_heartbeat_known=self._progress.is_known,
            remembered=self._ends,
        )
        self._ends += [end for pod in state.pods for end in pod.ends if end not in self._ends]
        return state

    @property
    def notes(self) -> Sequence[str]:
        """What goes on without."""
        said = []
        if isinstance(self.events.error, ForbiddenError):
            said.append("events may not be read by this account, so reasons come from the pods alone")
        if self._progress.error is not None:
            said.append(f"no progress to show: {self._progress.error}")
        return said

    def _is_about_us(self, event: Object) -> bool:
        about = text(event, "involvedObject", "name")
        return about == self.name or about.startswith(f"{self.name}-")
