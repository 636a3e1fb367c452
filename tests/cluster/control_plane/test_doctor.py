"""The doctor in a cluster where all is well, and in clusters that each have one thing wrong with them."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster.permissions import rights
from radiffuse.doctor.checks import CHECKS
from radiffuse.doctor.examine import Result
from radiffuse.doctor.finding import Verdict
from radiffuse.embedded_store import EmbeddedStore
from tests.cluster.accounts import account
from tests.cluster.broken_clusters import ALSO, CLUSTERS, Broken
from tests.cluster.doctor_site import NAMESPACE, NO_QUEUE, Site, healthy_site
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane

pytestmark = pytest.mark.cluster

HEALTHY = {check.name: Verdict.ok for check in CHECKS} | {"pods": Verdict.skipped}
"""To an account that may make no pods, like every launcher's."""


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


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_in_a_broken_cluster_the_right_check_says_so_and_no_other(site: Site, cluster: Broken) -> None:
    with cluster.breaking(site):
        results = site.examine()
    expected = HEALTHY | {cluster.check: cluster.verdict} | ALSO.get(cluster.name, {})
    if cluster.verdict is Verdict.failed:
        expected |= dict.fromkeys(dependents(cluster.check), Verdict.skipped)
    assert {name: result.verdict for name, result in results.items()} == expected, told(results)
    finding = results[cluster.check].finding
    assert re.search(cluster.text, finding.text), finding
    assert re.search(cluster.fix, finding.fix), finding
    for name in dependents(cluster.check) if cluster.verdict is Verdict.failed else ():
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


@pytest.mark.usefixtures("trainer")  # the last test here, since its webhooks would answer to those above
def test_a_trainjob_is_examined_where_trainer_and_jobset_run(site: Site) -> None:
    site.job |= {"backend": "trainjob"} | NO_QUEUE
    results = site.examine()
    expected = HEALTHY | {"init container": Verdict.skipped}
    assert {name: result.verdict for name, result in results.items()} == expected, told(results)
    assert results["operator"].finding.text.count("/") == 2
