"""A launcher that is told to stop has half a second: its job is suspended by then, and goes on when it starts again."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from radiffuse.cluster.cancel import Canceller
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PYTORCHJOB
from radiffuse.cluster.mirror import Mirror
from radiffuse.cluster.state import is_suspended
from radiffuse.cluster.submit import job_for
from radiffuse.errors import Preempted
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan, plan_training
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster_model.launches import (
    document,
    make_inputs,
    make_plan,
    make_secret,
    publish_result,
    settings,
)

pytestmark = pytest.mark.cluster

logger = logging.getLogger(__name__)

LEFT_SECONDS = 0.45
"""Between SIGTERM and the end of everything in a terminated pipeline step."""
ROUNDS = 2


class Command:
    """`radiffuse train --job` as a process of its own, as in a pipeline step."""

    def __init__(self, folder: Path, kubeconfig: Path, job: dict[str, Any]) -> None:
        inputs = make_inputs()
        self.plan = plan_training("few", *inputs, settings(), processes=None)
        self.out, self.summary = folder / "adapted.json", folder / "summary.md"
        self._log = folder / "log"
        run = {"name": "few", "train": settings().model_dump(mode="json", exclude_defaults=True)}
        for name, manifest in zip(("data", "model"), inputs, strict=True):
            manifest.save(folder / f"{name}.json")
        files = [f"--data={folder}/data.json", f"--model={folder}/model.json", f"--out={self.out}"]
        given = [*files, f"--config={json.dumps(run)}", f"--job={json.dumps(job)}", f"--summary={self.summary}"]
        self._command = [sys.executable, "-m", "radiffuse.cli", "train", *given]
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def suspension_seen(client: ClusterClient, namespace: str) -> Iterator[list[float]]:
    """Times, by the monotonic clock, at which the namespace's job was first seen suspended, again and again."""
    seen: list[float] = []

    def look() -> None:
        state = [is_suspended(job) for job in mirror.items()]
        if state == [True] and len(seen) % 2 == 0:
            seen.append(time.monotonic())
        elif state == [False] and len(seen) % 2 == 1:
            seen.append(0.0)

    with Mirror(client, PYTORCHJOB.resource, namespace, look) as mirror:
        wait_until(lambda: mirror.is_synced, 60, "jobs are listed")
        yield seen


def stop_once(command: Command, seen: list[float], number: int) -> float:
    """Seconds from SIGTERM until the job was seen suspended, of a launcher that is killed as a pipeline step is."""
    with command.running() as process:
        wait_until(lambda: command.log.count("phase=starting") > number, 60, "containers run")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEFT_SECONDS)
    wait_until(lambda: len(seen) == 2 * number + 1, 60, "the job is suspended")
    return seen[-1] - start


@pytest.mark.usefixtures("gpu_nodes", "store_access")
def test_a_launcher_that_is_killed_half_a_second_after_sigterm_leaves_its_job_suspended_and_finds_it_again(
    control_plane: ControlPlane, store: Store, namespace: str, tmp_path: Path, record_property: Any
) -> None:
    make_secret(control_plane, namespace)
    command = Command(tmp_path, control_plane.kubeconfig, document("run,succeed", namespace=namespace))
    with ClusterClient(control_plane.kubeconfig) as client, suspension_seen(client, namespace) as seen:
        delays = [stop_once(command, seen, number) for number in range(ROUNDS)]
    logger.info("cancel sigterm_to_suspended_seconds=%s", [round(delay, 3) for delay in delays])
    record_property("sigterm_to_suspended_seconds", max(delays))
    assert max(delays) < LEFT_SECONDS


@pytest.mark.usefixtures("store_access")
def test_the_command_returns_the_result_as_a_local_run_would(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, store: Store, namespace: str, tmp_path: Path
) -> None:
    make_secret(control_plane, namespace)
    command = Command(tmp_path, control_plane.kubeconfig, document("run", namespace=namespace))
    with command.running() as process:
        wait_until(lambda: "phase=starting" in command.log, 60, "containers run")
        publish_result(store, command.plan)
        gpu_nodes.succeed(namespace)
        assert process.wait(60) == 0, command.log
    assert json.loads(command.out.read_text())["uri"] == command.plan.uri
    page = command.summary.read_text()
    assert "| succeeded |" in page and "Training is done" in page


@pytest.mark.usefixtures("gpu_nodes", "store_access")
def test_the_command_fails_with_the_pods_reason(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    make_secret(control_plane, namespace)
    message = '{"outcome": "WRONG_INPUT", "reason": "the latents are of another VAE", "global_step": 0}'
    command = Command(tmp_path, control_plane.kubeconfig, document("exit-2", namespace=namespace, message=message))
    with command.running() as process:
        assert process.wait(60) == 2, command.log
    assert "error: job few-" in command.log and "the latents are of another VAE" in command.log
    assert "the latents are of another VAE" in command.summary.read_text()
    assert not command.out.exists()


def canceller(plane: ControlPlane, namespace: str, name: str, should_delete: bool = False) -> Canceller:
    return Canceller(lambda: ClusterClient(plane.kubeconfig), PYTORCHJOB, namespace, name, should_delete)


def manifest_of(plan: TrainPlan, namespace: str) -> dict[str, Any]:
    (manifest,) = job_for(plan, json.dumps(document()), namespace).to_manifests()
    return manifest


def test_a_job_whose_creation_was_under_way_is_suspended_all_the_same(
    control_plane: ControlPlane, namespace: str
) -> None:
    manifest = manifest_of(make_plan(), namespace)
    name = manifest["metadata"]["name"]
    with ClusterClient(control_plane.kubeconfig) as client, canceller(control_plane, namespace, name) as stopping:
        stopping.arm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested.wait(1)
        client.create(PYTORCHJOB.resource, namespace, manifest)
        with pytest.raises(Preempted, match="was suspended, run the same command to go on"):
            stopping.check()
        assert is_suspended(client.get(PYTORCHJOB.resource, namespace, name))


def test_a_job_in_a_queue_is_deleted_since_the_queue_would_start_it_again(
    control_plane: ControlPlane, namespace: str
) -> None:
    manifest = manifest_of(make_plan(), namespace)
    name = manifest["metadata"]["name"]
    with ClusterClient(control_plane.kubeconfig) as client, canceller(control_plane, namespace, name, True) as stopping:
        client.create(PYTORCHJOB.resource, namespace, manifest)
        stopping.arm()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Preempted, match="was deleted; its checkpoints are kept"):
            wait_until(lambda: stopping.check(), 5, "the signal has come")
        wait_until(lambda: client.find(PYTORCHJOB.resource, namespace, name) is None, 60, "the job is gone")


def test_a_signal_before_anything_was_sent_sends_nothing(control_plane: ControlPlane, namespace: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with canceller(control_plane, namespace, "none") as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        start = time.monotonic()
        with pytest.raises(Preempted):
            wait_until(lambda: stopping.check(), 5, "the signal has come")
        assert time.monotonic() - start < 2
    assert signal.getsignal(signal.SIGTERM) == before
    assert "cancel" not in [thread.name for thread in threading.enumerate()]
