"""The chart on a real API server that enforces restricted Pod Security: installed, changed, broken, mended, removed."""

import json
import time
from collections.abc import Iterator

import pytest

from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.permissions import rights
from tests.charts.rendering import CHART, MODES, HelmError, Object, helm, of_kind, template
from tests.charts.schemas import custom_resource_definitions
from tests.cluster.plane import START_SECONDS, ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster_model.launches import make_secret

pytestmark = pytest.mark.cluster

NAME = "radiffuse"
PROFILES = ("radiology", "cardiology")
NAMESPACES = (*PROFILES, "monitoring")
KINDS = (
    *("PodMonitor", "PrometheusRule"),
    *("LocalQueue", "ClusterQueue", "ResourceFlavor", "Topology", "WorkloadPriorityClass"),
)
CLASSES = (
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "launchers"}, "value": 1},
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
)
"""What the richest values name, and an API server looks for when a pod is made."""
UNSTEADY = ("events", "leases", "endpoints", "componentstatuses", "pods.metrics", "nodes.metrics")
"""Kinds that come and go without anybody's doing, or cannot be listed."""
GONE_SECONDS = 60.0


class Release:
    """One release of the chart in one namespace, in the hands of one version of Helm."""

    def __init__(self, plane: ControlPlane, namespace: str, version: str = "helm") -> None:
        self._plane, self._namespace, self._version = plane, namespace, version

    def helm(self, *arguments: str, values: Object | None = None) -> str:
        options = ["--namespace", self._namespace, *(("--values", "-") if values is not None else ())]
        text, kubeconfig = json.dumps(values), self._plane.kubeconfig
        return helm(*arguments, *options, stdin=text, kubeconfig=kubeconfig, version=self._version)

    def upgrade(self, *arguments: str, mode: str = "default", values: Object | None = None) -> str:
        """Install or upgrade to a mode's values, with others over them; what the user is told. Raises HelmError."""
        # Helm keeps the former values where the new ones are none, so going back to the defaults has to be said.
        files = ("--values", str(MODES[mode]), *(arguments or ("--reset-values",)))
        return self.helm("upgrade", "--install", NAME, str(CHART), *files, values=values or {})

    def status(self) -> str:
        return str(json.loads(self.helm("status", NAME, "--output", "json"))["info"]["status"])

    def uninstall(self) -> None:
        """Remove it, unless it is gone."""
        self.helm("uninstall", NAME, "--ignore-not-found")


@pytest.fixture(scope="module")
def every_api(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """With the custom resources of Prometheus' operator and of Kueue, and the namespaces of profiles."""
    known = custom_resource_definitions("prometheus-operator", "kueue")
    definitions = [each for each in known if each["spec"]["names"]["kind"] in KINDS]
    for each in definitions:
        each["spec"].pop("conversion", None)  # by a webhook of Kueue's, which does not run
    control_plane.apply(*definitions, *CLASSES, *(a_namespace(name) for name in NAMESPACES))
    control_plane.wait_for_kinds(*definitions)
    yield control_plane
    names = [each["metadata"]["name"] for each in definitions]
    control_plane.kubectl("delete", "customresourcedefinitions", "--ignore-not-found", *names)


@pytest.fixture
def release(control_plane: ControlPlane, namespace: str) -> Iterator[Release]:
    """A release that no test leaves behind."""
    one = Release(control_plane, namespace)
    yield one
    one.uninstall()


def a_namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def inventory(plane: ControlPlane) -> set[str]:
    """All objects of all kinds but Helm's own history: kind, namespace and name."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    steady = [kind for kind in kinds if kind.partition(".")[0] not in UNSTEADY]
    columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
    found = plane.kubectl("get", ",".join(steady), "-A", "--no-headers", "-o", columns, seconds=120).splitlines()
    return {line for line in found if "sh.helm.release.v1." not in line}


def wait_for_no_more_than(plane: ControlPlane, before: set[str]) -> None:
    """Until what was made since is gone; what is deleted takes its pods with it a moment later."""
    deadline = time.monotonic() + GONE_SECONDS
    while (more := inventory(plane) - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert more == set()


def uid(plane: ControlPlane, namespace: str, kind: str, name: str) -> str:
    return str(plane.get(kind, name, "--namespace", namespace)["metadata"]["uid"])


def test_from_the_defaults_to_everything_and_back_nothing_of_ours_remains(
    every_api: ControlPlane, namespace: str, release: Release
) -> None:
    make_secret(every_api, namespace)
    before = inventory(every_api)
    said = release.upgrade()
    assert f"kubectl --namespace {namespace} create secret generic radiffuse-store" in said
    small = inventory(every_api)

    release.upgrade(mode="richest")
    scope = ("--namespace", namespace, "-l", "app.kubernetes.io/instance=radiffuse")
    wait_until(lambda: len(every_api.get("pods", *scope)["items"]) >= 2, 30, "the launcher's and the store's pods")
    release.upgrade()
    wait_for_no_more_than(every_api, small)

    release.uninstall()
    wait_for_no_more_than(every_api, before)
    assert inventory(every_api) == before
    secrets = every_api.get("secrets", "--namespace", namespace)["items"]
    assert [each["metadata"]["name"] for each in secrets] == ["radiffuse-store"]


def test_every_mode_is_what_the_api_takes(every_api: ControlPlane, namespace: str) -> None:
    """Unknown fields, wrong values and the operators' own rules (CEL) are refused by a server's dry run."""
    objects = [each for mode in MODES for each in template(mode=mode, namespace=namespace)]
    every_api.apply(*of_kind(objects, "ServiceAccount"))  # without it no pod is admitted
    # In one request for all: each kubectl fetches the kinds' schemas anew.
    documents = "\n---\n".join(json.dumps(each) for each in objects if each["kind"] != "ServiceAccount")
    dry_run = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    every_api.kubectl(*dry_run, stdin=documents, seconds=START_SECONDS)


def test_a_second_release_in_another_namespace_works_beside_the_first(
    every_api: ControlPlane, namespace: str, release: Release
) -> None:
    queues = {"kueue": {"localQueue": {"create": True}, "workloadPriority": {"create": True}}}
    second = Release(every_api, PROFILES[0])
    release.upgrade(values=queues)
    second.upgrade(values=queues)
    first = uid(every_api, namespace, "localqueue", f"{namespace}-radiffuse")
    second.uninstall()
    assert uid(every_api, namespace, "localqueue", f"{namespace}-radiffuse") == first


def test_the_launchers_account_may_do_what_it_needs(
    control_plane: ControlPlane, namespace: str, release: Release
) -> None:
    make_secret(control_plane, namespace)
    release.upgrade()
    with ClusterClient(control_plane.kubeconfig_for(namespace, "radiffuse")) as launcher:
        for right in rights():
            name = "radiffuse-store" if right.resource.plural == "secrets" else ""
            for verb in right.verbs:
                assert launcher.may(verb, right.resource, namespace, right.subresource, name), (verb, right.target)


def test_a_broken_release_is_mended_by_the_next_upgrade(release: Release) -> None:
    broken = {
        "extraObjects": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": []}}]
    }
    with pytest.raises(HelmError, match=r"spec\.ports: Required value"):
        release.upgrade(values=broken)
    assert release.status() == "failed"
    release.upgrade()
    assert release.status() == "deployed"
    with pytest.raises(HelmError, match=r"spec\.ports: Required value"):
        release.upgrade(values=broken)
    release.upgrade()
    assert release.status() == "deployed"


def test_an_upgrade_keeps_the_users_secret_the_dashboard_and_what_the_store_holds(
    control_plane: ControlPlane, namespace: str, release: Release
) -> None:
    make_secret(control_plane, namespace)
    store = {"enabled": True, "persistence": {"keep": True}}
    release.upgrade(values={"monitoring": {"dashboard": {"enabled": True}}, "devStore": store})
    maps = (("configmap", f"radiffuse-{name}") for name in ("dashboard", "job"))
    kept = [("secret", "radiffuse-store"), ("persistentvolumeclaim", "radiffuse-store"), *maps]
    before = [uid(control_plane, namespace, *each) for each in kept]
    newer = Release(control_plane, namespace, version="helm-newer")
    newer.upgrade("--reuse-values", values={"commonLabels": {"team": "chest"}})
    assert [uid(control_plane, namespace, *each) for each in kept] == before
    newer.uninstall()
    assert [uid(control_plane, namespace, *each) for each in kept[:2]] == before[:2]


def test_what_a_cluster_lacks_is_refused_in_one_sentence(control_plane: ControlPlane, namespace: str) -> None:
    """No operator of Prometheus' is known to a cluster unless a test brings it."""
    monitors = "podmonitors.monitoring.coreos.com"
    control_plane.kubectl("delete", "customresourcedefinition", monitors, "--ignore-not-found")
    before = inventory(control_plane)
    with pytest.raises(HelmError) as caught:
        Release(control_plane, namespace).upgrade(values={"monitoring": {"podMonitor": {"enabled": True}}})
    (said,) = [line for line in str(caught.value).splitlines() if "monitoring" in line]
    assert said.startswith(
        "monitoring.podMonitor.enabled: this cluster does not serve PodMonitor of monitoring.coreos.com/v1;"
    )
    assert inventory(control_plane) == before
