"""The worker of a training pod: what it does before, beside and after torchrun, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from radiffuse import __version__
from radiffuse.manifest import Manifest
from radiffuse.outcome import Ending, Outcome, read_ending
from radiffuse.starts import count_start, read_terminal, write_terminal
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from radiffuse.worker import WorkerSettings, run_worker
from tests.light import light_plan
from tests.training import (
    Inputs,
    inputs,
    losses,
    plan_run,
    published_records,
    run_ranks,
    wait_for_checkpoint,
)
from tests.workers import Gang, free_ports, submit, wait_until

__all__ = ["inputs"]

pytestmark = pytest.mark.usefixtures("store_environment")

Run = Callable[..., Ending]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a worker in this process that needs no torchrun; how it ended, by its termination log too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    port = free_ports(3)

    def run_here(plan_uri: str, node: int = 0, nodes: int = 1, **settings: object) -> Ending:
        place = {"NNODES": nodes, "NPROC_PER_NODE": 2, "NODE_RANK": node, "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(f"PET_{name}", str(value))
        log = tmp_path / "termination-log"
        chosen = {"termination_log": log, "metrics_port": port + 2, "rendezvous_timeout_seconds": 1.0}
        outcome = run_worker(WorkerSettings(plan_uri, **chosen | settings))  # type: ignore[arg-type]
        ending = read_ending(log.read_text())
        assert ending is not None and ending.outcome is outcome
        return ending

    return run_here


def test_a_finished_run_is_done_at_once_on_every_node(store: Store, run: Run) -> None:
    plan = light_plan()
    store.commit(Manifest(kind="model", name=plan.name, uri=plan.uri, digest=plan.digest))
    for node in range(2):
        assert run(submit(store, plan), node, nodes=2).outcome is Outcome.DONE


def test_a_plan_that_is_known_to_be_wrong_ends_at_once_with_the_first_reason(store: Store, run: Run) -> None:
    plan, ending = light_plan(), Ending(Outcome.WRONG_INPUT, "no such dataset", 0)
    write_terminal(store, plan, ending)
    assert run(submit(store, plan)) == ending


def test_a_batch_that_does_not_divide_over_the_job_is_wrong_and_remembered(store: Store, run: Run) -> None:
    plan = light_plan(total_batch_size=9, train_batch_size=9)
    ending = run(submit(store, plan), nodes=2)
    assert ending.outcome is Outcome.WRONG_INPUT
    assert "train.total_batch_size 9 does not divide over 4 processes" in ending.reason
    assert read_terminal(store, plan) == ending


def test_what_is_not_a_plan_is_wrong_input(store: Store, run: Run) -> None:
    store.put_bytes("s3://checkpoints/odd/plan.json", b"{}")
    assert "is not a plan of this version" in run("s3://checkpoints/odd/plan.json").reason


def test_a_plan_that_is_not_there_may_come(run: Run) -> None:
    assert run("s3://checkpoints/absent/plan.json").outcome is Outcome.CRASHED


def test_a_store_that_is_down_may_come_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ENDPOINT", f"127.0.0.1:{free_ports(1)}")
    ending = run("s3://checkpoints/run/plan.json")
    assert (ending.outcome, ending.global_step) == (Outcome.CRASHED, 0)
    assert "cannot reach the store" in ending.reason


def test_an_environment_without_a_place_is_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = WorkerSettings(
        "s3://checkpoints/x/plan.json", termination_log=tmp_path / "log", metrics_port=free_ports(1)
    )
    assert run_worker(settings) is Outcome.WRONG_INPUT
    assert "PET_NNODES" in (tmp_path / "log").read_text()


def test_starts_without_progress_are_given_up_and_the_reason_is_kept(store: Store, run: Run) -> None:
    plan = light_plan()
    for _ in range(3):
        count_start(store, plan, 3)
    ending = run(submit(store, plan), max_starts=3)
    assert ending.outcome is Outcome.GAVE_UP
    assert "3 starts in a row got no further than step 0" in ending.reason
    assert run(submit(store, plan), max_starts=99) == ending


@pytest.mark.parametrize(
    ("node", "reason"), [(0, r"of 2 nodes \[1\] did not come"), (1, "node 0 did not listen at 127.0.0.1")]
)
def test_nodes_that_do_not_find_each_other_may_the_next_time(node: int, reason: str, store: Store, run: Run) -> None:
    plan = light_plan()
    ending = run(submit(store, plan), node, nodes=2)
    assert ending.outcome is Outcome.CRASHED
    assert re.search(reason, ending.reason)
    assert not store.exists(f"{plan.checkpoints_uri}/starts.json")  # a start is counted when all are there


def test_a_sigterm_while_it_waits_for_the_others_ends_it_at_once(store: Store, run: Run) -> None:
    uri = submit(store, light_plan())
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    ending = run(uri, nodes=2, rendezvous_timeout_seconds=600.0)
    assert ending == Ending(Outcome.PREEMPTED, "stopped by SIGTERM before anything was begun", 0)


def test_a_metrics_port_that_is_taken_is_named(run: Run, store: Store) -> None:
    ending = run("s3://checkpoints/x/plan.json", metrics_port=int(store.settings.endpoint.rpartition(":")[2]))
    assert ending.outcome is Outcome.WRONG_INPUT
    assert "cannot be served" in ending.reason


def test_a_worker_does_without_torch() -> None:
    script = "import sys, radiffuse.worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_the_verb_exits_with_the_outcome(
    store: Store, tmp_path: Path, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, port = light_plan(), free_ports(2)
    store.commit(Manifest(kind="model", name=plan.name, uri=plan.uri, digest=plan.digest))
    for name, value in {"NNODES": 1, "NPROC_PER_NODE": 1, "NODE_RANK": 0, "MASTER_PORT": port}.items():
        monkeypatch.setenv(f"PET_{name}", str(value))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    verb = [sys.executable, "-m", "radiffuse.cli", "worker", "--termination-log", str(tmp_path / "log")]
    verb += ["--metrics-port", str(port + 1), "--plan"]
    assert subprocess.run([*verb, submit(store, plan)], timeout=300).returncode == Outcome.DONE
    store.put_bytes("s3://checkpoints/no-plan/plan.json", b"{}")
    assert subprocess.run([*verb, "s3://checkpoints/no-plan/plan.json"], timeout=300).returncode == Outcome.WRONG_INPUT


def test_what_a_lost_start_left_is_cleared_away(tmp_path: Path, run: Run) -> None:
    left = tmp_path / "radiffuse-worker" / "tmp" / "half-a-checkpoint"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    run("s3://checkpoints/absent/plan.json")
    assert not left.exists()


def test_settings_that_one_rank_refuses_are_wrong_on_every_node_and_never_tried_again(
    store: Store, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    plan = light_plan("refuse")
    with Gang(submit(store, plan), tmp_path, store_environment, module="tests.light_rank") as gang:
        assert gang.wait() == [2, 2]
        reasons = {pod.ending.reason for pod in gang.pods if pod.ending is not None}
        assert reasons == {"train.method unet cannot be trained on this"}
    with Gang(submit(store, plan), tmp_path, store_environment, nodes=1, module="tests.light_rank") as again:
        assert again.wait() == [2]
        assert "training" not in again.pods[0].log.split("outcome=")[-2]


def test_ranks_that_hang_when_those_of_another_node_are_gone_are_ended(
    store: Store, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    uri = submit(store, light_plan("killed"))
    with Gang(uri, tmp_path, store_environment, module="tests.light_rank") as gang:
        assert gang.wait() == [134, 134]
        for pod in gang.pods:
            assert pod.ending is not None
            assert pod.ending.reason == "rank 1 was killed by SIGKILL; the machine may have run out of memory"


def test_ranks_that_do_not_end_within_the_grace_period_are_killed(
    store: Store, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    uri = submit(store, light_plan("hang"))
    with Gang(uri, tmp_path, store_environment, nodes=1, module="tests.light_rank", grace_seconds=1.0) as gang:
        (pod,) = gang.pods
        wait_until(lambda: "hanging" in pod.log, lambda: pod.log)
        pod.process.send_signal(signal.SIGTERM)
        assert gang.wait() == [134]
        assert pod.ending is not None
        assert pod.ending.reason == "the ranks had not ended 1 s after SIGTERM; allow more"


def test_a_pod_reaps_the_orphans_of_its_ranks_and_is_done_when_the_result_is_there(
    store: Store, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    plan = light_plan("done")
    settings = {"module": "tests.light_rank", "linger_seconds": 600.0}
    with Gang(submit(store, plan), tmp_path, store_environment, nodes=1, **settings) as gang:
        (pod,) = gang.pods
        wait_until(lambda: pod.ending is not None, lambda: pod.log)
        assert pod.ending == Ending(Outcome.DONE, f"the result is at {plan.uri}", 0)
        assert Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text() == ""
        assert pod.metrics()['radiffuse_worker_state{radiffuse_worker_state="ending"}'] == 1
        assert pod.metrics()['radiffuse_run_endings_total{outcome="done"}'] == 1
        pod.process.send_signal(signal.SIGTERM)  # it lingers for a last scrape, but not now
        assert gang.wait(20) == [0]


def test_a_pod_stays_for_a_last_scrape_after_a_loss_that_is_not_finite(
    store: Store, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    settings = {"module": "tests.light_rank", "linger_seconds": 600.0}
    uri = submit(store, light_plan("nonfinite"))
    with Gang(uri, tmp_path, store_environment, nodes=1, **settings) as gang:
        (pod,) = gang.pods
        wait_until(lambda: pod.ending is not None, lambda: pod.log)
        assert pod.ending is not None and pod.ending.outcome is Outcome.CRASHED
        assert pod.metrics()["radiffuse_train_nonfinite_total"] == 1
        pod.process.send_signal(signal.SIGTERM)
        assert gang.wait(20) == [134]


def test_a_gang_killed_and_preempted_goes_on_and_ends_like_an_uninterrupted_run(
    store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    settings = {"max_train_steps": 60, "train_batch_size": 1, "checkpoint_every_steps": 2, "ema_decay": 0.9}
    plan, whole = plan_run(inputs, **settings), plan_run(inputs, **settings)
    uri = submit(store, plan)
    with Gang(uri, tmp_path, store_environment) as gang:
        wait_for_checkpoint(store, plan, 2)
        check_metrics_while_running(gang, plan)
        os.kill(rank_pid(gang, 1), signal.SIGKILL)
        assert gang.wait() == [134, 134]
        assert all("rank 1 was killed by SIGKILL" in pod.ending.reason for pod in gang.pods if pod.ending)
    with Gang(uri, tmp_path, store_environment) as gang:
        wait_for_checkpoint(store, plan, 10)
        gang.pods[1].process.send_signal(signal.SIGTERM)
        assert gang.wait() == [143, 143]
        first, second = (pod.ending for pod in gang.pods)
        assert first == second and first is not None
        assert store.find(f"{plan.checkpoints_uri}/step-{first.global_step:08d}") is not None
    with Gang(uri, tmp_path, store_environment) as gang:
        assert gang.wait() == [0, 0]
    assert run_ranks(whole, 2, tmp_path, store_environment) == [0, 0]
    assert losses(published_records(store, plan)) == losses(published_records(store, whole))
    check_what_is_left_in_the_store(store, plan)


def check_metrics_while_running(gang: Gang, plan: TrainPlan) -> None:
    """Node 0 speaks for the run; each node for itself and its ranks."""
    # A checkpoint is in the store a moment before it is counted.
    wait_until(lambda: "radiffuse_checkpoint_size_bytes" in gang.pods[0].metrics(), lambda: "none is counted", 60)
    first, second = (pod.metrics() for pod in gang.pods)
    assert first["radiffuse_train_global_step"] >= 2
    assert first["radiffuse_train_loss"] > 0
    assert first["radiffuse_checkpoint_size_bytes"] > 1000
    assert first["radiffuse_run_starts_total"] == 1
    assert time.time() - 900 < first["radiffuse_run_first_start_timestamp_seconds"] < time.time()
    assert first["radiffuse_checkpoint_interval_steps"] == plan.settings.checkpoint_every_steps
    assert first['radiffuse_store_requests_total{answer="2xx",method="PUT"}'] > 4
    assert "radiffuse_train_loss" not in second
    for node, metrics in enumerate((first, second)):
        assert metrics[f'radiffuse_train_peak_memory_bytes{{rank="{node}"}}'] > 2**20
        assert metrics['radiffuse_worker_state{radiffuse_worker_state="running"}'] == 1
        about = f'method="unet",plan="{plan.digest}",run="{plan.name}",version="{__version__}"'
        assert metrics[f"radiffuse_worker_info{{{about}}}"] == 1


def check_what_is_left_in_the_store(store: Store, plan: TrainPlan) -> None:
    """The last heartbeat, how the starts ended, and the last metrics of each node."""
    progress = json.loads(store.get_bytes(f"{plan.checkpoints_uri}/progress.json"))
    assert (progress["global_step"], progress["max_train_steps"], progress["start"]) == (60, 60, 3)
    assert progress["loss"] > 0 and progress["images_per_second"] > 0
    starts = json.loads(store.get_bytes(f"{plan.checkpoints_uri}/starts.json"))
    assert starts["endings"] == {"CRASHED": 1, "PREEMPTED": 1, "DONE": 1}
    for node in range(2):
        left = json.loads(store.get_bytes(f"{plan.checkpoints_uri}/metrics/node-{node}.json"))
        values = {sample["name"]: sample["value"] for sample in left["samples"]}
        assert values["radiffuse_train_peak_memory_bytes"] > 2**20
        assert ("radiffuse_train_global_step" in values) == (node == 0)


def rank_pid(gang: Gang, node: int) -> int:
    """Process of a node's only rank."""
    import psutil

    below = psutil.Process(gang.pods[node].process.pid).children(recursive=True)
    return next(child.pid for child in below if "radiffuse.train" in child.cmdline() and "-u" in child.cmdline())
