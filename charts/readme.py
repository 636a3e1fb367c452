"""The chart's README: how to install it, and a line for every value."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from charts.schema import key_of
from charts.values import ChartValues
from charts.values_file import meaning
from radiffuse.config import RunConfig

INTRODUCTION = """# The chart radiffuse

What a cluster with Kubeflow needs to train with radiffuse: the launcher's account and rights, the job document, the
compiled pipelines, metrics, alerts and a dashboard, network policies, queues; and for those without Kubeflow Pipelines
a Job that prepares data and trains. It installs no CRD, asks the cluster nothing while it renders (Argo CD), makes no
password, and every pod keeps to restricted Pod Security.

    helm install radiffuse charts/radiffuse --namespace radiffuse --create-namespace \\
      --set images.train.registry=registry.example.org --set images.pipeline.registry=registry.example.org
    helm test radiffuse --namespace radiffuse --logs

Helm 4, Kubernetes 1.30 or later. `helm install` prints the next commands, `helm test` says what the cluster lacks.
[docs/install.md](../../docs/install.md) goes through the modes, upgrades and removal; each mode has a file of values in
`charts/radiffuse/ci/` of the repository, and `examples/first-run.yaml` trains on any cluster
([first run](../../docs/first-run.md)).

## Values

A key is in camelCase; inside `job.template` and `job.config.document` keys are those of radiffuse's own documents. A
wrong value is refused by its name before anything is sent. `null` is "not set". In Helm's `--set`, text that looks like
a number needs `--set-string`.
"""
END = """
Written by `make generate` from `charts/values.py` and `charts/readme.py`.
"""


def readme() -> str:
    """The page."""
    return "\n".join([INTRODUCTION, *_tables()]) + END


def _tables() -> Iterator[str]:
    values = ChartValues()
    schema = ChartValues.model_json_schema(by_alias=True)
    single = [row for name in _leaves(values) for row in _rows(values, name, schema, "", schema["$defs"])]
    yield _table("The release", "Names, labels, registry, and what is not ours.", single)
    for name, field in type(values).model_fields.items():
        section = getattr(values, name)
        if isinstance(section, BaseModel):
            rows = [*_rows(values, name, schema, "", schema["$defs"])]
            yield _table(f"`{key_of(name, field)}`", meaning(field, section), rows)


def _leaves(values: BaseModel) -> list[str]:
    return [name for name in type(values).model_fields if not isinstance(getattr(values, name), BaseModel)]


def _table(title: str, lead: str, rows: list[str]) -> str:
    return "\n".join(
        [f"### {title}", "", lead, "", "| value | takes | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _rows(
    values: BaseModel, name: str, record: dict[str, Any], prefix: str, definitions: dict[str, Any]
) -> Iterator[str]:
    field, value = type(values).model_fields[name], getattr(values, name)
    path, node = f"{prefix}{key_of(name, field)}", record["properties"][key_of(name, field)]
    if isinstance(value, BaseModel):
        for each in type(value).model_fields:
            yield from _rows(value, each, definitions[_reference(node)], f"{path}.", definitions)
        return
    yield f"| `{path}` | {_takes(node)} | {_default(value)} | {meaning(field, value)} |"


def _reference(node: dict[str, Any]) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _takes(node: dict[str, Any]) -> str:
    """What a value looks like, in a few words."""
    if "$ref" in node:
        return "a run's configuration" if _reference(node) == RunConfig.__name__ else "settings"
    if "anyOf" in node:
        return " or ".join(_takes(option) for option in node["anyOf"] if option.get("type") != "null")
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"])
    kind = node["type"]
    if kind == "array":
        return f"list: {_takes(node['items'])}"
    if kind == "object":
        return "object" if node.get("additionalProperties") is True else "map"
    if kind == "integer":
        return f"{node['minimum']} to {node['maximum']}" if "maximum" in node else f"≥ {node['minimum']}"
    return str(node.get("format", {"string": "text", "boolean": "true, false"}[kind]))


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "none" if value in ({}, (), []) else f"`{value if isinstance(value, str) else json.dumps(value)}`"
