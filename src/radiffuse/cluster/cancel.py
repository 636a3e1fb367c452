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
from collections.abc import Callable
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
RETRY_SECONDS = 0.03
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Canceller:
    """Use it as a context manager in the main thread, around everything from before the job is sent until its end."""

    def __init__(
        self, connect: Callable[[], ClusterClient], kind: JobKind, namespace: str, name: str, should_delete: bool
    ) -> None:
        self._connect, self._kind, self._namespace, self._name = connect, kind, namespace, name
        self._should_delete = should_delete
        self._is_armed = False
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

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        os.close(self._writer)  # ends the thread
        self._thread.join(timeout=ANSWER_SECONDS)

    def arm(self) -> None:
        """From now on the job may exist."""
        self._is_armed = True

    def check(self) -> None:
        """Raise Preempted once a signal has come and the job was told to stop."""
        if self.requested.is_set():
            self.answered.wait(ANSWER_SECONDS)
            how = "deleted; its checkpoints are kept" if self._should_delete else "suspended"
            raise Preempted(f"stopped; the job {self._namespace}/{self._name} was {how}, run the same command to go on")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested.set()

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
            logger.warning("job=%s cannot be stopped from here: %s", self._name, error)
        finally:
            self.answered.set()

    def _keep_warm(self, client: ClusterClient) -> None:
        with contextlib.suppress(ClusterError):  # the watcher says it, if it lasts
            client.warm(ANSWER_SECONDS)

    def _cancel(self, client: ClusterClient) -> None:
        start, last = time.monotonic(), None
        while self._is_armed and time.monotonic() - start < ANSWER_SECONDS:
            try:
                self._send(client)
            except ClusterError as error:
                # The request that creates the job may still be under way, or the server is restarting.
                last = error
                time.sleep(RETRY_SECONDS)
                continue
            logger.warning("job=%s stopped after_seconds=%.3f", self._name, time.monotonic() - start)
            return
        if last is not None and not isinstance(last, NotFoundError):
            logger.error("job=%s could not be stopped: %s", self._name, last)

    def _send(self, client: ClusterClient) -> None:
        if self._should_delete:
            client.delete(self._kind.resource, self._namespace, self._name, seconds=ANSWER_SECONDS)
        else:
            body = suspension(self._kind, "launcher")
            client.patch(self._kind.resource, self._namespace, self._name, body, seconds=ANSWER_SECONDS)
