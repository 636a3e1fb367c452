"""A TCP proxy in front of a real server that breaks connections, refuses requests or is slow, as it is told to."""

import contextlib
import socket
import socketserver
import threading
import time
from typing import Self

SLOW_DOWN = b"<Error><Code>SlowDown</Code></Error>"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n" + (
    b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
)


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Passes bytes between clients and `target`, except for the faults asked for.

    The first `refusals` connections are answered with 503. The next `breaks` of those that carry more than
    `break_after_bytes` one way are cut there. The first answer to a request that contains `lose_answer_to` is lost.
    Of what clients send no more than `bytes_per_second` pass on each connection, and nothing after `stall_after_bytes`.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        target: str,
        *,
        refusals: int = 0,
        breaks: int = 0,
        break_after_bytes: int = 0,
        lose_answer_to: bytes | None = None,
        bytes_per_second: float | None = None,
        stall_after_bytes: int | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        host, _, port = target.partition(":")
        self.target = (host, int(port))
        self.refusals, self.breaks, self.break_after_bytes = refusals, breaks, break_after_bytes
        self.lose_answer_to, self.losses = lose_answer_to, 0 if lose_answer_to is None else 1
        self.bytes_per_second, self.stall_after_bytes = bytes_per_second, stall_after_bytes
        if bytes_per_second is not None or stall_after_bytes is not None:
            # Else the kernel takes megabytes from a client before it is held up.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        self.is_over = threading.Event()
        self.downloaded_bytes = 0
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """host:port that clients connect to."""
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.shutdown()
        self.server_close()

    def take(self, fault: str) -> bool:
        """Whether one more fault of this kind is due."""
        with self._lock:
            left: int = getattr(self, fault)
            setattr(self, fault, max(left - 1, 0))
            return left > 0


class _Connection(socketserver.BaseRequestHandler):
    server: FaultyProxy

    def handle(self) -> None:
        client: socket.socket = self.request
        self._is_answer_lost = False
        if self.server.take("refusals"):
            client.recv(65536)
            client.sendall(UNAVAILABLE)
            return
        with socket.create_connection(self.server.target) as upstream, contextlib.suppress(OSError):
            upload = threading.Thread(target=self._pass_on, args=(client, upstream), daemon=True)
            upload.start()
            self.server.downloaded_bytes += self._pass_on(upstream, client, is_answer=True)
            upload.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool = False) -> int:
        passed, start = 0, time.monotonic()
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if passed > self.server.break_after_bytes and self.server.take("breaks"):
                    break
                if is_answer and self._is_answer_lost:
                    break
                wanted = self.server.lose_answer_to
                if not is_answer and wanted is not None and wanted in data and self.server.take("losses"):
                    self._is_answer_lost = True
                if not is_answer:
                    self._hold_up(passed, start)
                sink.sendall(data)
            for end in (source, sink):
                end.shutdown(socket.SHUT_RDWR)
        return passed

    def _hold_up(self, passed: int, start: float) -> None:
        """Wait until that many bytes of a client may have passed."""
        stall, rate = self.server.stall_after_bytes, self.server.bytes_per_second
        if stall is not None and passed > stall:
            self.server.is_over.wait()
        if rate is not None:
            self.server.is_over.wait(max(0.0, start + passed / rate - time.monotonic()))
