"""The embedded store is private to this machine, keeps its data and its keys, and ends with its owner."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from radiffuse import embedded_store as embedded_store_module
from radiffuse.embedded_store import EmbeddedStore, supervised
from radiffuse.errors import AccessDeniedError, ConfigError, StorageError
from radiffuse.storage import Store, StoreSettings


def _read_credentials(directory: Path) -> dict[str, str]:
    lines = (directory / "credentials.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def _listening(port: int) -> list[str]:
    """Addresses that a port listens on, as /proc/net has them; 0100007F is 127.0.0.1."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    return [row[1].partition(":")[0] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]


def test_data_and_credentials_outlive_a_restart(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as first:
        before = first.settings
        Store(before).put_bytes("s3://reports/test/kept", b"kept")
    with EmbeddedStore(tmp_path) as second:
        assert second.settings == before
        assert Store(second.settings).get_bytes("s3://reports/test/kept") == b"kept"


def test_it_listens_on_this_machine_alone_and_its_inner_doors_are_locked(embedded_store: EmbeddedStore) -> None:
    ports = embedded_store._ports.values()
    addresses = [_listening(port) for port in (*ports, *map(embedded_store_module._grpc_port, ports))]
    assert {address for found in addresses for address in found} == {"0100007F"}
    inside = f"http://127.0.0.1:{embedded_store._ports['filer']}/buckets/"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(inside, timeout=5)


def test_credentials_are_random_and_private(embedded_store: EmbeddedStore) -> None:
    directory = embedded_store._directory
    assert stat.S_IMODE((directory / "credentials.env").stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / "weed.log").stat().st_mode) == 0o600
    assert _read_credentials(directory) == embedded_store.environment
    settings = embedded_store.settings
    assert len(settings.secret_key) == 40
    assert settings.secret_key not in (directory / "weed.log").read_text(errors="replace")
    anonymous = StoreSettings(settings.endpoint, "anybody", "anything", secure=False)
    with pytest.raises(AccessDeniedError):
        Store(anonymous).find("s3://models/a")


def test_two_servers_run_side_by_side(embedded_store: EmbeddedStore, store: Store, tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as other:
        assert other.settings.endpoint != embedded_store.settings.endpoint
        assert store.exists("s3://models/a") is Store(other.settings).exists("s3://models/a") is False


def test_a_folder_in_use_is_refused(embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_store_module, "CLAIM_SECONDS", 0.2)
    with pytest.raises(
        StorageError, match=r"a store is already running in .*credentials.env there\), stop it, or choose"
    ):
        EmbeddedStore(embedded_store._directory).__enter__()
    assert embedded_store.wait(0) is False


def test_a_port_that_is_taken_is_named(embedded_store: EmbeddedStore, tmp_path: Path) -> None:
    taken = embedded_store._ports["s3"]
    with pytest.raises(
        StorageError, match=rf"port {taken} of 127.0.0.1, or {taken + 10000} .* is taken; choose another"
    ):
        EmbeddedStore(tmp_path, port=taken).__enter__()


def test_a_server_that_does_not_come_up_is_reported_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "filerldb2").write_text("not a folder")
    (tmp_path / "weed.log").write_text("F1128 22:35:21 main.go:1 what an earlier start said\n")
    with pytest.raises(StorageError, match=r"the embedded store ended at its start; .*weed.log says: F.*filerldb2"):
        EmbeddedStore(tmp_path).__enter__()


def test_a_credentials_file_that_was_emptied_is_refused(tmp_path: Path) -> None:
    (tmp_path / "credentials.env").write_text("# nothing\n")
    with pytest.raises(ConfigError, match=r"credentials.env has no MINIO_ACCESS_KEY; delete that file to have new"):
        EmbeddedStore(tmp_path).__enter__()


def test_a_store_that_does_not_run_has_no_settings(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is not running; use it as a context manager"):
        _ = EmbeddedStore(tmp_path).settings


def test_a_high_port_still_has_a_grpc_port() -> None:
    assert embedded_store_module._grpc_port(60_000) == 50_000


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`radiffuse store serve` in a process of its own, ready to be used."""
    command = [sys.executable, "-m", "radiffuse.cli", "store", "serve", "--dir", str(tmp_path / "store")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, b"")
        assert any(b"store_ready endpoint=127.0.0.1:" in line for line in lines)
        yield process
        process.kill()


def _wait_until_closed(port: int) -> None:
    deadline = time.monotonic() + 20
    while _listening(port):
        assert time.monotonic() < deadline, f"port {port} still listens"
        time.sleep(0.05)


def test_serving_ends_when_it_is_interrupted(serving: subprocess.Popen[bytes], tmp_path: Path) -> None:
    port = int(_read_credentials(tmp_path / "store")["MINIO_ENDPOINT"].partition(":")[2])
    serving.send_signal(signal.SIGINT)
    assert serving.wait(20) == 0
    assert _listening(port) == []
    assert not Path(f"/tmp/seaweedfs-s3-{port}.sock").exists()


def test_the_server_ends_when_its_owner_is_killed(serving: subprocess.Popen[bytes], tmp_path: Path) -> None:
    port = int(_read_credentials(tmp_path / "store")["MINIO_ENDPOINT"].partition(":")[2])
    serving.kill()
    _wait_until_closed(port)
    with EmbeddedStore(tmp_path / "store") as again:
        assert Store(again.settings).create_buckets() == []


def test_a_server_that_takes_no_notice_of_its_owners_end_is_killed() -> None:
    deaf = ["/bin/sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]
    server = subprocess.Popen(["/bin/sh", "-c", supervised(1.0), "sh", *deaf], stdin=subprocess.PIPE)
    assert server.stdin is not None
    time.sleep(0.5)
    server.stdin.close()
    assert server.wait(20) == 128 + signal.SIGKILL


def test_serving_fails_when_the_server_ends_by_itself(serving: subprocess.Popen[bytes]) -> None:
    children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
    os.killpg(int(children[0]), signal.SIGKILL)
    assert serving.wait(20) == 1
    assert serving.stderr is not None
    assert re.search(rb"error: the embedded store ended by itself; see .*weed.log", serving.stderr.read())


def test_a_file_cannot_hold_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"/file cannot hold a store: File exists; choose a folder"):
        EmbeddedStore(tmp_path / "file").__enter__()
