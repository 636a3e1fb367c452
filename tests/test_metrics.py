"""Metrics: declared once, in a registry of the caller's, written by ranks and served by whoever started them."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from radiffuse.config import TrainSettings
from radiffuse.errors import ConfigError
from radiffuse.launch import launch_training
from radiffuse.metrics import (
    FOLDER_VARIABLE,
    WORKER_STATES,
    StoreMetrics,
    TrainingMetrics,
    WorkerMetrics,
    run_figures,
    serving,
)
from radiffuse.storage import Store
from tests.training import Inputs, inputs, plan_run, train_here
from tests.workers import free_ports

__all__ = ["inputs"]

STEP = {"step": 3, "loss": 0.5, "learning_rate": 1e-4, "grad_norm": 2.0}


def take_a_step(metrics: TrainingMetrics) -> None:
    """All that a rank says of a step and of a checkpoint."""
    metrics.start(2, 10, checkpoint_every_steps=3)
    metrics.count_step(STEP, images=8, seconds=0.25, data_wait_seconds=0.01, peak_memory_bytes=1000)
    if metrics.run is not None:
        metrics.run.copy_seconds.observe(0.2)
        metrics.run.count_checkpoint(3, 5000, seconds=1.5)


@pytest.fixture
def as_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Call it to be another rank, whose metrics go to files of a folder."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    of_one_process = values.ValueClass

    def become(rank: int) -> TrainingMetrics:
        values.ValueClass = values.MultiProcessValue(lambda: rank)  # as a process that starts with the folder set does
        return TrainingMetrics(CollectorRegistry(), rank)

    yield become
    values.ValueClass = of_one_process


def served(folder: Path) -> str:
    """What a worker would answer for the ranks that wrote to the folder."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return generate_latest(registry).decode()


def test_every_metric_has_the_prefix_and_a_step_moves_them() -> None:
    metrics = TrainingMetrics(CollectorRegistry(), rank=0)
    take_a_step(metrics)
    text = generate_latest(metrics.registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert all(name.startswith("radiffuse_") for name in names)
    for line in (
        "radiffuse_train_steps_total 1.0",
        "radiffuse_train_images_total 8.0",
        "radiffuse_train_images_per_second 32.0",
        "radiffuse_train_global_step 3.0",
        "radiffuse_train_resumed_step 2.0",
        "radiffuse_checkpoint_interval_steps 3.0",
        "radiffuse_train_loss 0.5",
        'radiffuse_train_step_duration_seconds_bucket{le="0.3"} 1.0',
        'radiffuse_train_data_wait_seconds_total{rank="0"} 0.01',
        'radiffuse_train_peak_memory_bytes{rank="0"} 1000.0',
        "radiffuse_checkpoint_step 3.0",
        'radiffuse_checkpoint_duration_seconds_sum{stage="upload"} 1.5',
    ):
        assert line in text


def test_two_registries_do_not_share_their_counts() -> None:
    first, second = TrainingMetrics(CollectorRegistry(), 0), TrainingMetrics(CollectorRegistry(), 0)
    first.refuse_step()
    assert b"radiffuse_train_nonfinite_total 0.0" in generate_latest(second.registry)


def test_rank_0_speaks_for_the_run_and_each_rank_for_itself(as_rank, tmp_path: Path) -> None:
    for rank in range(3):
        take_a_step(as_rank(rank))
    text = served(tmp_path)
    assert "radiffuse_train_images_total 8.0" in text  # and not 24
    assert "radiffuse_train_loss 0.5" in text
    assert 'radiffuse_train_data_wait_seconds_total{rank="2"} 0.01' in text
    assert "pid=" not in text


def test_a_node_without_rank_0_says_nothing_of_the_run(as_rank, tmp_path: Path) -> None:
    take_a_step(as_rank(32))
    assert "radiffuse_train_loss" not in served(tmp_path)


def test_a_job_of_64_ranks_has_at_most_500_series(as_rank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, count = [WorkerMetrics(CollectorRegistry()) for _ in range(2)], 0
    for node, worker in enumerate(workers):
        folder = tmp_path / str(node)
        folder.mkdir()
        monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
        for rank in range(32 * node, 32 * node + 32):
            take_a_step(as_rank(rank))
            store = StoreMetrics(CollectorRegistry())
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                for answer in ("2xx", "4xx", "5xx", "none"):
                    store.requests.labels(method, answer).inc()
        worker.set_state(WORKER_STATES[0])
        worker.describe("run", "0123456789abcdef", "unet")
        worker.count_starts(9, {"CRASHED": 3, "PREEMPTED": 5})
        worker.set_first_start(1.8e9, 0)
        worker.count_ending("DONE")
        text = served(folder) + generate_latest(worker.registry).decode()
        count += sum(1 for line in text.splitlines() if not line.startswith("#"))
    assert 200 < count <= 500


def test_what_ranks_wrote_is_served_with_the_type_that_prometheus_demands(as_rank, tmp_path: Path) -> None:
    take_a_step(as_rank(0))
    (tmp_path / "counter_17.db").touch()  # a rank that was killed while it began
    port, registry = free_ports(1), CollectorRegistry()
    with (
        serving(tmp_path, port, registry) as environment,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        assert environment == {FOLDER_VARIABLE: str(tmp_path)}
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "radiffuse_train_steps_total 1.0" in response.read().decode()
    assert run_figures(registry)["loss"] == 0.5
    socket.create_server(("127.0.0.1", port)).close()  # the port is free again


def test_requests_to_the_store_are_counted_by_method_and_answer(store: Store) -> None:
    registry = CollectorRegistry()
    counted = Store(store.settings, StoreMetrics(registry).pool)
    counted.put_bytes("s3://checkpoints/counted", b"x")
    assert not counted.exists("s3://checkpoints/not-there")
    text = generate_latest(registry).decode()
    assert 'radiffuse_store_requests_total{answer="2xx",method="PUT"} 1.0' in text
    assert 'radiffuse_store_requests_total{answer="4xx",method="HEAD"} 1.0' in text
    assert 'radiffuse_store_requests_total{answer="none",method="PUT"} 0.0' in text  # there before the first one fails


@pytest.mark.usefixtures("store_environment")
def test_a_run_without_a_port_counts_for_itself(store: Store, inputs: Inputs) -> None:
    assert FOLDER_VARIABLE not in os.environ
    assert len(train_here(store, plan_run(inputs))) == 6


@pytest.mark.usefixtures("store_environment")
def test_a_port_that_is_taken_is_refused_by_name_before_anything_starts(store: Store, inputs: Inputs) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = TrainSettings(total_batch_size=4, train_batch_size=4, metrics_port=port)
        with pytest.raises(ConfigError, match=f"metrics port {port} cannot be served"):
            launch_training(store, "port-taken", inputs.latents, inputs.model, settings)
