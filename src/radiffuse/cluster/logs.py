"""The log of a job's first node, line by line as it is written, over the restarts of its container."""

import logging
import re
import threading
from collections.abc import Callable
from typing import Self

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError, RefusedError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PODS
from radiffuse.cluster.stream import Stream
from radiffuse.errors import ClusterError

logger = logging.getLogger(__name__)

FIRST_LINES = 200
PAUSE_SECONDS = 1.0
FRACTION = re.compile(r"\.\d+")


class LogFollower:
    """Use it as a context manager, and say by `follow` which pod there is now; `write` gets each line once.

    Leaving it waits a moment for the last lines. A log that may not be read is said once, and the job goes on without.
    """

    def __init__(
        self, client: ClusterClient, namespace: str, container: str, write: Callable[[str], None], drain_seconds: float
    ) -> None:
        self._client, self._namespace, self._container, self._write = client, namespace, container, write
        self._drain_seconds = drain_seconds
        self._pod: str | None = None
        self._start: object = None
        self._last = ""
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._stream: Stream[str] | None = None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._changed.set()
        self._thread.join(timeout=self._drain_seconds)
        if (stream := self._stream) is not None:
            stream.close()
        self._thread.join(timeout=1.0)

    def follow(self, pod: str, start: object) -> None:
        """Follow that pod's log; `start` is anything that differs from one start of its container to the next."""
        if (pod, start) != (self._pod, self._start):
            if pod != self._pod:
                self._last = ""
            self._pod, self._start = pod, start
            self._changed.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            while self._pod is not None and not self._read(self._pod):
                if self._stopped.wait(PAUSE_SECONDS) or self._changed.is_set():
                    break

    def _read(self, pod: str) -> bool:
        """Write out what is new until the stream ends; False when it is worth another try."""
        # Seconds are the API's unit here, so the lines of the last second come again and are left out by their time.
        before = self._last
        query = {"sinceTime": FRACTION.sub("", before)} if before else {"tailLines": str(FIRST_LINES)}
        try:
            self._stream = self._client.log(
                PODS, self._namespace, pod, self._container, query | {"follow": "true", "timestamps": "true"}
            )
            for line in self._stream:
                time, _, words = line.partition(" ")
                if time > before:
                    self._last = time
                    self._write(words)
        except ForbiddenError as error:
            logger.warning("%s; the job goes on without its log here", error)
            self._stopped.set()
        except (NotFoundError, RefusedError):  # the pod has gone, or its container has not started yet
            return True
        except ClusterError as error:
            logger.debug("the log of %s broke off: %s", pod, error)
            return False
        return True
