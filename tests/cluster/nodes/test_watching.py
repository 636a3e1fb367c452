"""The chart's rules and dashboard on a live run: all that they ask for is there, and what should be told is told."""

import os
import signal
from collections.abc import Callable

import pytest

from charts.watching.alerts import alerts
from charts.watching.own_rows import own_rows
from charts.watching.recordings import recordings
from charts.watching.rule import JOB
from charts.watching.thresholds import CHART
from tests.charts.expressions import series_in
from tests.cluster.nodes.cluster import ranks_in_pod
from tests.cluster.nodes.minio import Minio
from tests.cluster.nodes.prometheus import QUICK, SCRAPE_SECONDS, Prometheus
from tests.cluster.nodes.record import Record
from tests.cluster.nodes.training_run import DEADLINE_SECONDS, EVERY, TrainingRun
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.nodes

TOO_OLD = "RadiffuseCheckpointTooOld"
MAY_BE_EMPTY = {"Alerts", "Endings"}
"""A run need not raise an alert, and ends in one way at a time."""


def test_every_series_of_a_rule_and_every_panel_of_ours_has_values_of_a_live_run(
    start_run: Callable[..., TrainingRun], prometheus: Prometheus, record: Record
) -> None:
    run = start_run()
    run.wait_for_checkpoint(EVERY)
    [rank] = ranks_in_pod(run.pod(run.worker)["metadata"]["uid"])
    os.kill(rank, signal.SIGKILL)
    run.wait_until_succeeded()
    job = f'namespace="{run.namespace}",{JOB}="{run.job.name}"'

    found = {labels["__name__"] for labels in prometheus.series(f"{{{job}}}")}
    rules = [*recordings(), *alerts(CHART)]
    asked = {rule.name for rule in recordings()}.union(*(series_in(rule.expression) for rule in rules))
    assert asked - found == set()

    panels = [panel for row in own_rows() for panel in row.panels]
    empty = {
        panel.title for panel in panels if not all(_ever(prometheus, run, each.expression) for each in panel.queries)
    }
    assert empty <= MAY_BE_EMPTY
    record.figure("panels of a job whose every query has values of a live run", str(len(panels) - len(empty)))


def test_an_alert_fires_while_checkpoints_are_blocked_and_no_longer(
    start_run: Callable[..., TrainingRun],
    prometheus: Prometheus,
    minio: Minio,
    record: Record,
    laptop_losses: list[float],
) -> None:
    run = start_run()
    job = f'namespace="{run.namespace}",{JOB}="{run.job.name}"'
    diary = record.diary("an alert fires while checkpoints are blocked and no longer")
    saved = run.wait_for_checkpoint(2 * EVERY)
    assert TOO_OLD not in prometheus.firing(job)
    with minio.paused():
        diary.note(f"checkpoint of step {saved}; MinIO takes requests and answers none")
        wait_until(lambda: TOO_OLD in prometheus.firing(job), DEADLINE_SECONDS, f"{TOO_OLD} fires")
        floor = f"of {CHART.checkpoint_floor_seconds} s, here {QUICK.checkpoint_floor_seconds}"
        diary.note(f"{TOO_OLD} fires (its floor is one {floor}); MinIO answers again")
    run.wait_for_checkpoint(saved + EVERY)
    wait_until(lambda: not prometheus.firing(job), DEADLINE_SECONDS, "no alert fires")
    diary.note("no alert fires any more")
    run.wait_until_succeeded()
    assert run.losses == laptop_losses
    assert run.starts == 1


def _ever(prometheus: Prometheus, run: TrainingRun, expression: str) -> object:
    """Whether a panel's query would have shown anything while the run was there."""
    for name, value in {"namespace": run.namespace, "job": run.job.name, "__rate_interval": "1m"}.items():
        expression = expression.replace(f"${name}", value)
    return prometheus.query(f"count_over_time(({expression})[20m:{SCRAPE_SECONDS}s])")
