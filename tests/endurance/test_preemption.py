"""Fifty times a gang of two nodes is preempted, at a random step or while it starts; in the end nobody can tell."""

import json
import random
import re
import signal
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from radiffuse.checkpoint_index import complete_steps
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.training import Inputs, inputs, losses, plan_run, published_records, run_ranks
from tests.workers import Gang, Pod, submit, wait_until

__all__ = ["inputs"]

pytestmark = pytest.mark.slow

RUNS, PREEMPTIONS = 5, 10  # fifty in all
STEPS_BETWEEN = 8
START_SECONDS = 6.0
ENDING_SECONDS = 5.0
"""From SIGTERM until both pods are gone, beside the time that a checkpoint takes."""


def step(pod: Pod) -> float:
    """Steps done by the whole run, as node 0 says; -1 before rank 0 has said anything."""
    try:
        return pod.metrics().get("radiffuse_train_global_step", -1)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return -1


def preempt(gang: Gang, nodes: list[int]) -> float:
    """Tell those nodes to stop; seconds until all are gone, for one reason and at one step."""
    start = time.monotonic()
    for node in nodes:
        gang.pods[node].process.send_signal(signal.SIGTERM)
    assert gang.wait() == [143, 143], "\n".join(pod.log[-3000:] for pod in gang.pods)
    first, second = (pod.ending for pod in gang.pods)
    assert first is not None and first == second
    return time.monotonic() - start


def checkpoint_seconds(pod: Pod, newest: int) -> float:
    """How long the upload of a checkpoint took; 0 when this start has made none."""
    found = re.findall(rf"checkpoint step={newest} .*upload_seconds=([\d.]+)", pod.log)
    return float(found[-1]) if found else 0.0


def last_step_taken(store: Store, plan: TrainPlan) -> int:
    """The last optimizer step of the start that ended last, by the metrics that it left; 0 when it took none."""
    left = json.loads(store.get_bytes(f"{plan.checkpoints_uri}/metrics/node-0.json"))["samples"]
    return int(next((sample["value"] for sample in left if sample["name"] == "radiffuse_train_global_step"), 0))


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_gang_preempted_at_random_moments_loses_no_step_and_learns_the_same(
    seed: int, store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    settings = {
        "method": "unet_text_encoder",
        "max_train_steps": 300,
        "checkpoint_every_steps": 7,
        "ema_decay": 0.9,
        "train_batch_size": 1,
    }
    plan, whole = plan_run(inputs, **settings), plan_run(inputs, **settings)
    uri, randomness, slowest = submit(store, plan), random.Random(seed), 0.0
    for number in range(PREEMPTIONS):
        before = max(complete_steps(store, plan.checkpoints_uri), default=0)
        told = randomness.choice([[0], [1], [0, 1]])
        with Gang(uri, tmp_path, store_environment, max_starts=PREEMPTIONS) as gang:
            first = gang.pods[0]
            starts = first.log.count("radiffuse.starts start=")
            wait_until(lambda: first.log.count("radiffuse.starts start=") > starts, lambda: first.log)  # noqa: B023
            if number % 4 == 3:
                time.sleep(randomness.uniform(0, START_SECONDS))  # at any moment of the start
            else:
                wanted = before + randomness.randint(1, STEPS_BETWEEN)
                wait_until(lambda: step(first) >= wanted, lambda: first.log)  # noqa: B023
            seconds = preempt(gang, told)
            after = max(complete_steps(store, plan.checkpoints_uri), default=0)
            allowed = checkpoint_seconds(first, after) + ENDING_SECONDS
        print(
            f"seed={seed} preemption={number + 1} nodes={told} steps={before}-{after} seconds={seconds:.2f} "
            f"allowed={allowed:.2f}",
            file=sys.stderr,
        )
        slowest = max(slowest, seconds)
        assert store.find(plan.uri) is None  # no half of the gang has finished
        assert after >= before
        assert last_step_taken(store, plan) in (after, 0)  # no step is lost
        assert seconds <= allowed
    print(f"seed={seed} slowest_seconds={slowest:.2f}", file=sys.stderr)
    with Gang(uri, tmp_path, store_environment) as gang:
        assert gang.wait() == [0, 0]
    assert run_ranks(whole, 2, tmp_path, store_environment) == [0, 0]
    assert losses(published_records(store, plan)) == losses(published_records(store, whole))
