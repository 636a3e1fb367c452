"""What all tests share: one real S3 server for the session, and the environment that points a process at it."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

from radiffuse.embedded_store import EmbeddedStore
from radiffuse.storage import Store
from radiffuse.store_settings import StoreSettings

# The same examples in every run, however slow the machine; --hypothesis-profile=default looks for new ones.
settings.register_profile("radiffuse", deadline=None, derandomize=True)
settings.load_profile("radiffuse")

# Read once, when torch is imported: threads that spin while they wait slow a shared machine tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


LONGEST = ("test_worker.py", "test_backend.py", "test_launch.py", "test_finetune.py", "test_train.py", "test_sample.py")
"""Files that take a minute or more."""


class StoreServer(Protocol):
    """An S3 server and how to reach it."""

    settings: StoreSettings
    environment: dict[str, str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the same tests run against another server."""
    parser.addoption("--store", choices=("weed", "minio"), default="weed", help="S3 server; minio is built with Go")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process waits at the end for another's."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A `weed mini` server with random credentials on 127.0.0.1, its buckets created."""
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="session")
def store_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """The S3 server of the session: the embedded store, or MinIO with --store=minio."""
    if request.config.getoption("--store") == "weed":
        yield request.getfixturevalue("embedded_store")
        return
    from tests.cluster.nodes.minio import Minio, free_endpoint

    folder = tmp_path_factory.mktemp("minio")
    with Minio(folder, folder, free_endpoint()) as server:
        yield server


@pytest.fixture(scope="session")
def store(store_server: StoreServer) -> Store:
    """A client of the session's server."""
    return Store(store_server.settings)


@pytest.fixture
def store_environment(store_server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a subprocess needs to use the session's server, with a cache of its own; set in this process too."""
    environment = store_server.environment | {
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


@pytest.fixture
def full_tmpdir(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's folder for temporary files, on a file system where no byte is left."""
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    return small_disk


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user may not look into, however mighty: root is nobody while the test runs."""
    folder = tmp_path / "closed"
    (folder / "inside").mkdir(parents=True)
    folder.chmod(0o000)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)
