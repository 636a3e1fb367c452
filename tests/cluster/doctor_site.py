"""A namespace in which everything that `radiffuse doctor` looks at is as it should be, and ways to break it."""

import base64
import contextlib
import copy
import http.server
import json
import os
import threading
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radiffuse.cluster.kinds import MANAGED_BY, NAME_LABEL
from radiffuse.cluster.permissions import DOCTOR_CLUSTER_RIGHTS, DOCTOR_RIGHTS, WEBHOOK_NAMES, rights
from radiffuse.doctor.checks import CHECKS
from radiffuse.doctor.examine import Result, examine
from radiffuse.doctor.surroundings import Surroundings, examined_job
from radiffuse.embedded_store import EmbeddedStore
from tests.cluster.accounts import RBAC, account, cluster_role
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until

NAMESPACE = "doctor"
SECONDS = 30.0
DIGEST = f"sha256:{'a' * 64}"
JOB = {
    "image": f"radiffuse.test/train@{DIGEST}",
    "image_pull_secrets": ["registry"],
    "service_account": "trainer",
    "runtime_class": "doctor-runtime",
    "priority_class": "doctor-priority",
    "queue": "team-a",
    "workload_priority": "doctor-urgent",
}
NO_QUEUE = {"queue": None, "workload_priority": None}
Object = dict[str, Any]


def metadata(name: str, namespace: str | None = NAMESPACE, **more: Any) -> Object:
    return {"name": name} | ({} if namespace is None else {"namespace": namespace}) | more


def definition(group: str, version: str, kind: str, plural: str, scope: str = "Namespaced") -> Object:
    """A kind of object that takes any fields: whose it is does not run here."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    served = {"name": version, "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata(f"{plural}.{group}", None),
        "spec": {"group": group, "names": names, "scope": scope, "versions": [served]},
    }


DEFINITIONS = (
    definition("kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues"),
    definition("kueue.x-k8s.io", "v1beta2", "WorkloadPriorityClass", "workloadpriorityclasses", "Cluster"),
    definition("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    definition("monitoring.coreos.com", "v1", "Prometheus", "prometheuses"),
)
QUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": metadata("team-a")}
QUEUE |= {"spec": {"clusterQueue": "gpus"}, "status": {"conditions": [{"type": "Active", "status": "True"}]}}
WORKLOAD_PRIORITY = {
    "apiVersion": "kueue.x-k8s.io/v1beta2",
    "kind": "WorkloadPriorityClass",
    "metadata": metadata("doctor-urgent", None),
    "value": 1000,
}
RUNTIME_CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
RUNTIME_CLASS |= {"metadata": metadata("doctor-runtime", None)}
PRIORITY_CLASS = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
PRIORITY_CLASS |= {"metadata": metadata("doctor-priority", None)}
TRAINER = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("trainer")}
REGISTRY = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson"}
REGISTRY |= {"metadata": metadata("registry"), "stringData": {".dockerconfigjson": '{"auths": {}}'}}
POD_MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": metadata("radiffuse", labels={"release": "monitoring"}),
    "spec": {
        "selector": {"matchLabels": {NAME_LABEL: MANAGED_BY}},
        "podMetricsEndpoints": [{"port": "metrics"}],
    },
}
PROMETHEUS = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "Prometheus",
    "metadata": metadata("main"),
    "spec": {"podMonitorSelector": {"matchLabels": {"release": "monitoring"}}, "podMonitorNamespaceSelector": {}},
}


def kueue_configuration(*frameworks: str) -> Object:
    data = {"controller_manager_config.yaml": json.dumps({"integrations": {"frameworks": frameworks}})}
    where = metadata("kueue-manager-config", "kueue-system")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": data}


def quota(**hard: str) -> Object:
    spec = {"hard": {key.replace("_", "."): value for key, value in hard.items()}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata("team"), "spec": spec}


def limit_range(**most: str) -> Object:
    spec = {"limits": [{"type": "Container", "max": most}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("team"), "spec": spec}


def operator_deployment(*arguments: str) -> Object:
    """The operator's Deployment without a pod: the process that runs here is not one."""
    labels = {"control-plane": "doctor-test"}
    container = {"name": "training-operator", "image": "radiffuse.test/operator:1", "args": list(arguments)}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    where = metadata("training-operator", "kubeflow")
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": where, "spec": spec}


class KfpHealth:
    """What KFP's API answers when it is asked how it is."""

    def __init__(self) -> None:
        self.version = "2.17.0"
        health = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                is_known = self.path == "/apis/v2beta1/healthz"
                body = json.dumps({"tag_name": health.version, "multi_user": False}).encode()
                self.send_response(200 if is_known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "KfpHealth":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Site:
    """The namespace, the cluster that it is in, a store of its own, and an account with all rights that are listed."""

    def __init__(self, plane: ControlPlane, store: EmbeddedStore, kfp: KfpHealth) -> None:
        self.plane, self.store, self.kfp = plane, store, kfp
        self.kubeconfig = plane.kubeconfig
        self.environment = store.environment
        self.namespace = NAMESPACE
        self.job: Object = dict(JOB)
        self.kfp_endpoint = kfp.endpoint

    def copy(self) -> "Site":
        """The same place, to be looked at in another way."""
        copied = copy.copy(self)
        copied.environment, copied.job = dict(self.environment), dict(self.job)
        return copied

    def examine(self) -> dict[str, Result]:
        """The doctor's results by name."""
        job = examined_job(json.dumps(self.job))
        with (
            unittest.mock.patch.dict(os.environ, self.environment),
            Surroundings(job, self.namespace, self.kubeconfig, self.kfp_endpoint) as surroundings,
        ):
            return {result.name: result for result in examine(surroundings, CHECKS)}

    @property
    def secret(self) -> Object:
        """As the documentation says that the pods' secret is made."""
        data = {name: base64.b64encode(value.encode()).decode() for name, value in self.store.environment.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("radiffuse-store"), "data": data}

    @contextlib.contextmanager
    def without(self, wanted: Object) -> Iterator[None]:
        """That object is not there meanwhile."""
        where = wanted["metadata"].get("namespace")
        scope = ("--namespace", where) if where else ()
        self.plane.kubectl("delete", f"{wanted['kind']}.{_group(wanted)}", wanted["metadata"]["name"], *scope)
        try:
            yield
        finally:
            self.plane.apply(wanted)

    @contextlib.contextmanager
    def with_(self, wanted: Object) -> Iterator[None]:
        """That object is there meanwhile."""
        self.plane.apply(wanted)
        try:
            yield
        finally:
            scope = ("--namespace", wanted["metadata"]["namespace"])
            self.plane.kubectl("delete", f"{wanted['kind']}.{_group(wanted)}", wanted["metadata"]["name"], *scope)

    @contextlib.contextmanager
    def instead(self, broken: Object, right: Object) -> Iterator[None]:
        """The first object takes the second one's place meanwhile."""
        self.plane.apply(broken)
        try:
            yield
        finally:
            self.plane.apply(right)

    @contextlib.contextmanager
    def patched(self, name: str, broken: str, right: str, *options: str) -> Iterator[None]:
        """An object of the cluster, as kind/name, under a merge patch, and under another one afterwards."""
        self.plane.kubectl("patch", name, "--type=merge", f"--patch={broken}", *options)
        try:
            yield
        finally:
            self.plane.kubectl("patch", name, "--type=merge", f"--patch={right}", *options)

    def wait_for_kind(self, name: str, is_there: bool) -> None:
        """Wait until the API tells its clients that it has that kind of object, or has it no more."""

        def is_so() -> bool:
            return (name in self.plane.kubectl("api-resources", "-o", "name").split()) == is_there

        wait_until(is_so, SECONDS, f"the API {'has' if is_there else 'has no'} {name}")


def _group(wanted: Object) -> str:
    group, slash, version = wanted["apiVersion"].partition("/")
    return f"{version}.{group}" if slash else f"{group}."


@contextlib.contextmanager
def healthy_site(plane: ControlPlane, store: EmbeddedStore) -> Iterator[Site]:
    """The site, whose objects outside its namespace are gone afterwards."""
    known = plane.kubectl("get", "crd", "-o", "name").split()
    made = [
        each
        for each in DEFINITIONS
        if f"customresourcedefinition.apiextensions.k8s.io/{each['metadata']['name']}" not in known
    ]
    security = {"pod-security.kubernetes.io/enforce": "restricted"}
    spaces = [metadata(NAMESPACE, None, labels=security), metadata("kueue-system", None)]
    cluster = [RUNTIME_CLASS, PRIORITY_CLASS, operator_deployment("--pytorch-init-container-template-file=/x")]
    plane.apply(*made, *({"apiVersion": "v1", "kind": "Namespace", "metadata": each} for each in spaces), *cluster)
    plane.wait_for_kinds(*made)
    with KfpHealth() as kfp:
        site = Site(plane, store, kfp)
        inside = [TRAINER, REGISTRY, site.secret, QUEUE, POD_MONITOR, PROMETHEUS]
        plane.apply(*inside, WORKLOAD_PRIORITY, kueue_configuration("kubeflow.org/pytorchjob"))
        site.kubeconfig = launcher(plane)
        account(plane, NAMESPACE, "pipeline-runner", rights())
        yield site
    for each in (*cluster, cluster_binding(), *made):
        scope = ("--namespace", each["metadata"]["namespace"]) if "namespace" in each["metadata"] else ()
        plane.kubectl("delete", f"{each['kind']}.{_group(each)}", each["metadata"]["name"], "--wait=false", *scope)


def launcher(plane: ControlPlane) -> Path:
    """An account with all that a launcher needs and all that the doctor likes to look at, and nothing else."""
    kubeconfig = account(plane, NAMESPACE, "launcher", rights() + DOCTOR_RIGHTS)
    plane.apply(cluster_role("doctor-test", DOCTOR_CLUSTER_RIGHTS), cluster_binding())
    return kubeconfig


def cluster_binding() -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "doctor-test"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "doctor-test"},
        "subjects": [{"kind": "ServiceAccount", "name": "launcher", "namespace": NAMESPACE}],
    }


def webhook(plane: ControlPlane) -> Object:
    """The operator's, as it can be applied again."""
    name = WEBHOOK_NAMES["PyTorchJob"][0]
    found = plane.get("validatingwebhookconfiguration", name)
    kept = {key: found["metadata"][key] for key in ("name", "labels", "annotations") if key in found["metadata"]}
    return {**found, "metadata": kept}
