"""A TCP proxy in front of a real server that breaks connections, or refuses requests, as often as it is told to."""

import contextlib
import socket
import socketserver
import threading
from typing import Self

SLOW_DOWN = b"<Error><Code>SlowDown</Code></Error>"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n" + (
    b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
)


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Passes bytes between clients and `target`, except for the faults asked for.

    The first `refusals` connections are answered with 503. The next `breaks` of those that carry more than
    `break_after_bytes` one way are cut there. The first answer to a request that contains `lose_answer_to` is lost.
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
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        host, _, port = target.partition(":")
        self.target = (host, int(port))
        self.refusals, self.breaks, self.break_after_bytes = refusals, breaks, break_after_bytes
        self.lose_answer_to, self.losses = lose_answer_to, 0 if lose_answer_to is None else 1
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
        passed = 0
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
                sink.sendall(data)
            for end in (source, sink):
                end.shutdown(socket.SHUT_RDWR)
        return passed
