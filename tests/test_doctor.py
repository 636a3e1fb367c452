"""What the doctor makes of what it sees; tests/cluster/control_plane/test_doctor.py shows it real clusters."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from minio import Minio
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster.job import job_preset_names
from radiffuse.cluster.kinds import Object, Resource
from radiffuse.cluster.permissions import DOCTOR_CLUSTER_RIGHTS, DOCTOR_RIGHTS, WEBHOOK_NAMES
from radiffuse.cluster.resources import LIMIT_RANGES, NODES, RESOURCE_QUOTAS, WEBHOOKS
from radiffuse.doctor.api_checks import api_server
from radiffuse.doctor.checks import CHECKS
from radiffuse.doctor.examine import Check, Result, examine
from radiffuse.doctor.finding import Finding, Verdict, failed, ok, skipped, warning
from radiffuse.doctor.namespace_checks import quota
from radiffuse.doctor.node_checks import gang, gpus
from radiffuse.doctor.operator_checks import certificate
from radiffuse.doctor.prometheus_checks import selects
from radiffuse.doctor.quantity import quantity, shown
from radiffuse.doctor.report import as_json, lines, sum_line
from radiffuse.doctor.store_checks import buckets
from radiffuse.doctor.store_probe import StoreProbe
from radiffuse.doctor.surroundings import Surroundings, examined_job
from radiffuse.embedded_store import EmbeddedStore
from radiffuse.errors import ConfigError, StorageError
from radiffuse.storage import BUCKETS, Store
from radiffuse.store_settings import StoreSettings
from tests.cluster.certificates import authority_bundle
from tests.conftest import StoreServer

NOWHERE = Surroundings(examined_job("2x32"), "train")


class Seen(Surroundings):
    """A cluster of given objects."""

    def __init__(self, job: str, objects: dict[Resource, list[Object]], *overrides: str) -> None:
        super().__init__(examined_job(job, overrides), "train")
        self._objects = objects

    def find(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        found = (each for each in self._objects.get(resource, []) if each["metadata"]["name"] == name)
        return next(found, None)

    def list_items(self, resource: Resource, namespace: str | None, labels: str = "") -> list[Object]:
        return self._objects.get(resource, [])


def node(name: str = "a", *, taints: tuple[Object, ...] = (), ready: str = "True", **allocatable: str) -> Object:
    has = {"cpu": "256", "memory": "2Ti", "nvidia.com/gpu": "32", **allocatable}
    return {
        "metadata": {"name": name, "labels": {"zone": "a"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, *taints]},
        "status": {"allocatable": has, "conditions": [{"type": "Ready", "status": ready}]},
    }


def on(nodes: list[Object], *overrides: str, job: str = "2x32") -> Finding:
    return gang(Seen(job, {NODES: nodes}, *overrides))


def made_of(**looks: Callable[[Surroundings], Finding]) -> list[Check]:
    return [Check(name, look, "") for name, look in looks.items()]


def verdicts(checks: list[Check], *left_out: str) -> dict[str, Finding]:
    return {result.name: result.finding for result in examine(NOWHERE, checks, left_out)}


@pytest.mark.parametrize("preset", job_preset_names())
def test_every_preset_can_be_examined_without_a_run(preset: str) -> None:
    job = examined_job(preset)
    assert job.run.total_batch_size == job.world_size
    assert examined_job(preset, ("backend=trainjob",)).backend == "trainjob"


@pytest.mark.parametrize("words", [["--job", "nonsense"], ["--set-job", "nodes=0"], ["--skip", "nonsense"]])
def test_a_wrong_job_or_check_is_misuse(words: list[str]) -> None:
    ended = CliRunner().invoke(app, ["doctor", *words])
    assert isinstance(ended.exception, ConfigError)


def test_without_a_cluster_or_a_store_it_says_so_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MINIO_ENDPOINT", "MINIO_ENDPOINT_FILE"):
        monkeypatch.delenv(name, raising=False)
    ended = CliRunner().invoke(app, ["doctor", "--kubeconfig", str(tmp_path / "none")])
    assert ended.exit_code == 1
    assert re.search(r"^FAILED   kubeconfig +no kubeconfig at .*none", ended.stdout)
    assert "not looked at, since kubeconfig failed" in ended.stdout
    assert "not looked at, since store settings failed" in ended.stdout
    assert ended.stdout.endswith("2 failed, 29 skipped: not ready\n")


def test_a_check_is_not_made_after_one_that_it_needs_has_failed_or_was_left_out() -> None:
    asked: list[str] = []

    def look(name: str, finding: Finding) -> Callable[[Surroundings], Finding]:
        return lambda _: (asked.append(name), finding)[1]

    checks = [
        Check("a", look("a", failed("broken", "mend it")), ""),
        Check("b", look("b", ok("")), "", ("a",)),
        Check("c", look("c", ok("")), "", ("b",)),
        Check("d", look("d", skipped("")), ""),
        Check("e", look("e", ok("")), "", ("d",)),
    ]
    found = verdicts(checks)
    assert asked == ["a", "d", "e"]
    assert {found["b"].text, found["c"].text} == {"not looked at, since a failed"}
    found = verdicts(checks, "d")
    assert (found["d"].text, found["e"].text) == ("left out, as asked for", "not looked at, since d was left out")


def test_a_check_that_does_not_answer_or_is_at_fault_stops_no_other() -> None:
    slow = Check("slow", lambda _: (time.sleep(30), ok(""))[1], "", seconds=0.1)
    start = time.monotonic()
    found = verdicts([slow, *made_of(wrong=lambda _: ok(str(1 / 0)), last=lambda _: ok("here"))])
    assert time.monotonic() - start < 5
    assert found["slow"] == failed("no answer within 0 s", "look whether the server is up, and try again")
    assert found["wrong"].text == "this check is at fault: ZeroDivisionError"
    assert found["last"] == ok("here")


def test_what_an_error_says_to_do_becomes_the_fix() -> None:
    def look(_: Surroundings) -> Finding:
        raise StorageError("no bucket 'models'; create it; then go on")

    assert verdicts(made_of(store=look))["store"] == failed("no bucket 'models'", "create it; then go on")


def test_checks_have_one_name_each_and_need_only_earlier_ones() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for index, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:index]), check.name
        assert check.about


def test_what_the_doctor_may_look_at_changes_nothing_and_is_no_wildcard() -> None:
    for right in (*DOCTOR_RIGHTS, *DOCTOR_CLUSTER_RIGHTS):
        assert set(right.verbs) <= {"get", "list"} or right.resource.plural == "localsubjectaccessreviews"
        assert right.resource.plural not in ("secrets", "*") and right.resource.group != "*"
        assert right.without is not None


def test_a_line_has_a_mark_and_below_it_what_to_do() -> None:
    result = Result("store", warning("odd", "first\nthen"))
    assert lines(result, 7, has_colour=False) == [
        "warning  store    odd",
        "                  -> first",
        "                     then",
    ]
    assert lines(result, 7, has_colour=True)[0].startswith("\x1b[33mwarning\x1b[0m  store")


def test_the_last_line_and_the_document_count_the_verdicts() -> None:
    results = [Result("a", ok("fine")), Result("b", failed("broken", "mend it")), Result("c", skipped("unseen"))]
    assert sum_line(results) == "1 ok, 0 warnings, 1 failed, 1 skipped: not ready"
    assert sum_line(results[:1]).endswith(": ready to train")
    unseen = Result("d", Finding(Verdict.skipped, "unseen", is_hidden=True))
    assert sum_line([*results[:1], unseen]).endswith(": ready to train, as far as this account may look")
    left_out = list(examine(NOWHERE, made_of(e=lambda _: ok("fine"), f=lambda _: ok("fine")), ["f"]))
    assert sum_line(left_out).endswith(": ready to train, but for what was left out")
    document = json.loads(as_json(results, "https://x", "train", "2x32"))
    assert document["counts"] == {"ok": 1, "warning": 0, "failed": 1, "skipped": 1}
    assert document["checks"][1] == {"name": "b", "verdict": "failed", "finding": "broken", "fix": "mend it"}
    assert document["checks"][0]["fix"] is None and document["is_ready"] is False


@pytest.mark.parametrize(
    ("written", "meant"), [("0", 0), (4, 4), ("500m", 0.5), ("1Gi", 2**30), ("1e3", 1000), ("many", None), (None, None)]
)
def test_quantities_are_read_as_servers_write_them(written: Any, meant: float | None) -> None:
    found = quantity({"hard": {"cpu": written}}, "hard", "cpu")
    assert (None if found is None else float(found)) == meant


def test_quantities_are_shown_in_their_usual_unit() -> None:
    memory, cores = quantity({"x": "1024Gi"}, "x"), quantity({"x": "1500m"}, "x")
    assert memory is not None and cores is not None
    assert (shown("memory", memory), shown("requests.cpu", cores)) == ("1Ti", "1500m")


def test_a_gang_fits_where_enough_nodes_hold_a_pod_each() -> None:
    assert on([node(), node("b")]).verdict is Verdict.ok
    assert on([node()]).fix == "add nodes, or use what fits: --set-job nodes=1 --set-job gpus_per_node=32"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (node(ready="False"), "1 not ready"),
        (node(taints=({"key": "team", "value": "x", "effect": "NoSchedule"},)), "1 with the taint team"),
        (node(taints=({"key": "team", "effect": "NoExecute"},)), "1 with the taint team"),
        (node(cpu="32"), "1 with cpu 32"),
        (node(**{"nvidia.com/gpu": "16"}), "1 with nvidia.com/gpu 16"),
    ],
)
def test_a_node_that_does_not_fit_is_counted_by_its_reason(other: Object, reason: str) -> None:
    found = on([node(), other])
    assert found.verdict is Verdict.failed
    assert found.text.endswith(f"and the job needs 2: {reason}")


def test_taints_that_the_job_bears_or_that_only_prefer_do_not_count() -> None:
    borne = node("b", taints=({"key": "team", "value": "x", "effect": "NoSchedule"},))
    prefers = node("c", taints=({"key": "old", "effect": "PreferNoSchedule"},))
    assert on([borne, prefers], "tolerations=[{key: team, value: x}]").verdict is Verdict.ok
    assert on([borne, prefers], "tolerations=[{key: team, value: y}]").verdict is Verdict.failed
    assert on([borne, prefers], "tolerations=[{effect: NoSchedule}]").verdict is Verdict.ok


def test_what_would_fit_instead_is_the_largest_job_of_such_processes() -> None:
    eight = {"nvidia.com/gpu": "8", "memory": "100Gi"}  # of 16Gi each: six
    nodes = [node(str(index), **eight) for index in range(4)]
    assert on(nodes).fix.endswith("--set-job nodes=4 --set-job gpus_per_node=6")
    assert "not one process" in on([node(cpu="1")]).fix
    cpus = on([node(memory="3Gi") | {"spec": {}}], job="laptop-cluster")
    assert cpus.fix.endswith("--set-job nodes=1 --set-job processes_per_node=1")


def test_what_the_fix_of_a_gang_says_does_fit() -> None:
    nodes = [node("a", **{"nvidia.com/gpu": "12"}), node("b", cpu="20"), node("c", memory="700Gi")]
    words = re.findall(r"--set-job (\S+)", on(nodes).fix)
    assert on(nodes, *words).verdict is Verdict.ok


def test_gpus_are_counted_by_node() -> None:
    nodes = [node(), node("b"), node("c", **{"nvidia.com/gpu": "8"})]
    assert gpus(Seen("2x32", {NODES: nodes})).text == "2 nodes of 32 nvidia.com/gpu, 1 node of 8 nvidia.com/gpu"
    assert gpus(Seen("2x32", {NODES: []})).verdict is Verdict.failed
    assert gpus(Seen("laptop-cluster", {NODES: nodes})).verdict is Verdict.ok


@pytest.mark.parametrize(
    ("spec", "verdict"),
    [
        ({"hard": {"pods": "1"}}, Verdict.failed),
        ({"hard": {"limits.memory": "1Ti"}}, Verdict.ok),
        ({"hard": {"limits.memory": "1023Gi"}}, Verdict.failed),
        ({"hard": {"count/pytorchjobs.kubeflow.org": "0"}}, Verdict.failed),
        ({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}, Verdict.ok),
        ({"hard": {"cpu": "1"}, "scopes": ["NotTerminating", "NotBestEffort"]}, Verdict.failed),
        ({"hard": {"cpu": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, Verdict.ok),
        ({"hard": {"cpu": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, Verdict.failed),
    ],
)  # fmt: skip
def test_a_quota_counts_where_it_is_about_our_pods(spec: Object, verdict: Verdict) -> None:
    found = quota(Seen("2x32", {RESOURCE_QUOTAS: [{"metadata": {"name": "team"}, "spec": spec}]}))
    assert found.verdict is verdict


def test_a_quota_that_others_have_used_up_is_a_warning() -> None:
    limited = {"requests.nvidia.com/gpu": "100"}
    used = {"requests.nvidia.com/gpu": "40"}
    found = {"metadata": {"name": "team"}, "spec": {"hard": limited}, "status": {"hard": limited, "used": used}}
    finding = quota(Seen("2x32", {RESOURCE_QUOTAS: [found]}))
    assert finding.verdict is Verdict.warning
    assert finding.text == "quota team has requests.nvidia.com/gpu 60 left of 100, the job needs 64"


def test_a_limit_range_has_a_least_and_a_most() -> None:
    limits = [{"type": "Pod", "max": {"cpu": "8"}}, {"type": "Container", "min": {"cpu": "100"}}]
    found = quota(Seen("2x32", {LIMIT_RANGES: [{"metadata": {"name": "team"}, "spec": {"limits": limits}}]}))
    assert "cpu 8 at most for each pod" in found.text and "cpu 100 at least for each container" in found.text


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("v1.29.9", Verdict.failed), ("v1.30.0", Verdict.ok), ("v1.37.2-gke.1", Verdict.ok), ("v1.38.0", Verdict.warning),
     ("nginx", Verdict.failed)],
)  # fmt: skip
def test_kubernetes_is_as_old_as_the_manifests_are_checked_for(
    monkeypatch: pytest.MonkeyPatch, version: str, verdict: Verdict
) -> None:
    monkeypatch.setattr(Surroundings, "client", SimpleNamespace(version=lambda: version))
    assert api_server(NOWHERE).verdict is verdict


@pytest.mark.parametrize(("days", "verdict"), [(-1, Verdict.failed), (10.5, Verdict.warning), (31, Verdict.ok)])
def test_a_webhooks_certificate_is_to_last_a_month(days: float, verdict: Verdict) -> None:
    webhooks = [{"clientConfig": {"caBundle": authority_bundle(days)}}, {"clientConfig": {"caBundle": ""}}]
    name = {"name": WEBHOOK_NAMES["PyTorchJob"][0]}
    found = certificate(Seen("2x32", {WEBHOOKS: [{"metadata": name, "webhooks": webhooks[:1]}]}))
    assert found.verdict is verdict
    assert "in 10 days" in found.text or verdict is not Verdict.warning
    found = certificate(Seen("2x32", {WEBHOOKS: [{"metadata": name, "webhooks": webhooks}]}))
    assert found.text.endswith("has no certificate of an authority in its caBundle")


def test_selectors_match_as_kubernetes_says() -> None:
    labels = {"a": "1"}
    assert selects({}, labels) and not selects(None, labels)
    assert selects({"matchLabels": {"a": "1"}}, labels) and not selects({"matchLabels": {"a": "2"}}, labels)
    for operator, values, expected in (("In", ["1"], True), ("NotIn", ["1"], False), ("NotIn", ["2"], True)):
        assert selects({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}, labels) is expected
    assert selects({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, labels)
    assert selects({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, labels)


def test_the_probe_leaves_nothing_in_the_store(store_server: StoreServer) -> None:
    probe = StoreProbe(store_server.settings)
    assert probe.skew_seconds is None
    probe.greet()
    assert probe.skew_seconds is not None and abs(probe.skew_seconds) < 5
    probe.write_and_delete()
    left = [uri for bucket in BUCKETS for uri in Store(store_server.settings).list(f"s3://{bucket}/radiffuse-doctor")]
    assert left == []


def test_a_bucket_is_made_only_when_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, looking = examined_job("2x32"), Surroundings(examined_job("2x32"), "train")
    with EmbeddedStore(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        given = server.settings
        Minio(given.endpoint, given.access_key, given.secret_key, secure=False).remove_bucket("prompts")
        assert buckets(looking) == failed("there are no buckets prompts", "radiffuse store init")
        assert buckets(Surroundings(job, "train", may_create_buckets=True)) == ok("made prompts")
        assert buckets(looking) == ok("all there")


def test_a_store_that_does_not_answer_is_given_up_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot reach the store at 127\.0\.0\.1:1 "):
        StoreProbe(StoreSettings("127.0.0.1:1", "a", "b", secure=False)).greet()
    assert time.monotonic() - start < 5
