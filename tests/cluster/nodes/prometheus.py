"""A real Prometheus with the chart's rules, which finds training pods as the chart's PodMonitor says."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from charts.watching.rule import label_name
from charts.watching.rules import rule_groups
from charts.watching.thresholds import Thresholds
from tests.charts.rendering import of_kind, template
from tests.cluster.build import executable
from tests.cluster.nodes.network import reader_kubeconfig
from tests.cluster.nodes.probe import answers
from tests.cluster.plane import ControlPlane

ADDRESS = "127.0.0.1:9091"
START_SECONDS = 60.0
SCRAPE_SECONDS = 2
QUICK = Thresholds(stall_floor_seconds=15, checkpoint_floor_seconds=15, confirm_seconds=SCRAPE_SECONDS)
"""The rules are those of the chart, but for the floors that spare a production run its short pauses."""


class Prometheus:
    """One server with a discovery of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        config = plane.folder / "prometheus.yaml"
        rules = plane.folder / "rules.yaml"
        rules.write_text(yaml.safe_dump(rule_groups(QUICK)), encoding="utf-8")
        config.write_text(yaml.safe_dump(_config(reader_kubeconfig(plane, "prometheus"), rules)), encoding="utf-8")
        data = plane.folder / "prometheus"
        command = [str(executable("prometheus")), f"--config.file={config}", f"--storage.tsdb.path={data}"]
        self._server = plane.new_server("prometheus", [*command, f"--web.listen-address={ADDRESS}"])

    def __enter__(self) -> Self:
        self._server.start()
        self._server.wait_until_ready(lambda: answers(f"http://{ADDRESS}/-/ready"), START_SECONDS)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query finds: `metric` (labels) and `value` (time, text) of each series."""
        found: list[dict[str, Any]] = self._ask("query", {"query": expression})["result"]
        return found

    def series(self, selector: str) -> list[dict[str, str]]:
        """Labels of every series that was ever scraped and fits the selector."""
        found: list[dict[str, str]] = self._ask("series", {"match[]": selector})
        return found

    def firing(self, selector: str) -> set[str]:
        """Names of the alerts that fire now and fit the selector's labels."""
        return {found["metric"]["alertname"] for found in self.query(f'ALERTS{{alertstate="firing",{selector}}}')}

    def _ask(self, what: str, parameters: dict[str, str]) -> Any:
        url = f"http://{ADDRESS}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]


def _config(kubeconfig: Path, rules: Path) -> dict[str, Any]:
    [monitor] = of_kind(template({"monitoring": {"podMonitor": {"enabled": True}}}), "PodMonitor")
    discovery = {"role": "pod", "kubeconfig_file": str(kubeconfig)}
    job = {
        "job_name": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": _relabelings(monitor["spec"]),
    }
    every = f"{SCRAPE_SECONDS}s"
    often = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    return {"global": often, "scrape_configs": [job], "rule_files": [str(rules)]}


def _relabelings(monitor: dict[str, Any]) -> list[dict[str, Any]]:
    """What the Prometheus Operator makes of a PodMonitor, for pods of any namespace."""
    pod = "__meta_kubernetes_pod"
    [endpoint] = monitor["podMetricsEndpoints"]
    kept = {f"{pod}_label_{label_name(name)}": value for name, value in monitor["selector"]["matchLabels"].items()}
    kept[f"{pod}_container_port_name"] = endpoint["port"]
    labels = {
        "namespace": "__meta_kubernetes_namespace",
        "pod": f"{pod}_name",
        "container": f"{pod}_container_name",
        **{label_name(name): f"{pod}_label_{label_name(name)}" for name in monitor["podTargetLabels"]},
    }
    return [
        {"source_labels": [f"{pod}_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        *({"source_labels": [source], "regex": value, "action": "keep"} for source, value in kept.items()),
        *({"source_labels": [source], "target_label": name} for name, source in labels.items()),
    ]
