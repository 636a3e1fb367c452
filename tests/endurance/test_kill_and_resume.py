"""Twenty times and more a run is killed or stopped at a random step; in the end nobody can tell."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.training import Inputs, inputs, losses, plan_run, published_records, run_ranks

__all__ = ["inputs"]

pytestmark = pytest.mark.slow

KILLS = 24
STEPS_BETWEEN = 12
MAX_STEPS = KILLS * STEPS_BETWEEN + 20
SEED = 0

LAUNCH = """
import sys
from pathlib import Path
from radiffuse.launch import launch_training
from radiffuse.storage import open_store
from radiffuse.train_plan import TrainPlan
plan = TrainPlan.model_validate_json(Path(sys.argv[1]).read_bytes())
launch_training(open_store(), plan.name, plan.data, plan.model, plan.settings)
"""


class Gang:
    """A launcher, its torchrun and two ranks, as processes to be killed."""

    def __init__(self, job: Path, port: int) -> None:
        self.launcher = psutil.Popen([sys.executable, "-c", LAUNCH, str(job)], stderr=subprocess.DEVNULL)
        self._url = f"http://127.0.0.1:{port}/metrics"

    def members(self) -> dict[str, psutil.Process]:
        """Launcher, agent and ranks by name."""
        named = {"launcher": self.launcher}
        for child in self.launcher.children(recursive=True):
            command = child.cmdline()
            if "radiffuse.agent" in command:
                named["agent"] = child
            elif "radiffuse.train" in command:
                named[f"rank {len(named) - 2}"] = child
        return named

    def step(self) -> int:
        """Steps done by the whole run, as rank 0's metrics say; 0 before they are served."""
        try:
            with urllib.request.urlopen(self._url, timeout=5) as response:
                lines = response.read().decode().splitlines()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0
        steps = (line.split()[1] for line in lines if line.startswith("radiffuse_train_global_step "))
        return int(float(next(steps, 0)))  # the launcher serves before rank 0 has anything to say

    def wait_for_step(self, step: int) -> None:
        """Return when that many steps are done."""
        _wait_until(lambda: self.step() >= step, lambda: f"step {self.step()} of {step}, {self.launcher.poll()}")

    def wait_for_end(self, members: list[psutil.Process]) -> None:
        """Return when none of them is alive."""
        _, alive = psutil.wait_procs(members, timeout=120)
        assert not alive, f"still running: {[process.cmdline() for process in alive]}"


def ways_to_go(randomness: random.Random) -> Iterator[tuple[str, signal.Signals]]:
    """Each way as often as the others, in random order."""
    ways = [(name, signal.SIGKILL) for name in ("launcher", "agent", "rank 0", "rank 1")]
    ways += [(name, signal.SIGTERM) for name in ("launcher", "rank 1")]
    for _ in range(KILLS // len(ways)):
        yield from randomness.sample(ways, len(ways))


def test_a_run_killed_at_random_steps_has_the_losses_of_an_uninterrupted_one(
    store: Store,
    inputs: Inputs,
    tmp_path: Path,
    store_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "method": "unet_text_encoder",
        "max_train_steps": MAX_STEPS,
        "checkpoint_every_steps": 5,
        "ema_decay": 0.9,
        "prompt_dropout_prob": 0.2,
        "train_batch_size": 1,
        "nproc_per_node": 2,
    }
    plan, whole = plan_run(inputs, metrics_port=port, **settings), plan_run(inputs, **settings)
    job = tmp_path / "plan.json"
    job.write_text(plan.model_dump_json())
    randomness, steps_done = random.Random(SEED), 0
    for number, (name, sent) in enumerate(ways_to_go(randomness)):
        gang = Gang(job, port)
        gang.wait_for_step(steps_done + randomness.randint(1, STEPS_BETWEEN))
        members = gang.members()
        members[name].send_signal(sent)
        gang.wait_for_end(list(members.values()))
        steps_done = newest_complete_step(store, plan, tmp_path)
        print(f"kill {number + 1}: {sent.name} to {name}, resumes after step {steps_done}", file=sys.stderr)
        assert store.find(plan.uri) is None
    subprocess.run([sys.executable, "-c", LAUNCH, str(job)], check=True)
    assert run_ranks(whole, 2, tmp_path, store_environment) == [0, 0]
    expected = losses(published_records(store, whole))
    assert len(expected) == MAX_STEPS
    assert losses(published_records(store, plan)) == expected


def newest_complete_step(store: Store, plan: TrainPlan, folder: Path) -> int:
    """Step of the newest checkpoint that looks complete, after every file that any of them names was checked."""
    names = {uri.split("/")[-2] for uri in store.list(plan.checkpoints_uri)}
    manifests = [store.find(f"{plan.checkpoints_uri}/{name}") for name in sorted(names)]
    complete = [manifest for manifest in manifests if manifest is not None]
    for manifest in complete:
        store.fetch(manifest, folder / "checked" / manifest.uri.rpartition("/")[2])
    return complete[-1].counts["global_step"] if complete else 0


def _wait_until(condition: Callable[[], bool], state: Callable[[], str], deadline_seconds: float = 300) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.02)
