"""Every object that the chart makes in each of its modes, against the schemas of its readers and against our rules."""

import re
from typing import Any

import pytest

from radiffuse.cluster.permissions import DOCTOR_CLUSTER_RIGHTS, DOCTOR_RIGHTS, rights
from tests.charts.pod_security import containers, problems
from tests.charts.rendering import MODES, NAMESPACE, Object, identity, of_kind, pod_specs, template, values_of
from tests.charts.schemas import VERSIONS, custom_problems, custom_schemas, kubernetes_problems
from tests.cluster_model.jobs import make_job, pod_templates

pytestmark = [pytest.mark.charts, pytest.mark.parametrize("mode", MODES)]

CLUSTER_WIDE = {
    *("ClusterQueue", "ResourceFlavor", "Topology", "WorkloadPriorityClass"),
    *("ClusterRole", "ClusterRoleBinding"),
}
UNNAMED = {"fullnameOverride": None, "kueue": {"localQueue": {"name": None}}, "operatorInit": {"enabled": False}}
"""Without the names that whoever installs the chart decides, and without the one file that all operators share."""
GRANTED = {
    "Role": {"-launcher": rights(), "-doctor": DOCTOR_RIGHTS},
    "ClusterRole": {"-doctor": DOCTOR_CLUSTER_RIGHTS},
}
"""Kind -> end of the name -> what such a role grants."""
SECRET_NAME = re.compile(r"(?i)secret|token|passw|credential|access_?key")
SECRET_VALUE = re.compile(r"AKIA[0-9A-Z]{12}|hf_\w{20}|-----BEGIN|eyJ[\w-]{10}|ghp_\w{20}|minioadmin|changeme")


def is_custom(document: Object) -> bool:
    return (document["apiVersion"], document["kind"]) in custom_schemas()


def named(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Only where something was found."""
    return {name: each for name, each in found.items() if each}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_valid_in_every_version_of_kubernetes(mode: str, version: str) -> None:
    found = {each["kind"]: each for each in template(mode=mode)}
    own = [each for each in template(mode=mode) if not is_custom(each)]
    bare = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": each["metadata"]} for each in found.values()]
    assert own
    assert named({identity(each): kubernetes_problems(each, version) for each in [*own, *bare]}) == {}


def test_each_custom_resource_is_valid_for_its_operator(mode: str) -> None:
    assert named({identity(each): custom_problems(each) for each in template(mode=mode) if is_custom(each)}) == {}


def test_no_two_objects_have_one_name(mode: str) -> None:
    names = [identity(each) for each in template(mode=mode)]
    assert len(names) == len(set(names))


def test_nothing_in_an_object_is_null(mode: str) -> None:
    """The API would drop it without a word, and a template had meant something."""
    assert named({identity(each): list(nulls(each)) for each in template(mode=mode)}) == {}


def nulls(node: Any, path: str = "") -> list[str]:
    if isinstance(node, dict):
        return [found for name, each in node.items() for found in nulls(each, f"{path}.{name}")]
    if isinstance(node, list):
        return [found for index, each in enumerate(node) for found in nulls(each, f"{path}.{index}")]
    return [path] if node is None else []


def test_each_object_says_where_it_belongs(mode: str) -> None:
    ours = template({"extraObjects": []}, mode=mode)
    assert len(ours) == len(template(mode=mode)) - len(values_of(mode)["extraObjects"])
    for each in ours:
        metadata = each["metadata"]
        assert ("namespace" in metadata) != (each["kind"] in CLUSTER_WIDE), identity(each)
        assert metadata["labels"]["app.kubernetes.io/instance"] == "radiffuse", identity(each)
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm", identity(each)


def test_two_releases_share_no_object(mode: str) -> None:
    """In two namespaces under one name, and in one namespace under two."""
    places = ("radiffuse", "radiffuse"), ("radiffuse", "elsewhere"), ("second", "radiffuse")
    first, second, third = (
        {identity(each) for each in template(UNNAMED | {"extraObjects": []}, mode=mode, release=name, namespace=place)}
        for name, place in places
    )
    assert first & second == first & third == set()


def test_each_pod_is_as_restricted_as_it_can_be(mode: str) -> None:
    assert named({name: problems(spec) for name, spec in pod_specs(template(mode=mode)).items()}) == {}


def test_only_containers_that_ask_for_a_token_have_one(mode: str) -> None:
    for name, spec in pod_specs(template(mode=mode)).items():
        tokens = {each["name"] for each in spec.get("volumes", []) if "serviceAccountToken" in str(each)}
        holders = [
            container["name"]
            for container in containers(spec)
            if tokens & {mount["name"] for mount in container.get("volumeMounts", [])}
        ]
        assert not spec.get("automountServiceAccountToken"), name
        assert set(holders) <= {"launcher", "doctor"}, name


@pytest.mark.parametrize("kind", GRANTED)
def test_rights_are_those_that_the_code_lists_and_none_is_a_wildcard(mode: str, kind: str) -> None:
    for role in of_kind(template(mode=mode), kind):
        (listed,) = [each for suffix, each in GRANTED[kind].items() if role["metadata"]["name"].endswith(suffix)]
        assert [without_secret_names(each) for each in role["rules"]] == [
            without_secret_names(right.rule()) for right in listed
        ]
        assert "*" not in str(role["rules"])


def test_only_secrets_that_the_values_name_may_be_read(mode: str) -> None:
    values = values_of(mode)
    store, pull = values["store"], values["imagePullSecrets"]
    named = {store["secret"], store["caSecret"], *pull, *values["rbac"]["secretNames"]} - {None}
    rules = [each for role in of_kind(template(mode=mode), "Role") for each in role["rules"]]
    assert {tuple(sorted(each["resourceNames"])) for each in rules if "secrets" in each["resources"]} == {
        tuple(sorted(named))
    }


def without_secret_names(rule: Object) -> Object:
    return {name: each for name, each in rule.items() if name != "resourceNames" or "secrets" not in rule["resources"]}


def test_no_object_holds_a_secret(mode: str) -> None:
    for each in template(mode=mode):
        assert each["kind"] != "Secret"
        assert not SECRET_VALUE.search(str(each)), identity(each)
    for spec in pod_specs(template(mode=mode)).values():
        for entry in [entry for container in containers(spec) for entry in container.get("env", [])]:
            assert "value" not in entry or not SECRET_NAME.search(entry["name"]), entry["name"]


def test_training_pods_match_what_selects_them(mode: str) -> None:
    """Policies, monitors and budgets that the chart writes for pods that radiffuse itself makes."""
    labels = {name: each for job in made_jobs() for name, each in job["metadata"]["labels"].items()}
    for each in template(mode=mode):
        selector = each.get("spec", {}).get("podSelector") or each.get("spec", {}).get("selector")
        if isinstance(selector, dict) and selector.get("matchLabels", {}).get("app.kubernetes.io/managed-by"):
            assert selector["matchLabels"].items() <= labels.items(), identity(each)


def made_jobs() -> list[Object]:
    return [
        template for backend in ("pytorchjob", "trainjob") for template in pod_templates(make_job(f"backend={backend}"))
    ]


def test_nothing_leaves_the_releases_namespaces(mode: str) -> None:
    values = values_of(mode)
    dashboards = values["monitoring"]["dashboard"]["namespace"]
    named = {NAMESPACE, values["kfp"]["namespace"], *values["kfp"]["profiles"], dashboards, None}
    assert {each["metadata"].get("namespace") for each in template(mode=mode)} <= named
