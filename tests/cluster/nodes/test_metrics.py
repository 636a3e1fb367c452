"""A real Prometheus finds the training pods and reads from them every metric that the code declares."""

import os
import signal
from collections.abc import Callable

import pytest

from charts.watching.page import declared, series_of
from charts.watching.rule import JOB, RUN
from tests.cluster.nodes.cluster import ranks_in_pod
from tests.cluster.nodes.prometheus import Prometheus
from tests.cluster.nodes.record import Record
from tests.cluster.nodes.training_run import EVERY, NODES, STEPS, TrainingRun

pytestmark = pytest.mark.nodes

MOST_SERIES = 500
LARGE_WORLD = 64


def test_prometheus_reads_every_declared_metric_of_both_pods(
    start_run: Callable[..., TrainingRun], prometheus: Prometheus, record: Record
) -> None:
    run = start_run()
    run.wait_for_checkpoint(EVERY)
    [rank] = ranks_in_pod(run.pod(run.worker)["metadata"]["uid"])
    os.kill(rank, signal.SIGKILL)  # earlier ends are counted too, once there are any
    run.wait_until_succeeded()
    series = prometheus.series(f'{{{RUN}="{run.plan.name}"}}')
    ours = [labels for labels in series if labels["__name__"].startswith("radiffuse_")]  # not those that are recorded

    all_series = {name for family in declared() for name in series_of(family)}
    assert all_series - {labels["__name__"] for labels in ours} == set()
    assert {labels["pod"] for labels in ours} == {run.master, run.worker}
    assert {(labels["namespace"], labels[JOB]) for labels in ours} == {(run.namespace, run.job.name)}
    assert {labels["rank"] for labels in ours if "rank" in labels} == {"0", "1"}
    steps = prometheus.query(f'max_over_time(radiffuse_train_global_step{{{RUN}="{run.plan.name}"}}[10m])')
    assert [float(step["value"][1]) for step in steps] == [STEPS]

    of_one_rank = sum(labels.get("rank") == "1" for labels in ours)
    large = len(ours) + of_one_rank * (LARGE_WORLD - NODES)
    record.figure("series of a job of 2 ranks, as scraped", str(len(ours)))
    record.figure(f"series of a job of {LARGE_WORLD} ranks in two pods, reckoned from that", str(large))
    assert large <= MOST_SERIES
