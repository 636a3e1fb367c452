"""A real Prometheus that finds training pods through the API server and scrapes their port named `metrics`."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from tests.cluster.build import executable
from tests.cluster.nodes.network import reader_kubeconfig
from tests.cluster.nodes.probe import answers
from tests.cluster.plane import ControlPlane

ADDRESS = "127.0.0.1:9091"
START_SECONDS = 60.0
SCRAPE_SECONDS = 2


class Prometheus:
    """One server with a discovery of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        config = plane.folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(_config(reader_kubeconfig(plane, "prometheus"))), encoding="utf-8")
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

    def _ask(self, what: str, parameters: dict[str, str]) -> Any:
        url = f"http://{ADDRESS}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]


def _config(kubeconfig: Path) -> dict[str, Any]:
    pod = "__meta_kubernetes_pod"
    labels = {
        "pod": f"{pod}_name",
        "namespace": "__meta_kubernetes_namespace",
        "node": f"{pod}_node_name",
        "run": f"{pod}_label_radiffuse_org_run",
        "replica_type": f"{pod}_label_training_kubeflow_org_replica_type",
        "replica_index": f"{pod}_label_training_kubeflow_org_replica_index",
    }
    relabelings: list[dict[str, Any]] = [
        {"source_labels": [f"{pod}_container_port_name"], "regex": "metrics", "action": "keep"}
    ]
    relabelings += [{"source_labels": [source], "target_label": name} for name, source in labels.items()]
    discovery = {"role": "pod", "kubeconfig_file": str(kubeconfig)}
    job = {"job_name": "radiffuse", "kubernetes_sd_configs": [discovery], "relabel_configs": relabelings}
    every = f"{SCRAPE_SECONDS}s"
    return {"global": {"scrape_interval": every, "scrape_timeout": every}, "scrape_configs": [job]}
