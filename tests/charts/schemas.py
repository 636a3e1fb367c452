"""What Kubernetes' own schemas and those of the operators' custom resources say of an object; unknown fields refused.

Rules in CEL (`x-kubernetes-validations`) are left to the live API, which test_chart.py of the control plane asks.
"""

import functools
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

from tests.cluster.build import manifests

Object = dict[str, Any]
VERSIONS = tuple(f"1.{minor}.0" for minor in range(30, 38))
"""Those that the chart's kubeVersion allows, up to the newest one that `kubernetes-validate` has schemas of."""
CUSTOM_RESOURCES = {
    "training-operator": "manifests/base/crds/kubeflow.org_pytorchjobs.yaml",
    "trainer": "manifests/base/crds/*_*.yaml",
    "jobset": "config/components/crd/bases/*_*.yaml",
    "prometheus-operator": "example/prometheus-operator-crd/*_pod*.yaml",
    "prometheus-operator-rules": "example/prometheus-operator-crd/*_prometheusrules.yaml",
    "kueue": "config/components/crd/bases/*_*.yaml",
}
"""Product, and where in its source its schemas lie."""


def kubernetes_problems(document: Object, version: str) -> list[str]:
    """What the strict schemas of one version of Kubernetes find; raises KeyError for a kind that it does not have."""
    group, _, api_version = document["apiVersion"].rpartition("/")
    name = "-".join(part for part in (document["kind"].lower(), group.partition(".")[0], api_version) if part)
    return _problems(_kubernetes_validator(version, name), document)


@functools.cache
def _kubernetes_validator(version: str, name: str) -> jsonschema.Draft202012Validator:
    schema, registry = _kubernetes_schema(version, name), _kubernetes_definitions(version)
    return jsonschema.Draft202012Validator(schema.contents, registry=schema @ registry)


@functools.cache
def _kubernetes_definitions(version: str) -> Registry[Any]:
    return _kubernetes_schema(version, "_definitions") @ Registry()


def _kubernetes_schema(version: str, name: str) -> Resource[Any]:
    path = resources.files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict/{name}.json"
    if not path.is_file():
        raise KeyError(f"Kubernetes {version} has no {name}")
    return Resource.from_contents(json.loads(path.read_text(encoding="utf-8")))


def custom_problems(document: Object) -> list[str]:
    """What the schema of the object's custom resource finds; raises KeyError for a kind that no operator here has."""
    kind = (document["apiVersion"], document["kind"])
    if kind not in custom_schemas():
        raise KeyError(f"no custom resource {' '.join(kind)}; known are {sorted(custom_schemas())}")
    return _problems(jsonschema.Draft4Validator(custom_schemas()[kind]), document)


@functools.cache
def custom_schemas() -> dict[tuple[str, str], Object]:
    """(apiVersion, kind) -> its schema, which refuses fields that it does not name."""
    found = {}
    for definition in custom_resource_definitions():
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}  # the API's own, checked as such
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def custom_resource_definitions(*products: str) -> Iterator[Object]:
    """Those of the products named, or of all."""
    for name, pattern in CUSTOM_RESOURCES.items():
        product = name.removesuffix("-rules")
        if not products or product in products:
            for path in sorted(manifests(product).glob(pattern)):
                yield yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def strict(schema: Object) -> Object:
    """A structural OpenAPI schema as a JSON schema that refuses what the API would drop without a word."""
    known = dict(schema)
    if "properties" in schema:
        known["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        known["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        known["additionalProperties"] = strict(schema["additionalProperties"])
    elif _drops_unknown(schema):
        known["additionalProperties"] = False
    if schema.get("nullable") and "type" in schema:
        known["type"] = [schema["type"], "null"]
    return known


def _drops_unknown(schema: Object) -> bool:
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return schema.get("type") == "object" and not open_ended


def _problems(validator: Any, document: Object) -> list[str]:
    return [f"{_where(error)}: {error.message}" for error in validator.iter_errors(document)]


def _where(error: jsonschema.ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path) or "(root)"
