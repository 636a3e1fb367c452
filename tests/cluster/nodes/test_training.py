"""Two pods on two real nodes train, are disturbed in every way, and learn exactly what an undisturbed laptop learns."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.cluster.nodes.cluster import RealNodes, ranks_in_pod
from tests.cluster.nodes.minio import Minio
from tests.cluster.nodes.pod_history import ContainerEnd, PodHistory
from tests.cluster.nodes.record import Diary, Record
from tests.cluster.nodes.training_run import DEADLINE_SECONDS, EVERY, STEPS, TrainingRun
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.nodes

OUTAGE_SECONDS = 20.0
TOGETHER = timedelta(seconds=10)
"""Both halves of a gang end within that time of each other."""


@pytest.fixture
def history(control_plane: ControlPlane, namespace: str) -> Iterator[PodHistory]:
    """Every end of a container in the test's namespace."""
    with PodHistory(control_plane, namespace) as history:
        yield history


@pytest.fixture
def diary(record: Record, request: pytest.FixtureRequest) -> Diary:
    """Notes what happens, under the test's own name."""
    return record.diary(request.node.name.removeprefix("test_").replace("_", " "))


def test_two_pods_learn_what_the_laptop_learns(
    start_run: Callable[..., TrainingRun], history: PodHistory, diary: Diary, laptop_losses: list[float]
) -> None:
    diary.start = time.monotonic()
    run = start_run()
    run.wait_for_checkpoint(EVERY)
    diary.note(f"checkpoint of step {EVERY}")
    run.wait_until_succeeded()
    diary.note(f"job Succeeded after {STEPS} steps")
    assert run.losses == laptop_losses
    assert {history.nodes_of(run.master)[0], history.nodes_of(run.worker)[0]} == {"node-0", "node-1"}
    assert [end.exit_code for end in history.ends if end.pod == run.master] == [0]
    assert run.starts == 1


@pytest.mark.parametrize("half", ["master", "worker"])
def test_a_deleted_pod_takes_the_other_with_it_and_both_go_on(
    start_run: Callable[..., TrainingRun], history: PodHistory, diary: Diary, laptop_losses: list[float], half: str
) -> None:
    run = start_run()
    diary.start = time.monotonic()
    saved = run.wait_for_checkpoint(2 * EVERY)
    diary.note(f"checkpoint of step {saved}; the {half} is deleted")
    run.plane.kubectl("delete", "pod", getattr(run, half), "--namespace", run.namespace, "--wait=false")
    ends = _first_ends(run, history)
    _note_ends(diary, ends)
    assert max(end.finished for end in ends) - min(end.finished for end in ends) <= TOGETHER
    assert [end.outcome for end in ends] == ["PREEMPTED", "PREEMPTED"]
    _check_that_it_went_on(run, diary, laptop_losses, saved)


def test_a_killed_rank_costs_a_start_and_no_step_that_was_saved(
    start_run: Callable[..., TrainingRun], history: PodHistory, diary: Diary, laptop_losses: list[float]
) -> None:
    run = start_run()
    diary.start = time.monotonic()
    saved = run.wait_for_checkpoint(2 * EVERY)
    [rank] = ranks_in_pod(run.pod(run.worker)["metadata"]["uid"])
    os.kill(rank, signal.SIGKILL)
    diary.note(f"checkpoint of step {saved}; rank 1 is killed by SIGKILL")
    ends = _first_ends(run, history)
    _note_ends(diary, ends)
    assert [end.outcome for end in ends] == ["CRASHED", "CRASHED"]
    assert max(end.finished for end in ends) - min(end.finished for end in ends) <= TOGETHER
    _check_that_it_went_on(run, diary, laptop_losses, saved)


def test_a_store_that_is_away_for_a_while_costs_nothing(
    start_run: Callable[..., TrainingRun], minio: Minio, diary: Diary, laptop_losses: list[float]
) -> None:
    run = start_run()
    diary.start = time.monotonic()
    saved = run.wait_for_checkpoint(2 * EVERY)
    minio.stop()
    diary.note(f"checkpoint of step {saved}; MinIO is stopped")
    time.sleep(OUTAGE_SECONDS)
    minio.start()
    diary.note("MinIO is back")
    run.wait_until_succeeded()
    diary.note(f"job Succeeded after {STEPS} steps and {run.starts} starts")
    assert run.losses == laptop_losses


def test_a_lost_node_is_replaced_by_another(
    start_run: Callable[..., TrainingRun],
    nodes: RealNodes,
    history: PodHistory,
    diary: Diary,
    laptop_losses: list[float],
) -> None:
    nodes.add()
    run = start_run(max_train_steps=STEPS)
    diary.start = time.monotonic()
    saved = run.wait_for_checkpoint(2 * EVERY)
    lost = nodes.named(history.nodes_of(run.worker)[-1])
    lost.lose()
    diary.note(f"checkpoint of step {saved}; {lost.name} is lost: kubelet and containers killed, network down")
    wait_until(
        lambda: run.pod(run.worker)["metadata"].get("deletionTimestamp"), DEADLINE_SECONDS, "its pod is given up"
    )
    diary.note("its pod is marked for deletion, and stays: nobody confirms its end")
    lost.give_up()
    diary.note("the node is tainted out-of-service")
    wait_until(lambda: len(history.nodes_of(run.worker)) > 1, DEADLINE_SECONDS, "the pod is on another node")
    diary.note(f"the pod is on {history.nodes_of(run.worker)[-1]}")
    _check_that_it_went_on(run, diary, laptop_losses, saved)


def _first_ends(run: TrainingRun, history: PodHistory) -> list[ContainerEnd]:
    """How each of the two pods ended first."""

    def both() -> list[ContainerEnd]:
        first = {end.pod: end for end in reversed(history.ends)}
        return sorted(first.values(), key=lambda end: end.finished) if {run.master, run.worker} <= set(first) else []

    return wait_until(both, DEADLINE_SECONDS, "both pods have ended")


def _note_ends(diary: Diary, ends: list[ContainerEnd]) -> None:
    for end in ends:
        diary.note(f"{end.pod} ended at {end.finished:%H:%M:%S} with exit code {end.exit_code}, {end.outcome}")


def _check_that_it_went_on(run: TrainingRun, diary: Diary, laptop_losses: list[float], saved: int) -> None:
    run.wait_until_succeeded()
    resumed = run.resumed_step
    diary.note(f"job Succeeded after {STEPS} steps and {run.starts} starts, resumed after step {resumed}")
    assert run.losses == laptop_losses
    assert resumed >= saved
