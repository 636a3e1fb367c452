"""The rows of the dashboard that show what radiffuse itself tells of a job."""

from charts.watching.panel import Panel, Query, Row, most, of_job, quantiles, rate
from charts.watching.thresholds import CHART
from radiffuse.metrics import STORE_ANSWERS, WORKER_STATES
from radiffuse.outcome import Outcome


def own_rows() -> tuple[Row, ...]:
    """In the order in which one asks."""
    return (_overview(), _optimisation(), _throughput(), _data_path(), _checkpoints(), _restarts(), _store())


def _figure(title: str, meaning: str, series: str, unit: str, limit: float | None = None) -> Panel:
    return Panel(title, meaning, (Query(most(series)),), unit, "figure", width=3, limit=limit)


def _overview() -> Row:
    state = "radiffuse_worker_state"
    is_in = (of_job(state, f'{state}="{name}"') for name in WORKER_STATES)
    states = " or ".join(f"{series} * {number}" for number, series in enumerate(is_in, start=1))
    return Row(
        "Overview",
        (
            _figure("Progress", "Steps done, of all.", "radiffuse:run:progress_ratio", "percentunit"),
            _figure("Time left", "At the pace of the last minutes.", "radiffuse:run:seconds_left", "s"),
            _figure("Images per second", "Over all ranks.", "radiffuse:run:images_per_second", "short"),
            _figure(
                "Goodput",
                "Time that the steps done take, over the time since the first start.",
                "radiffuse:run:goodput_ratio",
                "percentunit",
            ),
            _figure(
                "Since the last step",
                "RadiffuseNoStep tells of it.",
                "radiffuse:run:seconds_since_step",
                "s",
                limit=CHART.stall_floor_seconds,
            ),
            _figure("Age of the checkpoint", "What would be lost now.", "radiffuse:run:checkpoint_age_seconds", "s"),
            _figure("Starts", "Of this run so far.", "radiffuse:run:starts", "short", limit=CHART.restarts),
            _figure("Loss", "Of the last step.", "radiffuse:run:loss", "short"),
            Panel(
                "State of each pod",
                "What its worker does.",
                (Query(f"max by (pod) ({states})", "{{pod}}"),),
                kind="states",
                width=16,
                states=WORKER_STATES,
            ),
            Panel(
                "Alerts",
                "docs/runbook.md says what to do about each.",
                (Query(f"max by (alertname, severity, alertstate) ({of_job('ALERTS')})"),),
                kind="table",
            ),
        ),
    )


def _optimisation() -> Row:
    average = f"avg_over_time({of_job('radiffuse:run:loss')}[30m])"
    return Row(
        "Optimisation",
        (
            Panel(
                "Loss",
                "Of a step's global batch, and its mean over half an hour.",
                (Query(most("radiffuse:run:loss"), "step"), Query(f"max({average})", "30 minutes")),
            ),
            Panel("Learning rate", "Of the last step.", (Query(most("radiffuse_train_learning_rate"), "rate"),), "sci"),
            Panel(
                "Gradient norm",
                "Before clipping, and steps refused since it or the loss was not finite.",
                (
                    Query(most("radiffuse_train_grad_norm"), "norm"),
                    Query(most("radiffuse_train_nonfinite_total"), "refused steps"),
                ),
            ),
        ),
    )


def _throughput() -> Row:
    return Row(
        "Throughput",
        (
            Panel(
                "Images per second",
                "In five minutes with all pauses, and in the last step alone.",
                (
                    Query(most("radiffuse:run:images_per_second"), "five minutes"),
                    Query(most("radiffuse_train_images_per_second"), "last step"),
                ),
                width=6,
            ),
            Panel(
                "Time per step",
                "Quantiles of the last five minutes, and the mean of this start.",
                tuple(Query(most(f"radiffuse:run:step_seconds:{name}"), name) for name in ("p50", "p95", "mean")),
                "s",
                width=6,
            ),
            Panel(
                "Steps",
                "A step back is work that a start has lost.",
                (
                    Query(most("radiffuse_train_global_step"), "done"),
                    Query(most("radiffuse_checkpoint_step"), "in a checkpoint of this start"),
                    Query(most("radiffuse_train_resumed_step"), "found done by this start"),
                    Query(most("radiffuse_train_max_steps"), "to do"),
                ),
                width=6,
            ),
            Panel(
                "Memory of a rank",
                "The most that a rank has held: the greatest and the smallest over ranks.",
                (
                    Query(most("radiffuse_train_peak_memory_bytes"), "greatest"),
                    Query(f"min({of_job('radiffuse_train_peak_memory_bytes')})", "smallest"),
                ),
                "bytes",
                width=6,
            ),
        ),
    )


def _data_path() -> Row:
    ratio = "radiffuse:rank:data_wait_ratio"
    return Row(
        "Data path",
        (
            Panel(
                "Waiting for data, by rank",
                "Dark: all ranks wait for this one, which waits for its batches.",
                (Query(f"max by (rank) ({of_job(ratio)})", "{{rank}}"),),
                "percentunit",
                "heat",
                width=12,
            ),
            Panel(
                "Waiting for data",
                "Part of the time, of the rank that waits longest and of the median one.",
                (
                    Query(most("radiffuse:run:data_wait_ratio"), "longest"),
                    Query(f"quantile(0.5, {of_job(ratio)})", "median"),
                ),
                "percentunit",
                width=6,
                limit=CHART.data_wait_ratio,
            ),
            Panel(
                "Straggler",
                "Time per step, over what it would be if no rank waited longer than the median one.",
                (Query(most("radiffuse:run:straggler_ratio"), "ratio"),),
                width=6,
                limit=CHART.straggler_ratio,
            ),
        ),
    )


def _checkpoints() -> Row:
    duration = "radiffuse_checkpoint_duration_seconds"
    stages = tuple(
        Query(
            f"{rate(f'{duration}_sum', labels)} / {rate(f'{duration}_count', labels)}",
            f"{stage}: {meaning}",
        )
        for stage, meaning in (("copy", "training stands still"), ("upload", "training goes on"))
        for labels in (f'stage="{stage}"',)
    )
    return Row(
        "Checkpoints",
        (
            Panel(
                "Age",
                "Of the newest complete checkpoint, and how old it gets when all is well.",
                (
                    Query(most("radiffuse:run:checkpoint_age_seconds"), "age"),
                    Query(most("radiffuse:run:checkpoint_interval_seconds"), "interval"),
                ),
                "s",
            ),
            Panel("Duration", "Mean of those made meanwhile.", stages, "s"),
            Panel(
                "Size",
                "Of the newest complete one.",
                (Query(most("radiffuse_checkpoint_size_bytes"), "size"),),
                "bytes",
                width=4,
            ),
            Panel(
                "Failures",
                "Uploads that failed in this start.",
                (Query(most("radiffuse_checkpoint_failures_total"), "failures"),),
                width=4,
            ),
        ),
    )


def _restarts() -> Row:
    endings = tuple(
        Query(most("radiffuse_run_endings_total", f'outcome="{name}"'), name.replace("_", " "))
        for name in (outcome.name.lower() for outcome in Outcome)
    )
    first = of_job("radiffuse_run_first_start_timestamp_seconds")
    return Row(
        "Restarts and endings",
        (
            Panel("Starts", "Of this run so far.", (Query(most("radiffuse_run_starts_total"), "starts"),)),
            Panel("Endings", "How starts of this run ended; one that was killed says nothing.", endings),
            Panel(
                "First start",
                "Of this run.",
                (Query(f"max({first} > 0) * 1000"),),
                "dateTimeFromNow",
                "figure",
                width=3,
            ),
            Panel(
                "What runs",
                "Version, run, plan and method, as the pods themselves say.",
                (Query(f"max by (version, run, plan, method) ({of_job('radiffuse_worker_info')})"),),
                kind="table",
                width=5,
            ),
        ),
    )


def _store() -> Row:
    requests = "radiffuse_store_requests_total"
    answers = tuple(Query(rate(requests, f'answer="{answer}"'), answer) for answer in STORE_ANSWERS)
    return Row(
        "Store, as the job sees it",
        (
            Panel("Requests by answer", "4xx is mostly what was looked for and is not there.", answers, "reqps"),
            Panel(
                "Requests that failed",
                "5xx or no answer, each after five attempts.",
                (Query(most("radiffuse:run:store_error_ratio"), "failed"),),
                "percentunit",
                limit=CHART.store_error_ratio,
            ),
            Panel(
                "Time to an answer",
                "Repetitions included.",
                quantiles("radiffuse_store_request_duration_seconds"),
                "s",
            ),
        ),
    )
