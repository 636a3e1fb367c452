"""Renders the chart with a real Helm, without a cluster."""

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.build import executable

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "radiffuse"
MODES = {
    path.stem.removesuffix("-values"): path
    for path in (*sorted((CHART / "ci").glob("*-values.yaml")), *sorted((CHART / "examples").glob("*.yaml")))
}
"""Name of each way in which the chart is used, the examples among them -> its values."""
DEFAULTS: Object = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
HELMS = ("helm", "helm-newer")
NAMESPACE = "radiffuse"
OPTIONAL_APIS = (
    "monitoring.coreos.com/v1",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "kubeflow.org/v1",
    "kubeflow.org/v1/PyTorchJob",
    "trainer.kubeflow.org/v1alpha1",
    "trainer.kubeflow.org/v1alpha1/TrainJob",
    "kueue.x-k8s.io/v1beta2",
    "kueue.x-k8s.io/v1beta2/LocalQueue",
    "kueue.x-k8s.io/v1beta2/ClusterQueue",
    "kueue.x-k8s.io/v1beta2/ResourceFlavor",
    "kueue.x-k8s.io/v1beta2/Topology",
    "kueue.x-k8s.io/v1beta2/WorkloadPriorityClass",
)
"""What a cluster with every operator answers; Helm without a cluster knows only Kubernetes' own."""


class HelmError(Exception):
    """Helm refused; the message is what it said."""


def helm(*arguments: str, version: str = "helm", stdin: str = "", kubeconfig: Path | None = None) -> str:
    """Standard output of a Helm that finds no configuration of this user's; raises HelmError with what it said."""
    with tempfile.TemporaryDirectory() as folder:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        homes = {f"HELM_{kind}_HOME": folder for kind in ("CACHE", "CONFIG", "DATA")}
        config = {"KUBECONFIG": str(kubeconfig or Path(folder) / "none")}
        done = subprocess.run(
            [executable(version), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=clean | homes | config,
            timeout=120,
        )
    if done.returncode != 0:
        raise HelmError(done.stderr.strip() + done.stdout.strip())
    return done.stdout


def template(
    values: Object | None = None,
    *,
    mode: str | None = None,
    version: str = "helm",
    release: str = "radiffuse",
    namespace: str = NAMESPACE,
    apis: tuple[str, ...] = OPTIONAL_APIS,
    chart: Path = CHART,
) -> list[Object]:
    """The objects of a release, its tests and hooks included; values: over those of the mode. Raises HelmError."""
    document = json.dumps(values or {})
    return yaml_documents(_template(document, mode, version, release, namespace, apis, chart))


def rendered_text(mode: str, values: Object | None = None) -> str:
    """The YAML of a release in a mode, with values over it, as Helm wrote it. Raises HelmError."""
    return _template(json.dumps(values or {}), mode, "helm", "radiffuse", NAMESPACE, OPTIONAL_APIS, CHART)


@functools.lru_cache(maxsize=256)
def _template(
    values: str, mode: str | None, version: str, release: str, namespace: str, apis: tuple[str, ...], chart: Path
) -> str:
    files = [] if mode is None else ["--values", str(MODES[mode])]
    options = ["--namespace", namespace, "--values", "-", *(f"--api-versions={api}" for api in apis)]
    return helm("template", release, str(chart), *files, *options, version=version, stdin=values)


def yaml_documents(text: str) -> list[Object]:
    """The objects of a stream of YAML; empty documents are none."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, Loader=loader) if each is not None]


def values_of(mode: str) -> Object:
    """All values of a mode."""
    return merged(DEFAULTS, yaml.safe_load(MODES[mode].read_text(encoding="utf-8")) or {})


def merged(base: Any, over: Any) -> Any:
    """Values over others, as Helm lays them: maps are merged, all else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {name: merged(base.get(name), each) for name, each in over.items()}


def identity(document: Object) -> str:
    """Kind, namespace and name, for messages and for comparison."""
    metadata = document["metadata"]
    return f"{document['kind']} {metadata.get('namespace', '-')}/{metadata['name']}"


def of_kind(documents: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [each for each in documents if each["kind"] == kind]


def pod_specs(documents: list[Object]) -> dict[str, Object]:
    """Each pod's spec in the objects, by the object that it is in."""
    found = {}
    for each in documents:
        spec = each if each["kind"] == "Pod" else each.get("spec", {}).get("template", {})
        spec = spec.get("spec", {}) if "jobTemplate" not in each.get("spec", {}) else each["spec"]["jobTemplate"]
        if "containers" in spec:
            found[identity(each)] = spec
    return found
