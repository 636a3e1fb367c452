"""A command in a namespace sees no network but its own, and ends with whoever started it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.isolation import IsolationError, isolated
from tests.cluster.processes import Server, ServerError, wait_until

START = "import sys; from tests.cluster.isolation import isolated; sys.exit(isolated(sys.argv[1:], {}))"


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    try:
        isolated(["true"], {})
    except IsolationError as error:
        pytest.skip(str(error))


def test_the_command_sees_loopback_and_the_bridge_alone(tmp_path: Path) -> None:
    code = isolated(["sh", "-c", f"ls /sys/class/net >/dev/null; cut -d: -f1 /proc/net/dev > {tmp_path}/seen"], {})

    assert code == 0
    assert sorted((tmp_path / "seen").read_text().split()[-2:]) == ["lo", "radiffuse0"]


def test_its_exit_code_is_passed_on() -> None:
    assert isolated(["sh", "-c", "exit 3"], {}) == 3
    assert isolated(["sh", "-c", "kill -KILL $$"], {}) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_command_ends_with_the_process_that_started_it(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "pid"
    command = ["sh", "-c", f"echo $$ > {marker}; exec sleep 600"]
    runner = subprocess.Popen([sys.executable, "-c", START, *command])
    pid = int(wait_until(lambda: marker.read_text() if marker.exists() else "", 20, "the command runs"))

    runner.send_signal(number)

    runner.wait(20)
    wait_until(lambda: not psutil.pid_exists(pid), 20, "the command has ended")


def test_a_server_that_ends_too_soon_is_reported_with_its_log(tmp_path: Path) -> None:
    server = Server("early", ["sh", "-c", "echo no such flag; exit 2"], tmp_path / "early.log")
    server.start()

    with pytest.raises(ServerError, match=r"(?s)early ended with exit code 2; .*early\.log ends\nno such flag"):
        server.wait_until_ready(lambda: False, seconds=20)


def test_stopping_a_server_stops_what_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    server = Server("parent", ["sh", "-c", f"sleep 600 & echo $! > {marker}; wait"], tmp_path / "parent.log")
    server.start()
    pid = int(
        wait_until(lambda: marker.read_text() if marker.exists() else "", 20, "the server started another process")
    )

    server.stop()

    assert not server.is_running()
    wait_until(lambda: not psutil.pid_exists(pid), 20, "the other process has ended")
