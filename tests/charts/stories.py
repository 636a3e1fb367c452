"""For each alert, stories of runs in which it fires and of runs in which it does not."""

from tests.charts.watched_run import MINUTES, OF_TARGET, STEP, Series, Story, always, every, steadily

GONE = f"_x{MINUTES}"
TARGET = {name: OF_TARGET[name] for name in ("pod", "container", "job")}


def running(minutes: int) -> str:
    """A series that is there for so long, and then no more: its pod is gone."""
    return f"0x{minutes - 1} 1x1 stale"


def preparing(minutes: int) -> Series:
    """A pod that prepares for so long."""
    state = "radiffuse_worker_state"
    return {
        f'{state}{{{state}="preparing"}}': f"1x{minutes} 0x{MINUTES - minutes}",
        f'{state}{{{state}="running"}}': f"0x{minutes} 1x{MINUTES - minutes}",
        "radiffuse_train_start_timestamp_seconds": f"0x{minutes} {60 * minutes}x{MINUTES - minutes}",
    }


def stopping(minutes: int) -> Series:
    """Steps until then, and none afterwards."""
    counts = {"steps_total": 30, "global_step": 30, "last_step_timestamp_seconds": 60}
    durations = {f"{STEP}_count": steadily(30, minutes), f"{STEP}_sum": steadily(60, minutes)}
    return {f"radiffuse_train_{name}": steadily(rate, minutes) for name, rate in counts.items()} | durations


def of_slow_steps(minutes_per_step: int, until: int) -> Series:
    """One step in so many minutes, the last one then."""
    steps = [minute // minutes_per_step for minute in range(MINUTES)]
    count = " ".join(str(min(step, until // minutes_per_step)) for step in steps)
    total = " ".join(str(60 * minutes_per_step * min(step, until // minutes_per_step)) for step in steps)
    last = every(minutes_per_step, until)
    return {f"{STEP}_count": count, f"{STEP}_sum": total, "radiffuse_train_last_step_timestamp_seconds": last}


def waiting(*seconds_per_minute: float) -> Series:
    """How long each rank waits for data."""
    family = "radiffuse_train_data_wait_seconds_total"
    return {f'{family}{{rank="{rank}"}}': steadily(each) for rank, each in enumerate(seconds_per_minute)}


def failing(per_minute: float, minutes: int = MINUTES) -> Series:
    """Requests to the store that fail, among 120 that do not."""
    return {'radiffuse_store_requests_total{method="PUT",answer="none"}': steadily(per_minute, minutes)}


FIRES: dict[str, dict[str, Story]] = {
    "RadiffuseNoStep": {
        "steps of 2 s have ended 13 minutes ago": Story(stopping(60), 73, says="has taken no step for 13m 0s."),
        "the first step is not done after 13 minutes": Story(stopping(0), 14, says="has taken no step for 13m 0s."),
        "steps of 2 minutes have ended 22 minutes ago": Story(
            of_slow_steps(2, until=60), 82, says="has taken no step for 22m 0s."
        ),
    },
    "RadiffuseNotStarting": {
        "it has prepared for 31 minutes": Story(
            preparing(MINUTES - 1), 31, says="has pods that are up, and is not ready to train."
        ),
        "its ranks run, and rank 0 has opened no metrics": Story(
            {},
            31,
            ("radiffuse_train_start_timestamp_seconds",),
            says="has pods that are up, and is not ready to train.",
        ),
    },
    "RadiffuseTargetDown": {
        "a pod has not answered for 6 minutes": Story(
            {"up": f"1x59 0x{MINUTES - 60}"},
            66,
            labels=TARGET,
            says="has the pod roentgen-1a2b3c4d-master-0, which no longer answers Prometheus.",
        ),
    },
    "RadiffuseNonFiniteLoss": {
        "its pod said so in its last minute and is gone": Story(
            {"radiffuse_train_nonfinite_total": running(60)},
            70,
            says="has refused a step, since its loss or gradient was not finite.",
        ),
    },
    "RadiffuseLossRising": {
        "its loss has been threefold for half an hour": Story(
            {"radiffuse_train_loss": f"0.125x120 0.375x{MINUTES - 120}"},
            150,
            says="has a mean loss of 0.375 over ten minutes, more than 2 times that of the two hours before.",
        ),
    },
    "RadiffuseCheckpointTooOld": {
        "none was complete for 25 minutes, of an interval of ten": Story(
            {"radiffuse_checkpoint_last_success_timestamp_seconds": every(10, until=60)},
            85,
            says="would lose 25m 0s of work: so old is its newest checkpoint.",
        ),
        "this start has trained for 25 minutes without one": Story(
            {"radiffuse_checkpoint_last_success_timestamp_seconds": always(0)},
            26,
            says="would lose 25m 0s of work: so old is its newest checkpoint.",
        ),
        "training itself stands still too": Story(
            stopping(60) | {"radiffuse_checkpoint_last_success_timestamp_seconds": every(10, until=60)},
            85,
            says="would lose 25m 0s of work: so old is its newest checkpoint.",
        ),
    },
    "RadiffuseCheckpointFailed": {
        "an upload failed 14 minutes ago, and the run began anew": Story(
            {"radiffuse_checkpoint_failures_total": f"0x59 1 0x{MINUTES - 61}"},
            74,
            says="could not upload a checkpoint.",
        ),
    },
    "RadiffuseWaitsForData": {
        "one of four ranks waits for 30 % of its time": Story(
            waiting(3, 3, 18, 3), 30, says="waits for data for 30% of its time."
        ),
    },
    "RadiffuseStraggler": {
        "one of four ranks waits for 25 % of its time and the others for 5 %": Story(
            waiting(3, 3, 15, 3), 30, says="takes 1.25 times as long per step as without its slowest rank."
        ),
    },
    "RadiffuseRestarts": {
        "three starts in half an hour, each in the same pod": Story(
            # Its counter is at 0 for a moment each time, before the run's number is known.
            {"radiffuse_run_starts_total": f"1x59 0 2x9 0 3x9 0 4x{MINUTES - 83}"},
            90,
            says="was started again 3 times within an hour.",
        ),
    },
    "RadiffuseGaveUp": {
        "its pod said so in its last minute and is gone": Story(
            {'radiffuse_run_endings_total{outcome="gave_up"}': running(60)},
            70,
            says="was given up: several starts in a row ended before a newer checkpoint.",
        ),
    },
    "RadiffuseStoreErrors": {
        "a sixth of the requests fails, for longer than five minutes": Story(
            failing(24), 10, says="has 16.67% of its requests to the store fail."
        ),
    },
}

QUIET: dict[str, dict[str, Story]] = {
    "RadiffuseNoStep": {
        "steps have ended 9 minutes ago": Story(stopping(60), 69),
        "steps of 2 minutes have ended 18 minutes ago": Story(of_slow_steps(2, until=60), 78),
        "all steps are done, and the result is uploaded": Story(
            stopping(60) | {"radiffuse_train_max_steps": always(1800)}, 90
        ),
    },
    "RadiffuseNotStarting": {
        "it has prepared for 29 minutes": Story(preparing(29), 60),
        "it trains": Story({}, 60),
    },
    "RadiffuseTargetDown": {
        "a pod has not answered for 4 minutes": Story({"up": f"1x59 0x{MINUTES - 60}"}, 64),
        "a pod has not answered yet, since its image is being pulled": Story({"up": always(0)}, 25),
        "its pod is done and gone": Story({"up": f"1x59 stale {GONE}"}, 90),
    },
    "RadiffuseNonFiniteLoss": {
        "it was refused 20 minutes ago": Story({"radiffuse_train_nonfinite_total": running(60)}, 80),
        "every step was finite": Story({}, 60),
    },
    "RadiffuseLossRising": {
        "its loss is half as much again": Story({"radiffuse_train_loss": f"0.125x120 0.1875x{MINUTES - 120}"}, 150),
        "its loss was high for five minutes": Story(
            {"radiffuse_train_loss": f"0.125x120 0.375x4 0.125x{MINUTES - 126}"}, 150
        ),
        "it is new, and its first steps were at no loss yet": Story(
            {"radiffuse_train_loss": f"0x5 0.125x20 0.375x{MINUTES - 27}"}, 45
        ),
    },
    "RadiffuseCheckpointTooOld": {
        "none was complete for 19 minutes, of an interval of ten": Story(
            {"radiffuse_checkpoint_last_success_timestamp_seconds": every(10, until=60)}, 79
        ),
        "none was complete for 14 minutes, of an interval of one": Story(
            {
                "radiffuse_checkpoint_interval_steps": always(30),
                "radiffuse_checkpoint_last_success_timestamp_seconds": every(10, until=60),
            },
            74,
        ),
        "all steps are done": Story(
            stopping(60)
            | {
                "radiffuse_train_max_steps": always(1800),
                "radiffuse_checkpoint_last_success_timestamp_seconds": every(10, until=60),
            },
            90,
        ),
    },
    "RadiffuseCheckpointFailed": {
        "none failed": Story({}, 60),
        "one failed 20 minutes ago": Story({"radiffuse_checkpoint_failures_total": f"0x59 1 0x{MINUTES - 61}"}, 80),
    },
    "RadiffuseWaitsForData": {
        "the slowest of four ranks waits for 15 % of its time": Story(waiting(3, 3, 9, 3), 60),
        "one rank has waited long for 10 minutes": Story(waiting(3, 3, 18, 3), 10),
    },
    "RadiffuseStraggler": {
        "all ranks wait alike": Story(waiting(15, 15, 15, 15), 60),
        "there is one rank": Story(
            waiting(30), 60, tuple(f'radiffuse_train_data_wait_seconds_total{{rank="{rank}"}}' for rank in (1, 2, 3))
        ),
    },
    "RadiffuseRestarts": {
        "two starts in half an hour": Story({"radiffuse_run_starts_total": f"1x59 0 2x9 0 3x{MINUTES - 72}"}, 90),
        "Prometheus is new, and the run has started nine times": Story({"radiffuse_run_starts_total": always(9)}, 60),
        "it was submitted anew after nine starts": Story(
            {"radiffuse_run_starts_total": f"9x59 0 1x{MINUTES - 61}"}, 90
        ),
    },
    "RadiffuseGaveUp": {
        "its pods crashed, and it goes on": Story({'radiffuse_run_endings_total{outcome="crashed"}': always(4)}, 60),
        "it was given up 20 minutes ago": Story({'radiffuse_run_endings_total{outcome="gave_up"}': running(60)}, 80),
    },
    "RadiffuseStoreErrors": {
        "one request in forty fails": Story(failing(3), 60),
        "what is asked for is not there": Story({}, 60),
        "requests fail for two minutes": Story(failing(24, minutes=2), 10),
    },
}
