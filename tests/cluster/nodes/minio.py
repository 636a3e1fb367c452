"""MinIO on one disk, built from its Go module: the S3 server that the project is made for."""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from radiffuse.storage import Store
from radiffuse.store_settings import StoreSettings
from tests.cluster.build import executable
from tests.cluster.nodes.probe import answers
from tests.cluster.processes import Server

START_SECONDS = 60.0


def free_endpoint() -> str:
    """A port of this machine alone that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Minio:
    """One server; it may be stopped and started again with all that it holds."""

    def __init__(self, folder: Path, log_folder: Path, endpoint: str) -> None:
        """endpoint: host:port to listen on."""
        self.settings = StoreSettings(
            endpoint=endpoint, access_key=secrets.token_hex(10), secret_key=secrets.token_hex(20), secure=False
        )
        environment = {
            "HOME": str(folder),  # it looks there for certificates
            "MINIO_ROOT_USER": self.settings.access_key,
            "MINIO_ROOT_PASSWORD": self.settings.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        command = [str(executable("minio")), "server", str(folder / "data"), f"--address={endpoint}", "--quiet"]
        self._server = Server("minio", command, log_folder / "minio.log", environment)

    def __enter__(self) -> Self:
        self.start()
        self.store.create_buckets()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def store(self) -> Store:
        """A client of it."""
        return Store(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it; the entries of a job's secret too."""
        return {
            "MINIO_ENDPOINT": self.settings.endpoint,
            "MINIO_ACCESS_KEY": self.settings.access_key,
            "MINIO_SECRET_KEY": self.settings.secret_key,
            "MINIO_SECURE": "false",
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, the server takes connections and answers nothing."""
        pid = self._server.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def start(self) -> None:
        """Start it and wait until it answers; raises ServerError."""
        self._server.start()
        url = f"http://{self.settings.endpoint}/minio/health/live"
        self._server.wait_until_ready(lambda: answers(url), START_SECONDS)

    def stop(self) -> None:
        """Stop it; its data stay."""
        self._server.stop()
