"""The doctor in a cluster where all is well, and in clusters that each have one thing wrong with them."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from minio import Minio
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster.kinds import EVENTS, PYTORCHJOB
from radiffuse.cluster.permissions import WEBHOOK_NAMES, Right, rights, role
from radiffuse.doctor.checks import CHECKS
from radiffuse.doctor.examine import Result
from radiffuse.doctor.finding import Verdict
from radiffuse.embedded_store import EmbeddedStore
from tests.cluster.accounts import account
from tests.cluster.certificates import authority_bundle
from tests.cluster.doctor_site import (
    NAMESPACE,
    POD_MONITOR,
    PRIORITY_CLASS,
    PROMETHEUS,
    QUEUE,
    REGISTRY,
    RUNTIME_CLASS,
    TRAINER,
    WORKLOAD_PRIORITY,
    Object,
    Site,
    healthy_site,
    kueue_configuration,
    limit_range,
    operator_deployment,
    quota,
    webhook,
)
from tests.cluster.fake_nodes import CAPACITY, GpuNodes
from tests.cluster.plane import ControlPlane
from tests.skewed_store import SkewedStore

pytestmark = pytest.mark.cluster

HEALTHY = {check.name: Verdict.ok for check in CHECKS} | {"pods": Verdict.skipped}
"""To an account that may make no pods, like every launcher's."""
Breaking = Callable[[Site], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """One of this module's own, since a bucket is taken away from it."""
    with EmbeddedStore(tmp_path_factory.mktemp("doctor-store")) as server:
        yield server


@pytest.fixture(scope="module")
def healthy(control_plane: ControlPlane, gpu_nodes: GpuNodes, store: EmbeddedStore) -> Iterator[Site]:
    with healthy_site(control_plane, store) as site:
        yield site


@pytest.fixture
def site(healthy: Site) -> Site:
    """One that a test may change."""
    return healthy.copy()


def test_where_all_is_well_every_check_says_so(site: Site) -> None:
    results = site.examine()
    assert {name: result.verdict for name, result in results.items()} == HEALTHY, told(results)


def test_the_pods_themselves_are_tried_by_an_account_that_may_make_them(site: Site) -> None:
    site.kubeconfig = site.plane.kubeconfig
    results = site.examine()
    assert {name: result.verdict for name, result in results.items()} == HEALTHY | {"pods": Verdict.ok}, told(results)


def test_with_a_launchers_rights_alone_nothing_fails_and_what_is_not_seen_names_its_right(site: Site) -> None:
    site.kubeconfig = account(site.plane, NAMESPACE, "modest", rights())
    results = site.examine()
    unseen = [
        "operator", "certificate", "init container", "namespace", "pod security", "service account",
        "runtime class", "priority class", "quota", "GPUs", "gang", "queue integration", "workload priority",
        "KFP account", "PodMonitor", "Prometheus",
    ]  # fmt: skip
    assert {name: result.verdict for name, result in results.items()} == HEALTHY | dict.fromkeys(
        unseen, Verdict.skipped
    ), told(results)
    assert [name for name in unseen if "to look, it needs {apiGroups: [" not in results[name].finding.fix] == []
    nodes = "to look, it needs {apiGroups: [''], resources: [nodes], verbs: [list]} cluster-wide"
    assert results["GPUs"].finding.fix == nodes


class Broken(NamedTuple):
    """A cluster with one thing wrong: how it is made so, which check says so, in which words, and what it advises."""

    name: str
    breaking: Breaking
    check: str
    verdict: Verdict
    text: str
    fix: str


FAILED, WARNING = Verdict.failed, Verdict.warning


def changing(**settings: object) -> Breaking:
    """The doctor is asked about another job, place or store."""

    @contextlib.contextmanager
    def change(site: Site) -> Iterator[None]:
        for name, value in settings.items():
            setattr(site, name, {**getattr(site, name), **value} if isinstance(value, dict) else value)
        yield

    return change


def with_kubeconfig(change: Callable[[Object], None]) -> Breaking:
    """The kubeconfig is another one."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        document = yaml.safe_load(site.kubeconfig.read_text())
        change(document)
        site.kubeconfig = site.plane.folder / "broken.kubeconfig"
        site.kubeconfig.write_text(yaml.safe_dump(document))
        yield

    return breaking


def expire(document: Object) -> None:
    document["users"][0]["user"] = {"token": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"}


def lead_nowhere(document: Object) -> None:
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"


@contextlib.contextmanager
def without_kind(site: Site) -> Iterator[None]:
    """As if the CRD were gone; deleting it would take every other test's jobs along."""
    name = str(PYTORCHJOB.resource)
    where = ("patch", f"customresourcedefinition/{name}", "--type=json")

    def serve(is_served: str) -> str:
        return f'--patch=[{{"op": "replace", "path": "/spec/versions/0/served", "value": {is_served}}}]'

    site.plane.kubectl(*where, serve("false"))
    try:
        site.wait_for_kind(name, False)
        yield
    finally:
        site.plane.kubectl(*where, serve("true"))
        site.wait_for_kind(name, True)


@contextlib.contextmanager
def without_endpoints(site: Site) -> Iterator[None]:
    where = "endpointslice/training-operator-process"

    def ready(word: str) -> str:
        return f'{{"endpoints": [{{"addresses": ["10.199.0.1"], "conditions": {{"ready": {word}}}}}]}}'

    with site.patched(where, ready("false"), ready("true"), "--namespace=kubeflow"):
        yield


@contextlib.contextmanager
def without_operator(site: Site) -> Iterator[None]:
    with site.plane.without_training_operator():
        yield


@contextlib.contextmanager
def with_expired_certificate(site: Site) -> Iterator[None]:
    """The operator, which would put it right, does not run meanwhile."""
    right = webhook(site.plane)
    broken = json.loads(json.dumps(right))
    for each in broken["webhooks"]:
        each["clientConfig"]["caBundle"] = authority_bundle(days_left=-1)
    with site.plane.without_training_operator(), site.instead(broken, right):
        yield


@contextlib.contextmanager
def without_webhook(site: Site) -> Iterator[None]:
    with site.without(webhook(site.plane)):
        yield


def lacking(dropped: Right) -> Breaking:
    """The launcher's account has all rights but that one."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        full = site.plane.get("role", "launcher", "--namespace", NAMESPACE)
        rules = [rule for rule in full["rules"] if rule != dropped.rule()]
        assert len(rules) == len(full["rules"]) - 1
        with site.instead(role("launcher", NAMESPACE, ()) | {"rules": rules}, _plain(full)):
            yield

    return breaking


def _plain(found: Object) -> Object:
    wanted = {"name": found["metadata"]["name"], "namespace": found["metadata"]["namespace"]}
    return {**found, "metadata": wanted}


@contextlib.contextmanager
def in_no_namespace(site: Site) -> Iterator[None]:
    """Asked for by somebody who may look everywhere: a launcher's rights end at its own."""
    site.namespace, site.kubeconfig = "nowhere", site.plane.kubeconfig
    yield


@contextlib.contextmanager
def without_label(site: Site) -> Iterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    patches = (f'{{"metadata": {{"labels": {{"{label}": {word}}}}}}}' for word in ("null", '"restricted"'))
    with site.patched(f"namespace/{NAMESPACE}", *patches):
        yield


def with_secret(**changes: str | None) -> Breaking:
    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        patches = ({"data": {**site.secret["data"], **changes}}, {"data": site.secret["data"]})
        with site.patched("secret/radiffuse-store", *map(json.dumps, patches), f"--namespace={NAMESPACE}"):
            yield

    return breaking


def with_nodes(path: str, broken: object, right: object, *names: str) -> Breaking:
    """Another value at that path of these nodes."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in names:
                section, field = path.split(".", 1)
                option = ("--subresource=status",) if section == "status" else ()
                patches = (json.dumps({section: _nested(field, value)}) for value in (broken, right))
                stack.enter_context(site.patched(f"node/{name}", *patches, *option))
            yield

    return breaking


def _nested(path: str, value: object) -> object:
    for key in reversed(path.split("|")):
        value = {key: value}
    return value


def behind_clock(seconds: float) -> Breaking:
    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        real = site.store.settings.endpoint
        with SkewedStore(real, seconds) as skewed:
            site.environment["MINIO_ENDPOINT"] = skewed.endpoint
            site.job["store"] = {"endpoint": skewed.endpoint}
            yield

    return breaking


@contextlib.contextmanager
def without_bucket(site: Site) -> Iterator[None]:
    given = site.store.settings
    client = Minio(given.endpoint, given.access_key, given.secret_key, secure=False)
    client.remove_bucket("prompts")
    try:
        yield
    finally:
        client.make_bucket("prompts")


@contextlib.contextmanager
def with_older_kfp(site: Site) -> Iterator[None]:
    site.kfp.version = "1.8.5"
    try:
        yield
    finally:
        site.kfp.version = "2.17.0"


@contextlib.contextmanager
def without_rights_of_steps(site: Site) -> Iterator[None]:
    granted = tuple(right for right in rights() if right.resource != EVENTS)
    granted = tuple(right for right in granted if right.resource != PYTORCHJOB.resource)
    with site.instead(role("pipeline-runner", NAMESPACE, granted), role("pipeline-runner", NAMESPACE, rights())):
        yield


NO_QUEUE = {"queue": None, "workload_priority": None}
GPU = "allocatable|nvidia.com/gpu"
EVENTS_RIGHT = next(right for right in rights() if right.resource == EVENTS)
JOBS_RIGHT = next(right for right in rights() if right.resource == PYTORCHJOB.resource)
OTHER_LABEL = {**POD_MONITOR, "metadata": {**POD_MONITOR["metadata"], "labels": {"release": "another"}}}
INACTIVE = {"conditions": [{"type": "Active", "status": "False", "message": "ClusterQueue gpus is stopped"}]}
CLUSTERS = (
    Broken("no kubeconfig", changing(kubeconfig=Path("/nowhere")), "kubeconfig", FAILED,
           "no kubeconfig at /nowhere", "name one with --kubeconfig"),
    Broken("an expired token", with_kubeconfig(expire), "API server", FAILED,
           "did not accept the credentials", "log in again, or ask for a new kubeconfig"),
    Broken("no API server", with_kubeconfig(lead_nowhere), "API server", FAILED,
           "cannot reach https://127.0.0.1:1", "check the server's address"),
    Broken("no CRD", without_kind, "kinds", FAILED,
           "the API knows no pytorchjobs.kubeflow.org", "install Kubeflow Training Operator 1.9: kubectl apply"),
    Broken("no Trainer", changing(job={"backend": "trainjob"} | NO_QUEUE), "operator", FAILED,
           "no ValidatingWebhookConfiguration validator.trainer.kubeflow.org", "install Kubeflow Trainer 2.3"),
    Broken("no webhook", without_webhook, "operator", FAILED,
           f"no ValidatingWebhookConfiguration {WEBHOOK_NAMES['PyTorchJob'][0]}", "install Kubeflow Training Operator"),
    Broken("no pod of the operator", without_endpoints, "operator", FAILED,
           "kubeflow/training-operator has no pod that is ready", "kubectl --namespace kubeflow get pods"),
    Broken("a dead operator", without_operator, "dry run", FAILED,
           'cannot be called: "validator.pytorchjob.training-operator', "start what serves it"),
    Broken("an expired certificate", with_expired_certificate, "certificate", FAILED,
           "it expired on 20", "restart training-operator, which makes its own"),
    Broken("a built-in init container", lambda site: site.instead(operator_deployment("--x"),
           operator_deployment("--pytorch-init-container-template-file=/x")), "init container", WARNING,
           "pulled from Docker Hub", "give the operator manifests/training-operator/init-container.yaml"),
    Broken("no namespace", in_no_namespace, "namespace", FAILED,
           "there is no namespace 'nowhere'", "kubectl create namespace nowhere"),
    Broken("a namespace that enforces nothing", without_label, "pod security", WARNING,
           "no level is enforced", f"kubectl label --overwrite namespace {NAMESPACE} pod-security"),
    Broken("a right that is needed", lacking(JOBS_RIGHT), "permissions", FAILED,
           f"serviceaccount:{NAMESPACE}:launcher may not get, list, watch, create, patch, delete pytorchjobs",
           r"- {apiGroups: \[kubeflow.org\], resources: \[pytorchjobs\], verbs: \[get, list, watch, create, patch"),
    Broken("a right that is optional", lacking(EVENTS_RIGHT), "permissions", WARNING,
           "may not list, watch events", r"- {apiGroups: \[''\], resources: \[events\], verbs: \[list, watch\]}"),
    Broken("no secret", lambda site: site.without(site.secret), "secrets", FAILED,
           "no secret 'radiffuse-store' in namespace doctor",
           "kubectl --namespace doctor create secret generic radiffuse-store --from-literal=MINIO_ACCESS_KEY=..."),
    Broken("a secret without an entry", with_secret(MINIO_SECRET_KEY=None), "secrets", FAILED,
           "the secret 'radiffuse-store' in namespace doctor has no MINIO_SECRET_KEY", "create secret generic"),
    Broken("no pull secret", lambda site: site.without(REGISTRY), "secrets", FAILED,
           "no secret 'registry' in namespace doctor", "create secret docker-registry registry --docker-server="),
    Broken("an image by tag", changing(job={"image": "radiffuse.test/train:1"}), "image", WARNING,
           "radiffuse.test/train:1 is named by a tag", "@sha256:"),
    Broken("no service account", lambda site: site.without(TRAINER), "service account", FAILED,
           "there is no 'trainer'", "kubectl --namespace doctor create serviceaccount trainer"),
    Broken("no runtime class", lambda site: site.without(RUNTIME_CLASS), "runtime class", FAILED,
           "there is no 'doctor-runtime'", "set runtime_class to one that"),
    Broken("no priority class", lambda site: site.without(PRIORITY_CLASS), "priority class", FAILED,
           "there is no 'doctor-priority'", "set priority_class to one that"),
    Broken("a small quota", lambda site: site.with_(quota(**{"requests.nvidia.com/gpu": "8"})), "quota", FAILED,
           "quota team has requests.nvidia.com/gpu 8, the job needs 64", "ask who runs the cluster for more"),
    Broken("a small limit", lambda site: site.with_(limit_range(memory="64Gi")), "quota", FAILED,
           "limit range team has memory 64Gi at most for each container, the job needs 512Gi", "ask who runs"),
    Broken("no GPUs", with_nodes(f"status.{GPU}", None, CAPACITY["nvidia.com/gpu"], "gpu-0", "gpu-1"), "GPUs", FAILED,
           "none of 2 nodes has nvidia.com/gpu", "install the vendor's device plugin"),
    Broken("a node with fewer GPUs", with_nodes(f"status.{GPU}", "20", CAPACITY["nvidia.com/gpu"], "gpu-1"), "gang",
           FAILED, "1 of 2 nodes hold a pod of .* and the job needs 2: 1 with nvidia.com/gpu 20",
           "--set-job nodes=2 --set-job gpus_per_node=20"),
    Broken("a node with less memory", with_nodes("status.allocatable|memory", "100Gi", CAPACITY["memory"], "gpu-0"),
           "gang", FAILED, "1 with memory 100Gi", "--set-job nodes=1 --set-job gpus_per_node=32"),
    Broken("a cordoned node", with_nodes("spec.unschedulable", True, None, "gpu-0"), "gang", FAILED,
           "the job needs 2: 1 cordoned", "add nodes, or use what fits: --set-job nodes=1"),
    Broken("a label that no node has", changing(job={"node_selector": {"zone": "b"}}), "gang", FAILED,
           "0 of 2 nodes hold .* 2 without the label zone=b", "add nodes, or change tolerations, node_selector"),
    Broken("no queue", lambda site: site.without(QUEUE), "queue", FAILED,
           "there is no LocalQueue 'team-a' in namespace doctor", "get localqueues` lists"),
    Broken("a stopped queue", lambda site: site.instead({**QUEUE, "status": INACTIVE}, QUEUE), "queue", FAILED,
           "team-a takes no jobs: ClusterQueue gpus is stopped", "kubectl describe clusterqueue gpus"),
    Broken("a kind that Kueue does not manage", lambda site: site.instead(kueue_configuration("batch/job"),
           kueue_configuration("kubeflow.org/pytorchjob")), "queue integration", FAILED,
           "Kueue does not manage kubeflow.org/pytorchjob", "add kubeflow.org/pytorchjob to integrations.frameworks"),
    Broken("no workload priority", lambda site: site.without(WORKLOAD_PRIORITY), "workload priority", FAILED,
           "there is no WorkloadPriorityClass 'doctor-urgent'", "set workload_priority to one"),
    Broken("no store settings", changing(environment={"MINIO_SECRET_KEY": ""}), "store settings", FAILED,
           "MINIO_SECRET_KEY is not set, nor MINIO_SECRET_KEY_FILE", "set it to reach your store"),
    Broken("a store that is down", changing(environment={"MINIO_ENDPOINT": "127.0.0.1:1"}), "store", FAILED,
           r"cannot reach the store at 127\.0\.0\.1:1 .*refused", "check MINIO_ENDPOINT"),
    Broken("a store without TLS", changing(environment={"MINIO_SECURE": "true"}), "store", FAILED,
           "no trusted TLS connection to 127", "MINIO_SECURE=false for a store without TLS"),
    Broken("a clock that is off", behind_clock(-300), "store clock", WARNING,
           r"the store's clock is (299|300|301) s behind this one's", "set both clocks by NTP"),
    Broken("a clock that is far off", behind_clock(1200), "store clock", FAILED,
           r"the store's clock is (1199|1200|1201) s ahead of this one's, and it refuses", "set both clocks by NTP"),
    Broken("a wrong key here", changing(environment={"MINIO_SECRET_KEY": "wrong-key-wrong-key"}), "store buckets",
           FAILED, "refused access to s3://datasets", "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"),
    Broken("no bucket", without_bucket, "store buckets", FAILED,
           "there are no buckets prompts", "radiffuse store init"),
    Broken("a wrong key there", with_secret(MINIO_SECRET_KEY="d3Jvbmcta2V5LXdyb25nLWtleQ=="), "store of the pods",
           FAILED, "the store does not accept the keys in the secret 'radiffuse-store'", "put those of an account"),
    Broken("another store there", with_secret(MINIO_ENDPOINT="b3RoZXI6OTAwMA=="), "store of the pods", WARNING,
           "names another store than MINIO_ENDPOINT does", "give both the same address"),
    Broken("no KFP", changing(kfp_endpoint="127.0.0.1:1"), "KFP", FAILED,
           "http://127.0.0.1:1/apis/v2beta1/healthz does not answer", "check --kfp-endpoint"),
    Broken("an old KFP", with_older_kfp, "KFP", FAILED, r"KFP 1\.8\.5", "install KFP 2.17"),
    Broken("steps without rights", without_rights_of_steps, "KFP account", FAILED,
           f"system:serviceaccount:{NAMESPACE}:pipeline-runner may not get, .* pytorchjobs; list, watch events",
           r"- {apiGroups: \[kubeflow.org\]"),
    Broken("no PodMonitor", lambda site: site.without(POD_MONITOR), "PodMonitor", WARNING,
           f"no PodMonitor in namespace {NAMESPACE} selects", "podMonitor.enabled"),
    Broken("a PodMonitor that nobody picks", lambda site: site.instead(OTHER_LABEL, POD_MONITOR), "Prometheus", WARNING,
           "no Prometheus picks", "doctor/main wants release=monitoring on a PodMonitor"),
    Broken("no Prometheus", lambda site: site.without(PROMETHEUS), "Prometheus", WARNING,
           "the cluster has no Prometheus", "make one"),
)  # fmt: skip
ALSO = {
    # What these leave nothing of for others to find; every other check says what it says of the healthy cluster.
    "a right that is needed": {"dry run": Verdict.skipped},
    "no PodMonitor": {"Prometheus": Verdict.skipped},
}


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_in_a_broken_cluster_the_right_check_says_so_and_no_other(site: Site, cluster: Broken) -> None:
    with cluster.breaking(site):
        results = site.examine()
    expected = HEALTHY | {cluster.check: cluster.verdict} | ALSO.get(cluster.name, {})
    if cluster.verdict is FAILED:
        expected |= dict.fromkeys(dependents(cluster.check), Verdict.skipped)
    assert {name: result.verdict for name, result in results.items()} == expected, told(results)
    finding = results[cluster.check].finding
    assert re.search(cluster.text, finding.text), finding
    assert re.search(cluster.fix, finding.fix), finding
    for name in dependents(cluster.check) if cluster.verdict is FAILED else ():
        assert results[name].finding.text == f"not looked at, since {cluster.check} failed"


def dependents(name: str) -> set[str]:
    """The checks that say nothing once that one has failed."""
    found = {check.name for check in CHECKS if name in check.needs}
    return found | {each for other in found for each in dependents(other)}


def told(results: dict[str, Result]) -> str:
    return "\n".join(
        f"{result.verdict} {name}: {result.finding.text} -> {result.finding.fix}" for name, result in results.items()
    )


def test_the_command_prints_a_document_with_no_secret_in_it(site: Site) -> None:
    site.environment["MINIO_SECRET_KEY"] = "a-wrong-key-of-a-store"
    given = ("--kubeconfig", str(site.kubeconfig), "--job", json.dumps(site.job), "--kfp-endpoint", site.kfp_endpoint)
    ended = CliRunner().invoke(app, ["doctor", *given, "--json"], env=site.environment)
    assert ended.exit_code == 1, ended.output
    document = json.loads(ended.stdout)
    assert (document["server"], document["namespace"]) == (site.plane.server, NAMESPACE)
    assert document["is_ready"] is False and document["counts"]["failed"] == 1
    (found,) = [check for check in document["checks"] if check["verdict"] == "failed"]
    assert found["name"] == "store buckets" and "MINIO_SECRET_KEY" in found["fix"]
    shown = ended.output
    settings = site.store.settings
    token = yaml.safe_load(site.kubeconfig.read_text())["users"][0]["user"]["token"]
    assert [word for word in (settings.secret_key, settings.access_key, token, "a-wrong-key") if word in shown] == []


def test_a_trainjob_is_examined_where_trainer_and_jobset_run(
    control_plane: ControlPlane, site: Site, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("trainer")  # not before, since its webhooks would answer to the tests above
    site.job |= {"backend": "trainjob"} | NO_QUEUE
    results = site.examine()
    expected = HEALTHY | {"init container": Verdict.skipped}
    assert {name: result.verdict for name, result in results.items()} == expected, told(results)
    assert results["operator"].finding.text.count("/") == 2
