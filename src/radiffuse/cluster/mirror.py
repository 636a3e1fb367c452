"""A local copy of the objects that match a selector, which a thread keeps current: list, watch, and list again."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

from radiffuse.cluster.api_errors import ExpiredError, ForbiddenError, UnauthenticatedError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import text
from radiffuse.cluster.kinds import Object, Resource
from radiffuse.cluster.stream import Change, Stream
from radiffuse.errors import ClusterError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
DOUBTED_SECONDS = 60.0
"""A server that has just started refuses those whom it knew before, until it has read its own rules."""


class Mirror:
    """Use it as a context manager. `on_change` is called from the mirror's thread after each change, and must be quick.

    A server that goes away is waited for, a watch that has expired begins anew with a list. What cannot get better by
    itself (no such kind of object, no right to list it) stops the thread, and `error` says it.
    """

    def __init__(
        self,
        client: ClusterClient,
        resource: Resource,
        namespace: str,
        on_change: Callable[[], None],
        labels: str = "",
        fields: str = "",
        keep: Callable[[Object], bool] = lambda item: True,
    ) -> None:
        self._client, self._resource, self._namespace = client, resource, namespace
        self._labels, self._fields, self._keep, self._on_change = labels, fields, keep, on_change
        self._items: dict[str, Object] = {}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._stream: Stream[Change] | None = None
        self._version = ""
        self._thread = threading.Thread(target=self._run, name=f"mirror-{resource.plural}", daemon=True)
        self.error: ClusterError | None = None
        """Why there is no copy, or no longer one that is current."""
        self.is_synced = False
        """Whether a list has arrived."""
        self.silent_since: float | None = None
        """time.monotonic() at which the server stopped answering; None while it answers."""
        self.lists = 0
        """How often everything was listed: once, and again after each watch that had expired."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if (stream := self._stream) is not None:
            stream.close()
        self._thread.join(timeout=1.0)  # a request without an answer ends at its own deadline; the thread is a daemon

    def items(self) -> list[Object]:
        """The objects as last seen; treat them as frozen."""
        with self._lock:
            return list(self._items.values())

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
                self._stopped.wait(FIRST_PAUSE_SECONDS)  # a proxy may end every watch at once
            except ExpiredError:
                logger.info("watch=%s expired, listing anew", self._resource.plural)
                self._version = ""
            except ClusterError as error:
                pause = FIRST_PAUSE_SECONDS if self.silent_since is None else min(2 * pause, LONGEST_PAUSE_SECONDS)
                if not self._is_worth_a_retry(error):
                    self._fail(error)
                    return
                self._stopped.wait(pause)

    def _list(self) -> None:
        items, version = self._client.list_items(self._resource, self._namespace, self._labels, self._fields)
        with self._lock:
            self._items = {_key(item): item for item in items if self._keep(item)}
        self._version, self.is_synced, self.silent_since = version, True, None
        self.lists += 1
        self._on_change()

    def _watch(self) -> None:
        """Apply what comes until the server ends the watch."""
        self._stream = self._client.watch(self._resource, self._namespace, self._version, self._labels, self._fields)
        self.silent_since = None
        if self._stopped.is_set():  # too late for __exit__ to see this stream
            self._stream.close()
        for change in self._stream:
            self._version = text(change.item, "metadata", "resourceVersion") or self._version
            if change.kind != "BOOKMARK":
                self._apply(change)

    def _apply(self, change: Change) -> None:
        with self._lock:
            if change.kind == "DELETED":
                self._items.pop(_key(change.item), None)
            elif self._keep(change.item):
                self._items[_key(change.item)] = change.item
        self._on_change()

    def _is_worth_a_retry(self, error: ClusterError) -> bool:
        now = time.monotonic()
        is_first = self.silent_since is None
        since = self.silent_since = now if self.silent_since is None else self.silent_since
        is_doubted = isinstance(error, ForbiddenError | UnauthenticatedError) and self.is_synced
        is_worth_it = isinstance(error, UnavailableError) or (is_doubted and now - since < DOUBTED_SECONDS)
        if is_first and is_worth_it:
            logger.warning("watch=%s interrupted: %s", self._resource.plural, error)
        return is_worth_it

    def _fail(self, error: ClusterError) -> None:
        self.error = error
        self._on_change()


def _key(item: Object) -> str:
    return text(item, "metadata", "uid") or text(item, "metadata", "name")
