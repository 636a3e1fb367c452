"""charts/radiffuse/files/rules.yaml: the groups of rules that the chart's PrometheusRule holds, and promtool tests."""

from typing import Any

import yaml

from charts.watching.alerts import alerts
from charts.watching.recordings import recordings
from charts.watching.thresholds import CHART, Thresholds

HEADER = "# Written by `make generate` from charts/watching/; docs/runbook.md says what each alert means.\n"


def rule_groups(limits: Thresholds = CHART) -> dict[str, Any]:
    """What a rule file holds. The first group computes what the second one asks for."""
    recorded = [rule.to_rule() for rule in recordings()]
    raised = [alert.to_rule() for alert in alerts(limits)]
    return {"groups": [{"name": "radiffuse.runs", "rules": recorded}, {"name": "radiffuse.alerts", "rules": raised}]}


def rules_file() -> str:
    """Its text."""
    return HEADER + yaml.safe_dump(rule_groups(), sort_keys=False, width=1000)


def alert_names() -> tuple[str, ...]:
    """Of all alerts, for whoever wants to leave one out."""
    return tuple(alert.name for alert in alerts(CHART))
