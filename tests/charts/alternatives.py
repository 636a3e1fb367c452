"""Another allowed value for any of the chart's values, found in the schema."""

from collections.abc import Iterator
from typing import Any

import jsonschema

Schema = dict[str, Any]

TEXTS = (
    *("other", "other-name", "7", "7m", "7Gi", "/other", "OTHER", "1.2.3", "other.example:5000"),
    *(
        "https://other.example/page",
        "owner/name@0123abc",
        "s3://datasets/few/0123456789abcdef",
        "section.field=1",
        f"sha256:{'0' * 64}",
    ),
)
OBJECTS: tuple[Any, ...] = (
    {"other.example/name": "other"},
    {"other.example/name": "7"},
    {"OTHER": "other"},
    {"level": "other.example/rack"},
    {"key": "other"},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}},
)
"""The last one is an object of Kubernetes, for places that take any."""
FREE = OBJECTS[-1:]


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the values themselves: what is neither a section nor a map with something in it."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def at(values: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path."""
    return values if not path else at(values[path[0]], path[1:])


def alternatives(schema: Schema, path: tuple[str, ...], present: Any) -> list[Any]:
    """Other values that the schema allows at a path; raises KeyError where it has no such path."""
    node = find(schema, schema, path)
    whole = node | {"$defs": schema["$defs"]}
    allowed = jsonschema.Draft202012Validator(whole)
    return [each for each in _candidates(schema, node) if each != present and allowed.is_valid(each)]


def find(schema: Schema, node: Schema, path: tuple[str, ...]) -> Schema:
    """The part of the schema that a path leads to."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if not path:
        return node
    if path[0] in node.get("properties", {}):
        return find(schema, node["properties"][path[0]], path[1:])
    free = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
    inner = next((each for each in free if isinstance(each, dict)), None)
    if inner is None:
        raise KeyError(path[0])
    return find(schema, inner, path[1:])


def _candidates(schema: Schema, node: Schema) -> Iterator[Any]:
    for option in node.get("anyOf", [node]):
        option = find(schema, option, ())
        kinds = option.get("type", [])
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield from _of_kind(schema, option, kind)


def _of_kind(schema: Schema, node: Schema, kind: str) -> Iterator[Any]:
    if "enum" in node:
        yield from (each for each in node["enum"] if each is not None)
    elif kind == "boolean":
        yield from (True, False)
    elif kind in ("integer", "number"):
        yield from (17, 1700, node.get("minimum", 1))
    elif kind == "string":
        yield from TEXTS
    elif kind == "array":
        yield from ([each] for each in (*_candidates(schema, node["items"]), *FREE))
    elif kind == "object":
        yield from OBJECTS
        if any(name in node.get("properties", {}) for name in ("name", "train")):
            yield {"name": "other"}
