"""The store may refuse, break off, be absent or be stopped: what happens then, and what a person is told."""

import contextlib
import dataclasses
import http.server
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import minio.time
import pytest
import urllib3

from radiffuse.embedded_store import EmbeddedStore
from radiffuse.errors import AccessDeniedError, ConfigError, ObjectNotFoundError, StorageError
from radiffuse.manifest import Manifest
from radiffuse.storage import PART_BYTES, RETRIES, TIMEOUT, Store, StoreSettings
from tests.faulty_proxy import FaultyProxy

DEADLINE_SECONDS = 15.0
FILES = 60
"""Of 512 kB: enough that an upload is still under way when its first file has arrived."""


def _new_manifest() -> Manifest:
    digest = uuid.uuid4().hex[:16]
    return Manifest(kind="model", name="tiny", uri=f"s3://models/tiny/{digest}", digest=digest)


def _write_files(folder: Path, number: int, size_bytes: int) -> Path:
    folder.mkdir()
    for index in range(number):
        (folder / f"{index:03}").write_bytes(os.urandom(size_bytes))
    return folder


def _with(store: Store, **changes: object) -> Store:
    return Store(dataclasses.replace(store.settings, **changes))  # type: ignore[arg-type]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attempts without the waits between them."""
    monkeypatch.setattr("radiffuse.storage.RETRIES", RETRIES.new(backoff_factor=0, backoff_jitter=0))


def test_a_download_that_breaks_off_goes_on_where_it_broke(store: Store, tmp_path: Path) -> None:
    data = os.urandom(6 * 2**20)
    stored = store.put_bytes("s3://models/test/broken-off", data)
    with FaultyProxy(store.settings.endpoint, breaks=2, break_after_bytes=2**21) as proxy:
        _with(store, endpoint=proxy.endpoint).get_file(
            "s3://models/test/broken-off", tmp_path / "file", sha256=stored.sha256
        )
        assert proxy.breaks == 0
        assert proxy.downloaded_bytes < 1.5 * len(data)
    assert (tmp_path / "file").read_bytes() == data


def test_a_clock_that_is_wrong_is_not_taken_for_a_wrong_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    an_hour_ago = minio.time.utcnow() - timedelta(hours=1)
    monkeypatch.setattr(minio.time, "utcnow", lambda: an_hour_ago)
    with pytest.raises(AccessDeniedError, match=r"its clock and this machine's differ too much; set the clock"):
        store.get_bytes("s3://models/test/bytes")


@pytest.mark.usefixtures("_impatient")
def test_a_download_that_always_breaks_off_ends_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.put_bytes("s3://models/test/broken-off", os.urandom(2**20))
    with FaultyProxy(store.settings.endpoint, breaks=1000, break_after_bytes=2000) as proxy:
        broken = _with(store, endpoint=proxy.endpoint)
        with pytest.raises(StorageError, match=rf"cannot reach the store at {proxy.endpoint} \("):
            broken.get_file("s3://models/test/broken-off", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_breaks_off_is_sent_again(store: Store) -> None:
    data = os.urandom(6 * 2**20)
    with FaultyProxy(store.settings.endpoint, breaks=1, break_after_bytes=2**21) as proxy:
        stored = _with(store, endpoint=proxy.endpoint).put_bytes("s3://models/test/sent-again", data)
        assert proxy.breaks == 0
    assert store.get_bytes("s3://models/test/sent-again", sha256=stored.sha256) == data


def test_an_upload_whose_last_answer_is_lost_counts_as_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiffuse.storage.PART_BYTES", 5 * 2**20)  # the least that S3 allows
    data = os.urandom(11 * 2**20)
    with FaultyProxy(store.settings.endpoint, lose_answer_to=b"<CompleteMultipartUpload") as proxy:
        stored = _with(store, endpoint=proxy.endpoint).put_bytes("s3://models/test/lost-answer", data)
        assert proxy.losses == 0
    assert store.get_bytes("s3://models/test/lost-answer", sha256=stored.sha256) == data


def test_an_upload_over_a_slow_link_arrives_in_one_attempt(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = os.urandom(PART_BYTES)
    start = time.monotonic()
    with FaultyProxy(store.settings.endpoint, bytes_per_second=4 * 2**20) as proxy:
        stored = _with(store, endpoint=proxy.endpoint).put_bytes("s3://models/test/slow", data)
    # The connection must stand within 2 s; the body takes longer, also on a connection that is used again.
    assert time.monotonic() - start > 1.5 * float(str(TIMEOUT.connect_timeout))
    assert "store_retry" not in caplog.text
    assert store.get_bytes("s3://models/test/slow", sha256=stored.sha256) == data


@pytest.mark.usefixtures("_impatient")
def test_an_upload_that_stalls_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiffuse.store_connections.SEND_TIMEOUT_SECONDS", 0.3)
    with FaultyProxy(store.settings.endpoint, stall_after_bytes=2**20) as proxy:
        stalled = _with(store, endpoint=proxy.endpoint)
        with pytest.raises(
            StorageError, match=rf"upload to {proxy.endpoint} stalled \(nothing more went out for 0.3 s"
        ):
            stalled.put_bytes("s3://models/test/stalled", bytes(PART_BYTES))


def test_a_store_that_is_overloaded_for_a_moment_is_asked_again(store: Store) -> None:
    with FaultyProxy(store.settings.endpoint, refusals=2) as proxy:
        _with(store, endpoint=proxy.endpoint).put_bytes("s3://models/test/patient", b"x")
        assert proxy.refusals == 0
    assert store.get_bytes("s3://models/test/patient") == b"x"


@pytest.mark.usefixtures("_impatient")
def test_a_store_that_stays_overloaded_is_reported(store: Store) -> None:
    with FaultyProxy(store.settings.endpoint, refusals=1000) as proxy:
        with pytest.raises(
            StorageError, match=rf"{proxy.endpoint} answered 503 SlowDown for s3://models/test/busy; its"
        ):
            _with(store, endpoint=proxy.endpoint).put_bytes("s3://models/test/busy", b"x")
        assert proxy.refusals == 1000 - 5


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"secret_key": "not-the-key"}, "SignatureDoesNotMatch"), ({"access_key": "nobody"}, "InvalidAccessKeyId")],
)
def test_a_wrong_key_is_told_apart_and_never_shown(
    store: Store, changes: dict[str, str], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stranger = _with(store, **changes)
    with pytest.raises(
        AccessDeniedError, match=rf"refused access to s3://models/a \({code}\); check MINIO_ACC"
    ) as caught:
        stranger.get_bytes("s3://models/a")
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(stranger)
    assert stranger.settings.secret_key not in shown
    assert stranger.settings.access_key not in shown


def test_a_store_that_is_not_there_is_reported_soon(store: Store) -> None:
    start = time.monotonic()
    with pytest.raises(
        StorageError, match=r"cannot reach the store at 127.0.0.1:1 \(.*refused\).*radiffuse store serve"
    ):
        _with(store, endpoint="127.0.0.1:1").find("s3://models/a")
    assert time.monotonic() - start < DEADLINE_SECONDS


def test_a_host_that_never_answers_is_reported_within_the_deadline() -> None:
    assert isinstance(RETRIES.total, int)
    assert isinstance(TIMEOUT.connect_timeout, float)
    waits = sum(RETRIES.backoff_factor * 2**number + RETRIES.backoff_jitter for number in range(1, RETRIES.total))
    assert (RETRIES.total + 1) * TIMEOUT.connect_timeout + waits < DEADLINE_SECONDS


@pytest.mark.usefixtures("_impatient")
def test_a_host_that_takes_no_connection_is_reported_without_the_patience_of_sending(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("radiffuse.storage.TIMEOUT", urllib3.Timeout(connect=0.2, read=TIMEOUT.read_timeout))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        address = listener.getsockname()
        for _ in range(4):  # more than fit: what comes next is never answered
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        start = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot reach the store at .*timed out"):
            _with(store, endpoint=f"127.0.0.1:{address[1]}").put_bytes("s3://models/a", b"x")
    assert time.monotonic() - start < DEADLINE_SECONDS
    retries = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert [record.name for record in retries] == ["radiffuse.store_connections"] * RETRIES.total


@pytest.mark.usefixtures("_impatient")
def test_a_name_that_does_not_resolve_is_reported(store: Store) -> None:
    with pytest.raises(StorageError, match=r"cannot reach the store at nowhere.invalid:9000 \(Failed to resolve"):
        _with(store, endpoint="nowhere.invalid:9000").find("s3://models/a")


@pytest.mark.usefixtures("_impatient")
def test_tls_is_never_given_up(store: Store) -> None:
    with pytest.raises(StorageError, match=r"no trusted TLS connection to .*MINIO_CA_CERT.*or set MINIO_SECURE=false"):
        _with(store, secure=True).find("s3://models/a")


@pytest.fixture
def web_server() -> Iterator[str]:
    """A web server that knows nothing of S3."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_is_no_store_is_recognised(store: Store, web_server: str) -> None:
    with pytest.raises(StorageError, match=rf"{web_server} does not answer as an S3 store does; check MINIO_ENDPOINT"):
        _with(store, endpoint=web_server).find("s3://models/a")


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="MINIO_ENDPOINT must be host:port, not 'a:b:c'"):
        Store(StoreSettings("a:b:c", "reader", "sesame"))


def test_a_missing_bucket_is_told_apart_from_a_missing_object(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    attempts = (
        lambda: store.find("s3://absent-bucket/a"),
        lambda: store.get_bytes("s3://absent-bucket/a"),
        lambda: store.put_file("s3://absent-bucket/a", tmp_path / "file"),
        lambda: list(store.list("s3://absent-bucket")),
        lambda: store.delete(["s3://absent-bucket/a"]),
    )
    for attempt in attempts:
        with pytest.raises(ObjectNotFoundError, match=r"no bucket 'absent-bucket' at .*\"radiffuse store init\""):
            attempt()


def _wait_for_first_object(store: Store, uri: str) -> None:
    deadline = time.monotonic() + 60
    while next(store.list(uri), None) is None:
        assert time.monotonic() < deadline, f"nothing arrived at {uri}"


def test_an_upload_that_is_killed_never_looks_complete(
    store: Store, store_environment: dict[str, str], tmp_path: Path
) -> None:
    manifest, folder = _new_manifest(), _write_files(tmp_path / "output", FILES, 2**19)
    code = (
        "import sys, pathlib, radiffuse.manifest as m, radiffuse.storage as s\n"
        "s.open_store().publish(m.Manifest.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, manifest.model_dump_json(), str(folder)]
    with subprocess.Popen(command, env=os.environ | store_environment) as process:
        _wait_for_first_object(store, manifest.uri)
        process.kill()
    assert len(list(store.list(manifest.uri))) < FILES
    assert store.find(manifest.uri) is None
    assert store.find(store.publish(manifest, folder).uri) is not None


@pytest.mark.usefixtures("_impatient")
def test_a_store_that_stops_midway_is_reported_and_a_rerun_finishes(tmp_path: Path) -> None:
    manifest, folder = _new_manifest(), _write_files(tmp_path / "output", FILES, 2**19)
    server = EmbeddedStore(tmp_path / "store")
    failures: list[StorageError] = []

    def _publish() -> None:
        try:
            store.publish(manifest, folder)
        except StorageError as error:
            failures.append(error)

    with server:
        store = Store(server.settings)
        publishing = threading.Thread(target=_publish)
        publishing.start()
        _wait_for_first_object(store, manifest.uri)
    publishing.join()
    (failure,) = failures
    endpoint = store.settings.endpoint  # while it stops, the server may answer with errors of its own
    assert str(failure).startswith((f"cannot reach the store at {endpoint} (", f"{endpoint} answered 500 "))
    with server:
        assert store.find(manifest.uri) is None
        arrived = len(list(store.list(manifest.uri)))
        assert 0 < arrived < FILES
        assert len(store.publish(manifest, folder).objects) == FILES
