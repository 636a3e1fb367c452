"""A worker below dumb-init, as in the image, in a process namespace of its own: a container in what matters."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from radiffuse.outcome import Ending, Outcome
from radiffuse.storage import Store
from radiffuse.wheels import Wheel, unpack_wheel
from tests.light import light_plan
from tests.workers import Pod, free_ports, start_pod, submit, wait_until

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
DUMB_INIT = Wheel(
    "dumb-init==1.2.5.post1",
    "5d6b1fe9b8efcdbbdcb670efe7a55f9117251ee9648d35ffd0c487fd79515ea5",
    holds="dumb-init for x86_64",
)

StartPod = Callable[..., Pod]


@pytest.fixture(scope="session")
def first_process(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts another as the image's entry point does."""
    if platform.machine() != "x86_64" or subprocess.run([*CONTAINER, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs x86_64 and a kernel that lets this user have a process namespace")
    folder = tmp_path_factory.mktemp("dumb-init")
    unpack_wheel(DUMB_INIT, folder)
    return [*CONTAINER, str(folder / "bin" / "dumb-init"), "--single-child", "--"]


@pytest.fixture
def start_contained(
    first_process: list[str], store: Store, store_environment: dict[str, str], tmp_path: Path
) -> Iterator[StartPod]:
    """Start the pod of a plan whose name says how its rank ends."""
    started = []

    def start(fate: str, **settings: object) -> Pod:
        uri, port = submit(store, light_plan(fate)), free_ports(3)
        chosen = {"module": "tests.light_rank", "below": first_process}
        started.append(start_pod(uri, tmp_path, store_environment, port, **chosen | settings))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for pod in started:
        if pod.process.poll() is None:
            os.killpg(pod.process.pid, signal.SIGKILL)
            pod.process.wait()


def inside(pod: Pod) -> list[psutil.Process]:
    """The processes of the container, its first one first."""
    return psutil.Process(pod.process.pid).children(recursive=True)


def test_a_sigterm_before_python_is_up_ends_a_pod(first_process: list[str]) -> None:
    command = [
        *first_process,
        sys.executable,
        "-m",
        "radiffuse.cli",
        "worker",
        "--plan",
        "s3://checkpoints/x/plan.json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) == 2, lambda: "no worker yet", 30)
        psutil.Process(process.pid).children()[0].send_signal(signal.SIGTERM)
        assert process.wait(20) == Outcome.PREEMPTED


def test_a_sigterm_reaches_the_ranks_and_the_workers_code_is_the_pods(start_contained: StartPod) -> None:
    pod = start_contained("hang", grace_seconds=1.0)
    wait_until(lambda: "hanging" in pod.log, lambda: pod.log)
    inside(pod)[0].send_signal(signal.SIGTERM)
    assert pod.wait(30) == Outcome.CRASHED
    assert pod.ending is not None and pod.ending.reason == "the ranks had not ended 1 s after SIGTERM; allow more"


def test_a_worker_that_is_not_process_1_reaps_what_its_ranks_leave(start_contained: StartPod) -> None:
    pod = start_contained("done", linger_seconds=600.0)
    wait_until(lambda: pod.ending is not None, lambda: pod.log)
    assert isinstance(pod.ending, Ending) and pod.ending.outcome is Outcome.DONE
    first, *others = inside(pod)
    assert first.name() == "dumb-init" and len(others) == 1, [process.cmdline() for process in others]
    first.send_signal(signal.SIGTERM)
    assert pod.wait(30) == Outcome.DONE
