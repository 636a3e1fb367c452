"""A real store seen through a server whose clock is wrong: everything passes as it is but the date of the answers."""

import email.utils
import http.server
import threading
import time
from typing import Self

import urllib3


class SkewedStore:
    """Forwards to a store on loopback; `endpoint` is where. Use it as a context manager."""

    def __init__(self, endpoint: str, ahead_seconds: float) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(endpoint, ahead_seconds))
        self._server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(endpoint: str, ahead_seconds: float) -> type[http.server.BaseHTTPRequestHandler]:
    pool = urllib3.PoolManager(retries=False)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # The Host header is part of what a client signs, so it passes as it came.
            answer = pool.request(
                self.command, f"http://{endpoint}{self.path}", headers=dict(self.headers), body=body, redirect=False
            )
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("date", "content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Date", email.utils.formatdate(time.time() + ahead_seconds, usegmt=True))
            self.send_header("Content-Length", answer.headers.get("Content-Length") or str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815

    return Handler
