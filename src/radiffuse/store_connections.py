"""Connections to the store that dial briefly and send patiently, and one line for a request that is sent again.

urllib3 knows no timeout for sending: the time in which a connection must stand is then also the time in which a whole
request body must be out, and 16 MiB take longer than that on any slow link.
"""

import logging
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

logger = logging.getLogger(__name__)

SEND_TIMEOUT_SECONDS = 60.0
"""For each SEND_BYTES of a body, so that a link may be slow but not dead."""
SEND_BYTES = 2**16


class UploadStalledError(ProtocolError):
    """Nothing of a request's body went out for SEND_TIMEOUT_SECONDS."""


class _Connection(HTTPConnection):
    def request(self, *args: Any, **settings: Any) -> None:
        if self.sock is None:
            self.connect()  # within the time for dialling
        # Unless told otherwise urllib3 gives a connection that it uses again the time for dialling, too.
        self.timeout = SEND_TIMEOUT_SECONDS
        super().request(*args, **settings)

    def send(self, data: Any) -> None:
        # The timeout of sendall is for all of its bytes, however steadily they go out.
        if not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)
            return
        body = memoryview(data)
        try:
            for start in range(0, len(body), SEND_BYTES):
                super().send(body[start : start + SEND_BYTES])
        except TimeoutError as error:
            raise UploadStalledError(f"nothing more went out for {SEND_TIMEOUT_SECONDS:g} s") from error


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def send_patiently(pool: PoolManager) -> PoolManager:
    """The same pool, its future connections with a timeout of their own for what they send."""
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    # It warns of every retry by its own objects' names; LoggedRetry says it once and plainly.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return pool


class LoggedRetry(Retry):
    """A policy that logs each repetition in one line, without the object's address."""

    def increment(self, *args: Any, **settings: Any) -> Self:
        """The policy with one attempt less; raises the last error when none is left."""
        left = super().increment(*args, **settings)
        error, response = settings.get("error"), settings.get("response")
        reason = type(error).__name__ if error is not None else f"status {getattr(response, 'status', None)}"
        logger.info("store_retry reason=%s attempts_left=%s", reason, left.total)
        return left
