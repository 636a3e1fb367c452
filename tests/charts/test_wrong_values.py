"""One wrong value at a time: Helm refuses it before anything is sent, and names it."""

import re
from typing import Any

import pytest

from tests.charts.rendering import HelmError, Object, merged, of_kind, template

pytestmark = pytest.mark.charts

REFUSED_BY_THE_SCHEMA: dict[str, Any] = {
    "nameOverride": "Not_A_Label",
    "fullnameOverride": "a" * 41,
    "enabled": False,
    "commonLabels.team": "two words",
    "commonAnnotations.note": 1,
    "images.train.registry": "https://registry.example",
    "images.train.repository": "Upper/Case",
    "images.train.tag": "latest",
    "images.train.digest": "sha256:abc",
    "images.pipeline.tag": "1.0 beta",
    "images.pipeline.pullPolicy": "Sometimes",
    "images.requireDigest": "yes",
    "imagePullSecrets": "registry-login",
    "imagePullSecrets.0": "Registry Login",
    "serviceAccount.create": "true",
    "serviceAccount.name": "Launcher",
    "rbac.create": 1,
    "rbac.secretNames.0": 7,
    "kfp.mode": "multi-user",
    "kfp.namespace": "",
    "kfp.profiles.0": "team_a",
    "store.secret": "",
    "store.endpoint": 9000,
    "store.secure": "false",
    "store.caEntry": "ca crt",
    "devStore.port": 70000,
    "devStore.env.MINIO_ROOT_PASSWORD": "in the open",
    "devStore.userId": 0,
    "devStore.healthPath": "minio/health/live",
    "devStore.accessKeyVariable": "access-key",
    "devStore.persistence.size": "20 GB",
    "devStore.persistence.accessMode": "ReadOnlyMany",
    "job.enabled": "on",
    "job.model": "stable-diffusion",
    "job.backoffLimit": -1,
    "job.deadlineSeconds": 0,
    "job.ttlSeconds": -1,
    "job.scratch": "lots",
    "job.env.AWS_SECRET_ACCESS_KEY": "in the open",
    "job.template.backend": "mpijob",
    "job.template.nodes": 0,
    "job.template.gpus_per_node": -1,
    "job.template.metrics_port": 80,
    "job.template.memory_per_process": "16 gigabytes",
    "job.template.user_id": 0,
    "job.template.nccl_debug": "TRACE",
    "job.template.deadlines.admitted_seconds": "long",
    "job.template.tolerations.0.effect": "NoRun",
    "job.data.source": "s3",
    "job.data.layout": "padchest",
    "job.data.simulated.patients": 0,
    "job.data.simulated.sizePx": 31,
    "job.data.claim.path": "/absolute",
    "job.data.stored.uri": "s3://elsewhere/few/0123456789abcdef",
    "job.config.preset": "No Such",
    "job.config.document.train.learning_rate": "fast",
    "job.config.overrides.0": "no equals sign",
    "job.steps.launch.limits.memory": "much",
    "job.scheduling.tolerations.0.operator": "Equals",
    "monitoring.podMonitor.interval": "15",
    "monitoring.podMonitor.scrapeTimeout": "0s",
    "monitoring.dashboard.namespace": "Grafana!",
    "networkPolicy.dns.ports": [],
    "networkPolicy.store.ports.0": 0,
    "kueue.topology.levels": [],
    "kueue.workloadPriority.value": 3_000_000_000,
    "kueue.clusterQueue.quotas.cpu": "many",
    "podDisruptionBudget.training.minAvailable": 0,
    "operatorInit.name": "Init",
    "tests.args": "--json",
    "extraObjects.0": "kind: ConfigMap",
}
"""Path of the value, with numbers for places in a list -> a value of the wrong type, range or spelling."""
NAMED_IN_ITS_SECTION: dict[str, Any] = {
    "store.accessKey": "AKIAIOSFODNN7EXAMPLE",
    "replicas": 2,
    "job.template.nodse": 2,
    "job.template.image": "elsewhere:1",
    "job.template.store": {"secret": "other"},
    "images.train.pullpolicy": "Always",
    "job.config.document.train.learning_rte": 0.1,
    "job.env.not-a-variable": "x",
    "commonLabels.two words": "x",
    "devStore.image.repository": None,
    "devStore.image.tag": None,
    "networkPolicy.enabled": None,
    "job.template": None,
}
"""Path of a value that does not exist, may not have that name, or was taken away -> what somebody might put there."""


TRAINS: list[tuple[str, Any]] = [("job.enabled", True), ("job.config.preset", "roentgen-1k")]
"""A run whose batch the default job of 64 processes can share."""
REFUSED_TOGETHER: dict[str, list[tuple[str, Any]]] = {
    "images.train.digest": [("images.requireDigest", True), ("images.pipeline.digest", f"sha256:{'0' * 64}")],
    "devStore.enabled": [("devStore.enabled", True), ("store.endpoint", "minio.example:9000")],
    "podDisruptionBudget.devStore.enabled": [("podDisruptionBudget.devStore.enabled", True)],
    "kfp.profiles": [("kfp.mode", "multiUser")],
    "kfp.mode": [("kfp.profiles.0", "team-a")],
    "serviceAccount.name": [
        ("kfp.mode", "multiUser"),
        ("kfp.profiles.0", "radiffuse"),
        ("serviceAccount.name", "default-editor"),
    ],
    "job.template.processes_per_node": [("job.template.gpus_per_node", 0)],
    "job.template.topology": [("job.template.topology.level", "kubernetes.io/hostname")],
    "job.template.queue": [("job.template.workload_priority", "high")],
    "kueue.localQueue.create": [("kueue.workloadPriority.create", True)],
    "job.config.preset": [("job.enabled", True), ("job.config.preset", None)],
    "job.data.claim.name": [*TRAINS, ("job.data.source", "claim")],
    "job.data.stored.uri": [*TRAINS, ("job.data.source", "stored")],
    "kueue.clusterQueue.quotas": [("kueue.clusterQueue.create", True)],
    "job.template.grace_period_seconds": [("job.template.grace_period_seconds", 10)],
    "job.template.metrics_port": [("job.template.metrics_port", 23457)],
    "job.template.rendezvous_port": [("job.template.backend", "trainjob"), ("job.template.rendezvous_port", 2222)],
    "job.template.deadlines.started_seconds": [("job.template.deadlines.started_seconds", 600)],
    "commonLabels": [("commonLabels", {"radiffuse.org/run": "x"})],
    "commonAnnotations": [("commonAnnotations", {"helm.sh/hook": "test"})],
    "job.podLabels": [("job.podLabels", {"app.kubernetes.io/name": "x"})],
    "job.podAnnotations": [("job.podAnnotations", {"radiffuse.org/job-document": "x"})],
    "job.template.labels": [("job.template.labels", {"sidecar.istio.io/inject": "true"})],
    "job.template.annotations": [("job.template.annotations", {"radiffuse.org/run": "x"})],
    "serviceAccount.annotations": [("serviceAccount.annotations", {"helm.sh/hook": "test"})],
    "job.env": [("job.env", {"POD_NAME": "x"})],
    "devStore.env": [("devStore.env", {"MINIO_ROOT_USER": "in the open"})],
    "devStore.secretKeyVariable": [("devStore.secretKeyVariable", "MINIO_ROOT_USER")],
    "kueue.resourceFlavor.nodeLabels": [("kueue.resourceFlavor.create", True), ("kueue.topology.name", "racks")],
}
"""Path that the refusal names -> values that are each allowed and do not go together."""
NEEDS_AN_API = {
    "job.enabled": "PyTorchJob of kubeflow.org/v1",
    "monitoring.podMonitor.enabled": "PodMonitor of monitoring.coreos.com/v1",
    "monitoring.prometheusRule.enabled": "PrometheusRule of monitoring.coreos.com/v1",
    "kueue.localQueue.create": "LocalQueue of kueue.x-k8s.io/v1beta2",
    "kueue.resourceFlavor.create": "ResourceFlavor of kueue.x-k8s.io/v1beta2",
    "kueue.topology.create": "Topology of kueue.x-k8s.io/v1beta2",
}
"""Path of a switch -> the API of others that it needs."""


def nested(path: str, value: Any) -> Object:
    """Values with one value at a path."""
    head, _, rest = path.partition(".")
    inner = nested(rest, value) if rest else value
    if rest.partition(".")[0] == "0":
        inner = [nested("x" + rest, value)["x0"]]
    return {head: inner}


def with_values(given: list[tuple[str, Any]]) -> Object:
    """Values with each of these at its path."""
    values: Object = {}
    for path, value in given:
        values = merged(values, nested(path, value))
    return values


def refusal(values: Object, **options: Any) -> str:
    with pytest.raises(HelmError) as caught:
        template(values, **options)
    return str(caught.value)


def places(message: str) -> set[str]:
    """Where Helm's schema check found something, as paths with dots."""
    return {place.strip("/").replace("/", ".") for place in re.findall(r"at '([^']*)'", message)}


def sections(path: str) -> set[str]:
    """The path and the sections that it is in, which Helm names where one of several schemas had to hold."""
    parts = path.split(".")
    return {".".join(parts[:length]) for length in range(len(parts) + 1)}


@pytest.mark.parametrize("path", REFUSED_BY_THE_SCHEMA)
def test_a_value_of_the_wrong_type_or_range_is_refused_at_its_path(path: str) -> None:
    message = refusal(nested(path, REFUSED_BY_THE_SCHEMA[path]))
    assert path in places(message) <= sections(path), message


@pytest.mark.parametrize("path", NAMED_IN_ITS_SECTION)
def test_a_value_that_should_not_or_should_be_there_is_refused_by_name(path: str) -> None:
    message = refusal(nested(path, NAMED_IN_ITS_SECTION[path]))
    section, _, name = path.rpartition(".")
    assert section in places(message) <= sections(section) and f"'{name}'" in message, message


@pytest.mark.parametrize("folder", ["..", "../etc", "a/..", "a/../../b", "./../b", "a//../b", "../", ""])
def test_a_folder_outside_of_the_claim_is_refused(folder: str) -> None:
    assert "job.data.claim.path" in places(refusal(nested("job.data.claim.path", folder)))


@pytest.mark.parametrize("folder", [".", "files", "./files/", "a/.hidden/..b/...", "a b/c..d", "..."])
def test_a_folder_inside_of_the_claim_is_taken(folder: str) -> None:
    values = with_values([*TRAINS, ("job.data.source", "claim"), ("job.data.claim", {"name": "data", "path": folder})])
    (made,) = of_kind(template(values), "Job")
    assert f"'--source=/data/{folder}'" in str(made)


@pytest.mark.parametrize("path", REFUSED_TOGETHER)
def test_values_that_do_not_go_together_are_refused_in_one_sentence(path: str) -> None:
    (sentence,) = sentences(refusal(with_values(REFUSED_TOGETHER[path])))
    assert path in sentence, sentence


@pytest.mark.parametrize("path", NEEDS_AN_API)
def test_an_api_that_the_cluster_lacks_is_named_with_the_value_that_needs_it(path: str) -> None:
    (sentence,) = sentences(refusal(with_values([(path, True), *TRAINS[1:]]), apis=()))
    assert sentence.startswith(f"{path}: this cluster does not serve {NEEDS_AN_API[path]}; install ")


def sentences(message: str) -> list[str]:
    """What the chart itself says in a refusal of Helm's."""
    lines = [line.strip() for line in message.splitlines()]
    return [line for line in lines if line and not line.startswith(("Error: execution error", "Use --debug"))]
