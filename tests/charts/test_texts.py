"""Text in values stays text, and no map or list of variables that the chart makes says a thing twice."""

import json
from collections.abc import Hashable
from typing import Any

import jsonschema
import pytest
import yaml

from tests.charts.alternatives import find, leaves
from tests.charts.pod_security import containers
from tests.charts.rendering import CHART, DEFAULTS, MODES, Object, merged, of_kind, pod_specs, rendered_text, template
from tests.charts.rendering import yaml_documents as documents

pytestmark = pytest.mark.charts

SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
LIKE_ANOTHER_TYPE = ("012", "12", "true", "null", "2026-11-23")
"""What YAML reads as a number, a truth value, nothing or a date, unless it is quoted."""
PLAIN = ("zzplain", "7331733")
"""A word, and a number for where a quantity is due, that stand for one of those."""
SIDES: dict[str, Object] = {
    "richest": {"store": {"endpoint": None}, "kfp": {"profiles": []}},
    "profiles": {"store": {"endpoint": None}, "kfp": {"mode": "multiUser"}, "serviceAccount": {"create": False}},
    "names of its own": {
        "fullnameOverride": None,
        "devStore": {"enabled": False},
        "podDisruptionBudget": {"devStore": {"enabled": False}},
        "kfp": {"profiles": []},
    },
}
"""Values over the richest mode, so that each text is used by one of them."""
COLLIDING: Object = {
    "pipelines": {"configMaps": False},
    "devStore": {"env": {"HOME": "/data"}},
    "job": {
        "podLabels": {"sidecar.istio.io/inject": "true"},
        "env": {"HOME": "/steps", "OMP_NUM_THREADS": "3", "RADIFFUSE_PROGRESS": "none", "RADIFFUSE_CACHE": "/steps"},
    },
}
"""A label and variables that the chart has values of its own for."""


class Unique(yaml.SafeLoader):
    """Refuses a key that a map has already."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        assert len(keys) == len(set(keys)), f"a key twice in {keys}"
        return super().construct_mapping(node, deep)


def takes(path: tuple[str, ...], value: Any) -> bool:
    """Whether the schema allows a value at a path."""
    schema = find(SCHEMA, SCHEMA, path) | {"$defs": SCHEMA["$defs"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def everywhere(text: str, side: Object, *, plain: bool) -> Object:
    """Values with a text, or what stands for it, wherever both may be: as a value, or as the one of a list."""
    values: Object = {}
    for path in leaves(DEFAULTS):
        choices = [(text, each) for each in PLAIN] + [([text], [each]) for each in PLAIN]
        fitting = [pair for pair in choices if takes(path, pair[0]) and takes(path, pair[1])]
        for value in [pair[plain] for pair in fitting[:1]]:
            for name in reversed(path):
                value = {name: value}
            values = merged(values, value)
    return merged(values, side)


def made(text: str, side: Object, *, plain: bool) -> list[Object]:
    """The objects of a release that is called so, is in a namespace called so, and has the text in all its values."""
    name = PLAIN[0] if plain else text
    values = everywhere(text, side, plain=plain)
    return template(values, mode="richest", release=name, namespace=name)


def comparable(node: Any, text: str) -> Any:
    """Objects with the text for what stands for it, with documents inside of ConfigMaps read, and without digests."""
    if isinstance(node, dict):
        kept = {name: each for name, each in node.items() if name != "radiffuse.org/job-document"}
        if kept.get("kind") == "Job":
            kept["metadata"] = kept["metadata"] | {"name": kept["metadata"]["name"].rpartition("-")[0]}
        read = {name: documents(each) if name.endswith(".yaml") else each for name, each in kept.items()}
        return {comparable(name, text): comparable(each, text) for name, each in read.items()}
    if isinstance(node, list):
        return [comparable(each, text) for each in node]
    for each in PLAIN if isinstance(node, str) else ():
        node = node.replace(each, text)
    return node


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("text", LIKE_ANOTHER_TYPE)
def test_text_that_looks_like_another_type_arrives_as_text(text: str, side: str) -> None:
    expected, found = (
        [json.dumps(comparable(each, text), sort_keys=True) for each in made(text, SIDES[side], plain=plain)]
        for plain in (True, False)
    )
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("text", LIKE_ANOTHER_TYPE)
def test_a_release_may_be_called_like_another_type(text: str) -> None:
    for each in template(release=text, namespace=text, mode="default"):
        assert isinstance(each["metadata"]["name"], str) and each["metadata"]["namespace"] == text
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == text


@pytest.mark.parametrize("mode", MODES)
def test_no_map_has_a_key_twice(mode: str) -> None:
    text = rendered_text(mode, {"pipelines": {"configMaps": False}})
    assert list(yaml.load_all(text, Loader=Unique))


def test_no_map_has_a_key_twice_where_values_repeat_the_charts_own() -> None:
    assert list(yaml.load_all(rendered_text("richest", COLLIDING), Loader=Unique))


@pytest.mark.parametrize("mode", MODES)
def test_no_container_has_a_variable_twice(mode: str) -> None:
    values = merged(COLLIDING, {"tests": {"enabled": True}})
    for name, spec in pod_specs(template(values, mode=mode)).items():
        for container in containers(spec):
            names = [entry["name"] for entry in container["env"]]
            assert len(names) == len(set(names)), f"{name} {container['name']}"


def test_what_values_say_of_the_charts_own_label_and_variables_holds() -> None:
    rendered = template(COLLIDING, mode="richest")
    (launcher,) = [each for each in rendered if each["kind"] == "Job"]
    pod = launcher["spec"]["template"]
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    for container in containers(pod["spec"]):
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert env.items() >= COLLIDING["job"]["env"].items()
    (store,) = [each for each in rendered if each["kind"] == "Deployment"]
    assert {"name": "HOME", "value": "/data"} in store["spec"]["template"]["spec"]["containers"][0]["env"]


def test_an_empty_text_in_values_wins_over_the_charts_own_and_over_common_ones() -> None:
    empty = dict.fromkeys(("HOME", "RADIFFUSE_CACHE", "RADIFFUSE_PROGRESS", "OMP_NUM_THREADS"), "")
    values: Object = {
        "commonLabels": {"team": "radiology"},
        "commonAnnotations": {"owner": "radiology"},
        "devStore": {"env": {"HOME": ""}},
        "serviceAccount": {"annotations": {"owner": ""}},
        "job": {"podLabels": {"team": ""}, "env": empty, "template": {"labels": {"team": ""}}},
    }
    rendered = template(values, mode="richest")
    (launcher,), (store,), (account,) = (of_kind(rendered, kind) for kind in ("Job", "Deployment", "ServiceAccount"))
    assert launcher["spec"]["template"]["metadata"]["labels"]["team"] == ""
    for container in containers(launcher["spec"]["template"]["spec"]):
        assert {entry["name"]: entry.get("value") for entry in container["env"]}.items() >= empty.items()
    assert {"name": "HOME", "value": ""} in store["spec"]["template"]["spec"]["containers"][0]["env"]
    assert account["metadata"]["annotations"]["owner"] == "" and account["metadata"]["labels"]["team"] == "radiology"
    (document,) = [each["data"]["job.yaml"] for each in rendered if "job.yaml" in each.get("data", {})]
    assert yaml.safe_load(document)["labels"]["team"] == ""


def test_what_is_to_outlive_the_release_may_say_so_to_helm() -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    values = {"serviceAccount": {"annotations": keep}, "devStore": {"persistence": {"annotations": keep}}}
    rendered = template(values, mode="richest")
    for kind in ("ServiceAccount", "PersistentVolumeClaim"):
        (kept,) = of_kind(rendered, kind)
        assert kept["metadata"]["annotations"].items() >= keep.items()
