"""The alerts. Each has a paragraph in docs/runbook.md under its name, and cases that fire and that do not in tests."""

from charts.watching.rule import BY_RUN, RUN, Alert, duration
from charts.watching.thresholds import Thresholds

UNFINISHED = "radiffuse:run:progress_ratio < 1"


def alerts(limits: Thresholds) -> tuple[Alert, ...]:
    """All alerts with these limits."""
    return (*_standstill(limits), *_optimisation(limits), *_checkpoints(limits), *_slowness(limits), *_troubles(limits))


def _seen(series: str, limits: Thresholds) -> str:
    """The most that a series has been lately, though its pod may be gone."""
    return f"max {BY_RUN} (max_over_time({series}[{duration(limits.memory_seconds)}]))"


def _standstill(limits: Thresholds) -> tuple[Alert, ...]:
    since, mean = "radiffuse:run:seconds_since_step", "radiffuse:run:step_seconds:mean"
    ready = f"max {BY_RUN} (radiffuse_train_start_timestamp_seconds) > 0"
    states = 'radiffuse_worker_state{radiffuse_worker_state=~"preparing|waiting|running"}'
    return (
        Alert(
            "RadiffuseNoStep",
            f"{since} > clamp_min({limits.stall_steps:g} * {mean} or 0 * {since}, {limits.stall_floor_seconds})"
            f" and {UNFINISHED}",
            limits.confirm_seconds,
            "critical",
            "has taken no step for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "RadiffuseNotStarting",
            f"max {BY_RUN} ({states}) == 1 unless {ready}",
            limits.not_starting_seconds,
            "critical",
            "has pods that are up, and is not ready to train.",
        ),
        Alert(
            "RadiffuseTargetDown",
            f'up{{{RUN}!=""}} == 0 and max_over_time(up{{{RUN}!=""}}[30m]) == 1',
            limits.target_down_seconds,
            "warning",
            "has the pod {{ $labels.pod }}, which no longer answers Prometheus.",
        ),
    )


def _optimisation(limits: Thresholds) -> tuple[Alert, ...]:
    loss = "radiffuse:run:loss"
    before = f"avg_over_time({loss}[2h] offset 10m)"
    return (
        Alert(
            "RadiffuseNonFiniteLoss",
            f"{_seen('radiffuse_train_nonfinite_total', limits)} > 0",
            0,
            "critical",
            "has refused a step, since its loss or gradient was not finite.",
        ),
        Alert(
            "RadiffuseLossRising",
            f"avg_over_time({loss}[10m]) > {limits.loss_factor:g} * {before} and {loss} offset 1h",
            limits.slow_seconds,
            "warning",
            'has a mean loss of {{ $value | printf "%.3g" }} over ten minutes, more than'
            f" {limits.loss_factor:g} times that of the two hours before.",
        ),
    )


def _checkpoints(limits: Thresholds) -> tuple[Alert, ...]:
    interval = f"{limits.checkpoint_intervals:g} * radiffuse:run:checkpoint_interval_seconds"
    return (
        Alert(
            "RadiffuseCheckpointTooOld",
            f"radiffuse:run:checkpoint_age_seconds > clamp_min({interval}, {limits.checkpoint_floor_seconds})"
            f" and {UNFINISHED}",
            limits.confirm_seconds,
            "critical",
            "would lose {{ $value | humanizeDuration }} of work: so old is its newest checkpoint.",
        ),
        Alert(
            "RadiffuseCheckpointFailed",
            f"{_seen('radiffuse_checkpoint_failures_total', limits)} > 0",
            0,
            "critical",
            "could not upload a checkpoint.",
        ),
    )


def _slowness(limits: Thresholds) -> tuple[Alert, ...]:
    return (
        Alert(
            "RadiffuseWaitsForData",
            f"radiffuse:run:data_wait_ratio > {limits.data_wait_ratio:g}",
            limits.slow_seconds,
            "warning",
            "waits for data for {{ $value | humanizePercentage }} of its time.",
        ),
        Alert(
            "RadiffuseStraggler",
            f"radiffuse:run:straggler_ratio > {limits.straggler_ratio:g}",
            limits.slow_seconds,
            "warning",
            'takes {{ $value | printf "%.2f" }} times as long per step as without its slowest rank.',
        ),
    )


def _troubles(limits: Thresholds) -> tuple[Alert, ...]:
    gave_up = 'radiffuse_run_endings_total{outcome="gave_up"}'
    return (
        Alert(
            "RadiffuseRestarts",
            # Half a start less: an increase over a window is extrapolated to its ends.
            f"increase(radiffuse:run:starts[1h]) > {limits.restarts - 0.5:g}",
            0,
            "warning",
            'was started again {{ $value | printf "%.0f" }} times within an hour.',
        ),
        Alert(
            "RadiffuseGaveUp",
            f"{_seen(gave_up, limits)} > 0",
            0,
            "critical",
            "was given up: several starts in a row ended before a newer checkpoint.",
        ),
        Alert(
            "RadiffuseStoreErrors",
            f"radiffuse:run:store_error_ratio > {limits.store_error_ratio:g}",
            limits.store_errors_seconds,
            "warning",
            "has {{ $value | humanizePercentage }} of its requests to the store fail.",
        ),
    )
