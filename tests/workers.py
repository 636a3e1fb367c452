"""Gangs of training pods as processes of this machine: a worker each, with torchrun and ranks of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from radiffuse.outcome import Ending, read_ending
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan

ROOT = Path(__file__).parent.parent

WORKER = """
import json, logging, sys
from pathlib import Path
from radiffuse.worker import WorkerSettings, run_worker
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(levelname).1s %(name)s %(message)s")
settings = json.loads(sys.argv[1])
sys.exit(run_worker(WorkerSettings(**settings | {"termination_log": Path(settings["termination_log"])})))
"""


@dataclass(frozen=True)
class Pod:
    """One worker; its log is `log` in its folder."""

    process: subprocess.Popen[bytes]
    folder: Path
    metrics_port: int

    @property
    def ending(self) -> Ending | None:
        """What its termination log says."""
        path = self.folder / "termination-log"
        return read_ending(path.read_text()) if path.exists() else None

    @property
    def log(self) -> str:
        """All that it and its ranks said."""
        return (self.folder / "log").read_text()

    def metrics(self) -> dict[str, float]:
        """What /metrics answers, by series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def wait(self, timeout_seconds: float = 900) -> int:
        """Its exit code."""
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_seconds} s:\n{self.log[-3000:]}") from None


def submit(store: Store, plan: TrainPlan) -> str:
    """Put the plan where the workers read it; its address."""
    uri = f"{plan.checkpoints_uri}/plan.json"
    store.put_bytes(uri, plan.model_dump_json().encode())
    return uri


def start_pod(
    plan_uri: str,
    folder: Path,
    environment: Mapping[str, str],
    port: int,
    node: int = 0,
    nodes: int = 1,
    processes: int = 1,
    below: Sequence[str] = (),
    **settings: object,
) -> Pod:
    """Start the worker of one node; `port` is torchrun's, the line's is the next, then come those for metrics.

    below: the command that is to start it.
    """
    folder = folder / f"node-{node}"
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    metrics_port = port + 2 + node
    chosen = {"plan_uri": plan_uri, "termination_log": str(folder / "termination-log"), "metrics_port": metrics_port}
    place = {
        "PET_NNODES": str(nodes),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_NODE_RANK": str(node),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
        "RADIFFUSE_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    (folder / "termination-log").unlink(missing_ok=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*below, sys.executable, "-c", WORKER, json.dumps({"linger_seconds": 0.0} | chosen | settings)],
            env={**os.environ, **environment, **place},
            stderr=log,
            start_new_session=True,
        )
    return Pod(process, folder, metrics_port)


class Gang:
    """Two nodes, to be used as a context manager that leaves nothing running."""

    def __init__(
        self, plan_uri: str, folder: Path, environment: Mapping[str, str], nodes: int = 2, **settings: object
    ) -> None:
        port = free_ports(2 + nodes)
        self.pods = [
            start_pod(plan_uri, folder, environment, port, node, nodes, **settings)  # type: ignore[arg-type]
            for node in range(nodes)
        ]

    def __enter__(self) -> "Gang":
        return self

    def __exit__(self, *exception: object) -> None:
        for pod in self.pods:
            if pod.process.poll() is None:
                os.killpg(pod.process.pid, signal.SIGKILL)  # the ranks end with their parents
                pod.process.wait()

    def wait(self, timeout_seconds: float = 900) -> list[int]:
        """Exit codes by node."""
        return [pod.wait(timeout_seconds) for pod in self.pods]


def free_ports(count: int) -> int:
    """The first of that many ports in a row that nobody listens on."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
        try:
            for number in range(port, port + count):
                with socket.socket() as free:
                    free.bind(("127.0.0.1", number))
        except (OSError, OverflowError):
            continue
        return port


def wait_until(condition: Callable[[], bool], state: Callable[[], str], deadline_seconds: float = 900) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.02)
