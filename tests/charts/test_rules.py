"""The rules that the chart ships, as promtool sees them, and what they speak of."""

import re
from pathlib import Path
from typing import Any

import pytest

from charts.watching.alerts import alerts
from charts.watching.page import declared, series_of
from charts.watching.recordings import recordings
from charts.watching.rule import JOB, RUN, label_name
from charts.watching.rules import rule_groups
from charts.watching.thresholds import CHART, Thresholds
from tests.charts.expressions import series_in
from tests.charts.rendering import CHART as CHART_FOLDER
from tests.charts.rendering import ROOT, of_kind, template
from tests.charts.stories import FIRES, QUIET
from tests.charts.watched_run import OF_RUN, Story, alert_test, promtool, promtool_check, steadily

RULES = CHART_FOLDER / "files" / "rules.yaml"
ALERTS = {alert.name: alert for alert in alerts(CHART)}
RECORDED = {rule.name: rule for rule in recordings()}
CASES = [
    pytest.param(name, story, id=f"{name}: {title}")
    for name in ALERTS
    for stories in (FIRES, QUIET)
    for title, story in stories[name].items()
]
needs_tools = pytest.mark.charts


def test_every_series_that_a_rule_reads_is_declared_or_recorded_before() -> None:
    known = {"up"} | {name for family in declared() for name in series_of(family)}
    for rule in recordings():
        assert series_in(rule.expression) - known == set(), rule.name
        known.add(rule.name)
    for alert in alerts(CHART):
        assert series_in(alert.expression) - known == set(), alert.name


def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert set(FIRES) == set(QUIET) == set(ALERTS)
    assert all(story.says for stories in FIRES.values() for story in stories.values())
    assert not any(story.says for stories in QUIET.values() for story in stories.values())


def test_the_runbook_has_a_paragraph_for_every_alert_and_no_other() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    anchors = [heading.lower() for heading in re.findall(r"^## (\S+)$", runbook, re.MULTILINE)]
    assert anchors == [alert.anchor for alert in ALERTS.values()]


def test_every_threshold_changes_a_rule() -> None:
    for name in Thresholds.model_fields:
        changed = Thresholds(
            **{name: getattr(CHART, name) * 2 if name not in ("data_wait_ratio", "store_error_ratio") else 0.5}
        )
        assert alerts(changed) != alerts(CHART), name


@needs_tools
def test_promtool_finds_nothing_to_say_against_the_rules() -> None:
    done = promtool_check(RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS) + len(RECORDED)} rules found" in done.stdout


@needs_tools
@pytest.mark.parametrize(("name", "story"), CASES)
def test_an_alert_fires_when_it_should_and_says_what_happened(name: str, story: Story, tmp_path: Path) -> None:
    done = promtool([alert_test(story, name, ALERTS[name].severity)], tmp_path, RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
def test_a_healthy_run_raises_no_alert(tmp_path: Path) -> None:
    asked = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []} for minute in (5, 120, 239) for name in ALERTS
    ]
    done = promtool([Story({}, 239).to_test(alert_rule_test=asked)], tmp_path, RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
def test_the_chart_renders_the_very_rules_that_are_tested() -> None:
    assert rendered_groups() == rule_groups()["groups"]


@needs_tools
def test_an_alert_can_be_left_out_replaced_and_linked_elsewhere() -> None:
    own = {"name": "own", "rules": [{"alert": "Mine", "expr": "radiffuse:run:data_wait_ratio > 0.5"}]}
    address = "https://runbooks.example.org/radiffuse"
    groups = rendered_groups(disabled=["RadiffuseWaitsForData"], additionalGroups=[own], runbookUrl=address)
    raised = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert [rule["alert"] for rule in raised] == [name for name in ALERTS if name != "RadiffuseWaitsForData"] + ["Mine"]
    assert raised[0]["annotations"]["runbook_url"] == f"{address}#radiffusenostep"


@needs_tools
def test_the_pod_monitor_gives_series_the_labels_that_rules_group_by() -> None:
    [monitor] = of_kind(template({"monitoring": {"podMonitor": {"enabled": True}}}), "PodMonitor")
    assert {RUN, JOB} <= {label_name(label) for label in monitor["spec"]["podTargetLabels"]}


def rendered_groups(**values: object) -> list[dict[str, Any]]:
    """Groups of the PrometheusRule that the chart renders with these values of it."""
    rendered = template({"monitoring": {"prometheusRule": {"enabled": True, **values}}})
    [rule] = of_kind(rendered, "PrometheusRule")
    groups: list[dict[str, Any]] = rule["spec"]["groups"]
    return groups


RUN_AFTER_HALF_AN_HOUR = {
    "radiffuse:run:images_per_second": 128.0,
    "radiffuse:run:step_seconds:p50": 1.75,
    "radiffuse:run:step_seconds:p95": 1.975,
    "radiffuse:run:step_seconds:mean": 2.0,
    "radiffuse:run:data_wait_ratio": 0.3,
    "radiffuse:run:straggler_ratio": 1 / (1 - 0.25),
    "radiffuse:run:progress_ratio": 0.009,
    "radiffuse:run:seconds_left": 99_100 / 0.5,
    "radiffuse:run:seconds_since_step": 0.0,
    "radiffuse:run:goodput_ratio": 600 * 2 / (1800 - 30),
    "radiffuse:run:loss": 0.125,
    "radiffuse:run:checkpoint_age_seconds": 300.0,
    "radiffuse:run:checkpoint_interval_seconds": 600.0,
    "radiffuse:run:store_error_ratio": 6 / 126,
    "radiffuse:run:starts": 1.0,
}
"""Of a run that began at step 300, whose rank 2 waits for data for 30 % of its time, and whose store fails at times."""


@needs_tools
def test_recorded_series_have_the_values_that_one_reckons_by_hand(tmp_path: Path) -> None:
    labels = ", ".join(f'{name}="{value}"' for name, value in OF_RUN.items())
    story = Story(
        {
            'radiffuse_train_data_wait_seconds_total{rank="2"}': steadily(18),
            'radiffuse_store_requests_total{method="PUT",answer="none"}': steadily(6),
            "radiffuse_run_first_start_step": "300x240",
            "radiffuse_checkpoint_last_success_timestamp_seconds": "1500x240",
        },
        30,
    )
    ranks = {f'radiffuse:rank:data_wait_ratio{{rank="{rank}"}}': 0.3 if rank == 2 else 0.05 for rank in range(4)}
    assert {*RUN_AFTER_HALF_AN_HOUR, "radiffuse:rank:data_wait_ratio"} == set(RECORDED)
    asked = []
    for name, value in (RUN_AFTER_HALF_AN_HOUR | ranks).items():
        family, _, rank = name.removesuffix("}").partition("{")
        expected = {"labels": f"{family}{{{labels}{', ' if rank else ''}{rank}}}", "value": value}
        asked.append({"expr": name, "eval_time": f"{story.minute}m", "exp_samples": [expected]})
    done = promtool([story.to_test(promql_expr_test=asked)], tmp_path, RULES)
    assert done.returncode == 0, done.stdout + done.stderr
