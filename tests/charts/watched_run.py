"""A run as Prometheus would see it, minute by minute, in promtool's notation, and what happens to it in each test.

`1+2x3` is 1 3 5 7 and `1x3` is 1 1 1 1; `_` is a minute without a sample. Minute 0 is the epoch.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from charts.watching.rule import JOB, RUN, RUNBOOK
from charts.watching.rules import rule_groups
from radiffuse.metrics import WORKER_STATES
from tests.cluster.build import executable

Series = dict[str, str]
"""Name and labels besides those of the run -> values."""

MINUTES = 240
OF_RUN = {"namespace": "train", RUN: "roentgen", JOB: "roentgen-1a2b3c4d"}
OF_TARGET = {**OF_RUN, "pod": "roentgen-1a2b3c4d-master-0", "container": "pytorch", "job": "radiffuse-training"}
SUMMARY = "Run roentgen (job roentgen-1a2b3c4d in train) "


def always(value: float) -> str:
    """It does not change."""
    return f"{value:g}x{MINUTES}"


def steadily(per_minute: float, minutes: int = MINUTES, then: float | None = None) -> str:
    """It grows from 0, and stays as it is after so many minutes, or is `then`."""
    end = per_minute * minutes if then is None else then
    return f"0+{per_minute:g}x{minutes}" + (f" {end:g}x{MINUTES - minutes}" if minutes < MINUTES else "")


def every(minutes: int, until: int = MINUTES) -> str:
    """The time of something that happens every so many minutes, the last time at `until`."""
    times = [60 * minutes * min(minute // minutes, until // minutes) for minute in range(MINUTES)]
    return " ".join(f"{time}" for time in times)


STEP = "radiffuse_train_step_duration_seconds"
HEALTHY: Series = {
    "up": always(1),
    **{f'radiffuse_worker_state{{radiffuse_worker_state="{state}"}}': always(0) for state in WORKER_STATES},
    'radiffuse_worker_state{radiffuse_worker_state="running"}': always(1),
    "radiffuse_run_starts_total": always(1),
    "radiffuse_run_first_start_timestamp_seconds": always(30),
    "radiffuse_run_first_start_step": always(0),
    "radiffuse_train_start_timestamp_seconds": always(60),
    # Thirty steps of two seconds a minute, with 256 images each.
    "radiffuse_train_last_step_timestamp_seconds": steadily(60),
    "radiffuse_train_steps_total": steadily(30),
    "radiffuse_train_images_total": steadily(30 * 256),
    "radiffuse_train_global_step": steadily(30),
    "radiffuse_train_max_steps": always(100_000),
    f"{STEP}_count": steadily(30),
    f"{STEP}_sum": steadily(60),
    f'{STEP}_bucket{{le="1.5"}}': always(0),
    f'{STEP}_bucket{{le="2.0"}}': steadily(30),
    f'{STEP}_bucket{{le="+Inf"}}': steadily(30),
    "radiffuse_train_loss": always(0.125),
    "radiffuse_train_nonfinite_total": always(0),
    **{f'radiffuse_train_data_wait_seconds_total{{rank="{rank}"}}': steadily(3) for rank in range(4)},
    "radiffuse_checkpoint_interval_steps": always(300),
    "radiffuse_checkpoint_last_success_timestamp_seconds": every(10),
    "radiffuse_checkpoint_failures_total": always(0),
    'radiffuse_store_requests_total{method="PUT",answer="2xx"}': steadily(60),
    'radiffuse_store_requests_total{method="HEAD",answer="4xx"}': steadily(60),
    'radiffuse_store_requests_total{method="PUT",answer="none"}': always(0),
}


@dataclass(frozen=True)
class Story:
    """How a run's series differ from a healthy run's, and when one looks at it."""

    changes: Series
    minute: int
    leaves_out: tuple[str, ...] = ()
    """Series that are not there."""
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert, besides the run's."""
    says: str = ""
    """What the alert's summary says of the run; nothing where it does not fire."""

    def to_test(self, **questions: object) -> dict[str, Any]:
        """As one of promtool's tests."""
        series = {name: values for name, values in (HEALTHY | self.changes).items() if name not in self.leaves_out}
        named = [{"series": _with_labels(name), "values": values} for name, values in series.items()]
        return {"interval": "1m", "input_series": named, **questions}


def alert_test(story: Story, alert: str, severity: str) -> dict[str, Any]:
    """Asks whether the alert fires as the story says, in the words that somebody will read."""
    expected = {
        "exp_labels": OF_RUN | {"severity": severity} | story.labels,
        "exp_annotations": {"summary": SUMMARY + story.says, "runbook_url": f"{RUNBOOK}#{alert.lower()}"},
    }
    asked = {"eval_time": f"{story.minute}m", "alertname": alert, "exp_alerts": [expected] if story.says else []}
    return story.to_test(alert_rule_test=[asked])


def promtool(tests: list[dict[str, Any]], folder: Path, rules: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of these tests of a rule file."""
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "fuzzy_compare": True,
        "group_eval_order": [group["name"] for group in rule_groups()["groups"]],
        "tests": tests,
    }
    path = folder / "tests.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [str(executable("promtool")), "test", "rules", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def promtool_check(rules: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of a rule file as such."""
    return subprocess.run(
        [str(executable("promtool")), "check", "rules", str(rules)], capture_output=True, text=True, timeout=120
    )


def _with_labels(name: str) -> str:
    family, _, own = name.removesuffix("}").partition("{")
    labels = ",".join(f'{label}="{value}"' for label, value in OF_TARGET.items())
    return f"{family}{{{labels}{',' if own else ''}{own}}}"
