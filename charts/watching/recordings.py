"""The series that Prometheus computes of a run, for alerts and panels: each of them is defined here and nowhere else.

The ranks of a job take their steps together, so that rank 0 speaks for the run; sums and maxima over pods only drop
the labels that change when a pod is made anew.
"""

from charts.watching.rule import BY_RUN, RUN_LABELS, Recording

WINDOW = "5m"
"""Of rates: twenty scrapes at the chart's interval, several at Prometheus's own of a minute."""


def recordings() -> tuple[Recording, ...]:
    """In the order of evaluation: later ones use those before."""
    return (*_speed(), *_waiting(), *_progress(), *_checkpoints(), *_troubles())


def _of_run(series: str) -> str:
    return f"max {BY_RUN} ({series})"


def _later(event: str, begin: str) -> str:
    """The time of a start's last event, or of its begin as long as there was none."""
    return f"({_of_run(event)} > {_of_run(begin)} or {_of_run(begin)} > 0)"


def _speed() -> tuple[Recording, ...]:
    step = "radiffuse_train_step_duration_seconds"
    quantiles = tuple(
        Recording(
            f"radiffuse:run:step_seconds:p{percent}",
            f"histogram_quantile({percent / 100}, sum by ({RUN_LABELS}, le) (rate({step}_bucket[{WINDOW}])))",
            f"Quantile {percent / 100} of the time per optimizer step in the last {WINDOW}.",
        )
        for percent in (50, 95)
    )
    return (
        Recording(
            "radiffuse:run:images_per_second",
            f"sum {BY_RUN} (rate(radiffuse_train_images_total[{WINDOW}]))",
            f"Images trained on per second of the last {WINDOW}, pauses included.",
        ),
        *quantiles,
        Recording(
            "radiffuse:run:step_seconds:mean",
            f"sum {BY_RUN} ({step}_sum) / (sum {BY_RUN} ({step}_count) > 0)",
            "Mean time per optimizer step since this start began.",
        ),
    )


def _waiting() -> tuple[Recording, ...]:
    rank = "radiffuse:rank:data_wait_ratio"
    return (
        Recording(
            rank,
            f"clamp_max(max by ({RUN_LABELS}, rank) (rate(radiffuse_train_data_wait_seconds_total[{WINDOW}])), 1)",
            f"Part of the last {WINDOW} in which a rank waited for its batches.",
        ),
        Recording(
            "radiffuse:run:data_wait_ratio",
            _of_run(rank),
            "The same of the rank that waits longest: the others wait for it.",
        ),
        Recording(
            "radiffuse:run:straggler_ratio",
            f"1 / (1 - clamp_max({_of_run(rank)} - quantile {BY_RUN} (0.5, {rank}), 0.99))",
            "Time per step, over what it would be if no rank waited longer for data than the median one.",
        ),
    )


def _progress() -> tuple[Recording, ...]:
    step, most = _of_run("radiffuse_train_global_step"), _of_run("radiffuse_train_max_steps")
    since = _later("radiffuse_train_last_step_timestamp_seconds", "radiffuse_train_start_timestamp_seconds")
    first = _of_run("radiffuse_run_first_start_timestamp_seconds")
    return (
        Recording(
            "radiffuse:run:progress_ratio",
            f"{step} / ({most} > 0)",
            "Optimizer steps done, over those there are to be.",
        ),
        Recording(
            "radiffuse:run:seconds_left",
            f"({most} - {step}) / (sum {BY_RUN} (rate(radiffuse_train_steps_total[{WINDOW}])) > 0)",
            f"Until the last step, at the pace of the last {WINDOW}.",
        ),
        Recording(
            "radiffuse:run:seconds_since_step",
            f"time() - {since}",
            "Since the last step, or since this start was ready to take its first.",
        ),
        Recording(
            "radiffuse:run:goodput_ratio",
            f"clamp_max(({step} - {_of_run('radiffuse_run_first_start_step')}) * radiffuse:run:step_seconds:mean"
            f" / (time() - ({first} > 0)), 1)",
            "Time that the steps done take, over the time since the first start: what starts, lost steps, suspension"
            " and waiting for checkpoints cost is the rest.",
        ),
        Recording(
            "radiffuse:run:loss",
            _of_run("radiffuse_train_loss > 0"),
            "Of the last step, once there was one.",
        ),
    )


def _checkpoints() -> tuple[Recording, ...]:
    since = _later("radiffuse_checkpoint_last_success_timestamp_seconds", "radiffuse_train_start_timestamp_seconds")
    return (
        Recording(
            "radiffuse:run:checkpoint_age_seconds",
            f"time() - {since}",
            "Since the newest checkpoint was complete, or since this start was ready to train.",
        ),
        Recording(
            "radiffuse:run:checkpoint_interval_seconds",
            f"{_of_run('radiffuse_checkpoint_interval_steps')} * radiffuse:run:step_seconds:mean",
            "From one checkpoint to the next, as the settings ask for at this pace.",
        ),
    )


def _troubles() -> tuple[Recording, ...]:
    requests = "radiffuse_store_requests_total"
    return (
        Recording(
            "radiffuse:run:store_error_ratio",
            f'sum {BY_RUN} (rate({requests}{{answer=~"5xx|none"}}[{WINDOW}]))'
            f" / (sum {BY_RUN} (rate({requests}[{WINDOW}])) > 0)",
            "Requests to the store that failed after five attempts, over all.",
        ),
        Recording(
            "radiffuse:run:starts",
            _of_run("radiffuse_run_starts_total > 0"),
            "Starts of the run so far.",
        ),
    )
