"""What all tests share: one real S3 server for the session, and the environment that points a process at it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from radiffuse.embedded_store import EmbeddedStore
from radiffuse.storage import Store

# The same examples in every run, however slow the machine; --hypothesis-profile=default looks for new ones.
settings.register_profile("radiffuse", deadline=None, derandomize=True)
settings.load_profile("radiffuse")

# Read once, when torch is imported: threads that spin while they wait slow a shared machine tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A `weed mini` server with random credentials on 127.0.0.1, its buckets created."""
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="session")
def store(embedded_store: EmbeddedStore) -> Store:
    """A client of the session's server."""
    return Store(embedded_store.settings)


@pytest.fixture
def store_environment(embedded_store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a subprocess needs to use the session's server, with a cache of its own; set in this process too."""
    environment = embedded_store.environment | {
        "RADIFFUSE_CACHE": str(tmp_path / "cache"),
        "RADIFFUSE_PROGRESS": "lines",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount_point)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small file system to fill")
    yield mount_point
    subprocess.run(["umount", str(mount_point)], check=True)
