"""Stopping the job when this process is told to stop, in the half second that a terminated pipeline step has left.

A thread of its own keeps a connection open and hears of the signal through a pipe that the signal itself writes to, so
it waits for nobody. It then sends one request.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from radiffuse.cluster.api_errors import NotFoundError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import JobKind
from radiffuse.cluster.stopping import suspension
from radiffuse.errors import ClusterError, Preempted

logger = logging.getLogger(__name__)

WARM_SECONDS = 20.0
"""Shorter than the idle time after which proxies and servers drop a connection."""
ANSWER_SECONDS = 5.0
LEFT_SECONDS = 0.5
"""For the thread's own end once a signal has come; a server that hangs keeps nobody longer."""
RETRY_SECONDS = 0.03
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Signalled(BaseException):
    """Ends whatever the main thread waits for. No Exception: logging would print it and go on."""


class Canceller:
    """Use it as a context manager in the main thread, around everything from before the job is sent until its end."""

    def __init__(
        self, connect: Callable[[], ClusterClient], kind: JobKind, namespace: str, name: str, should_delete: bool
    ) -> None:
        self._connect, self._kind, self._namespace, self._name = connect, kind, namespace, name
        self._should_delete = should_delete
        self._is_armed = self._is_sending = self._is_stopped = False
        self._failure: ClusterError | None = None
        self._number = signal.SIGTERM
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="cancel", daemon=True)
        self._stack = contextlib.ExitStack()
        self.requested, self.answered = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            for number in SIGNALS:
                self._stack.callback(signal.signal, number, signal.signal(number, self._note))
            self._stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False))
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._is_sending = False
        try:
            if isinstance(error, _Signalled):
                self.check()
        finally:
            self._close()

    def _close(self) -> None:
        self._stack.close()
        os.close(self._writer)  # ends the thread
        self._thread.join(timeout=LEFT_SECONDS if self.requested.is_set() else ANSWER_SECONDS)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Within, a signal ends whatever the main thread does: it may be waiting for a server that hangs."""
        self._is_sending = True
        self.check()
        yield
        self._is_sending = False
        self.check()

    def arm(self) -> None:
        """From now on the job may exist; raises Preempted when a signal came before that."""
        self.check()
        self._is_armed = True

    def check(self) -> None:
        """Raise Preempted once a signal has come, with what became of the job, for which it waits ANSWER_SECONDS."""
        if not self.requested.is_set():
            return
        if not self._is_armed:
            raise Preempted("stopped; nothing was sent to the cluster", self._number)
        self.answered.wait(ANSWER_SECONDS)
        raise Preempted(self._conclusion(), self._number)

    def _conclusion(self) -> str:
        job = f"the job {self._namespace}/{self._name}"
        if self._is_stopped:
            how = "deleted; its checkpoints are kept" if self._should_delete else "suspended"
            return f"stopped; {job} was {how}, run the same command to go on"
        if isinstance(self._failure, NotFoundError):
            return f"stopped; {job} was not there to be stopped"
        why = self._failure or f"no answer within {ANSWER_SECONDS:.0f} s"
        return (
            f"stopped, but {job} could not be stopped and may go on: {why}; "
            f'"radiffuse job cancel {self._name} -n {self._namespace}" stops it'
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested.is_set():
            return  # a second one would cut off what the first one began
        self._number = signal.Signals(number)
        self.requested.set()
        if self._is_sending:
            raise _Signalled

    def _run(self) -> None:
        try:
            with contextlib.closing(os.fdopen(self._reader, "rb", buffering=0)) as pipe, self._connect() as client:
                while True:
                    self._keep_warm(client)
                    if select.select([pipe], [], [], WARM_SECONDS)[0]:
                        numbers = pipe.read(16)
                        if not numbers:
                            return
                        if set(numbers) & set(SIGNALS):
                            self._cancel(client)
                            return
        except ClusterError as error:
            self._failure = error
            logger.warning("job=%s cannot be stopped from here: %s", self._name, error)
        finally:
            self.answered.set()

    def _keep_warm(self, client: ClusterClient) -> None:
        with contextlib.suppress(ClusterError):  # the watcher says it, if it lasts
            client.warm(ANSWER_SECONDS)

    def _cancel(self, client: ClusterClient) -> None:
        start = time.monotonic()
        while self._is_armed and time.monotonic() - start < ANSWER_SECONDS:
            try:
                self._send(client)
            except ClusterError as error:
                # The request that creates the job may still be under way, or the server is restarting.
                self._failure = error
                time.sleep(RETRY_SECONDS)
                continue
            self._is_stopped = True
            self.answered.set()  # before the log, whose lock the main thread may hold while it waits
            logger.warning("job=%s stopped after_seconds=%.3f", self._name, time.monotonic() - start)
            return

    def _send(self, client: ClusterClient) -> None:
        if self._should_delete:
            client.delete(self._kind.resource, self._namespace, self._name, seconds=ANSWER_SECONDS)
        else:
            body = suspension(self._kind, "launcher")
            client.patch(self._kind.resource, self._namespace, self._name, body, seconds=ANSWER_SECONDS)
