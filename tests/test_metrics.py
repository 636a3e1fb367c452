"""Metrics: declared once, in a registry of the caller's, served while training runs."""

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from radiffuse.errors import ConfigError
from radiffuse.metrics import TrainingMetrics
from radiffuse.storage import Store
from tests.training import Inputs, inputs, plan_run, train_here

__all__ = ["inputs"]


def test_every_metric_has_the_prefix_and_a_step_moves_them() -> None:
    registry = CollectorRegistry()
    metrics = TrainingMetrics(registry)
    metrics.count_step(3, loss=0.5, rate=1e-4, grad_norm=2.0, images=8, seconds=0.25, wait=0.01)
    text = generate_latest(registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert all(name.startswith("radiffuse_") for name in names)
    for line in (
        "radiffuse_train_steps_total 1.0",
        "radiffuse_train_images_total 8.0",
        "radiffuse_train_global_step 3.0",
        "radiffuse_train_loss 0.5",
        'radiffuse_train_step_duration_seconds_bucket{le="0.3"} 1.0',
        "radiffuse_train_data_wait_seconds_total 0.01",
    ):
        assert line in text


def test_two_registries_do_not_share_their_counts() -> None:
    first, second = TrainingMetrics(CollectorRegistry()), TrainingMetrics(CollectorRegistry())
    first.nonfinite.inc()
    assert b"radiffuse_train_nonfinite_total 0.0" in generate_latest(second.registry)


@pytest.mark.usefixtures("store_environment")
def test_a_run_serves_its_metrics_on_the_port_set(store: Store, inputs: Inputs) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_here(store, plan_run(inputs, metrics_port=port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        text = response.read().decode()
    assert "radiffuse_train_steps_total 6.0" in text
    assert "radiffuse_checkpoint_step 6.0" in text


@pytest.mark.usefixtures("store_environment")
def test_a_port_that_is_taken_is_refused_by_name(store: Store, inputs: Inputs) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"train.metrics_port {port} cannot be served"):
            train_here(store, plan_run(inputs, metrics_port=port))
