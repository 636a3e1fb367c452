"""values.schema.json: what Helm refuses before anything is rendered, by the value's name."""

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from charts.values import ChartValues

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NUMBERS_TOO = ("CPU quantity", "memory quantity", "quantity")
"""Formats for which YAML's plain numbers are as good as text."""
DROPPED = ("title", "default", "format")
"""Titles repeat names, defaults are values.yaml's, and our formats are no words of JSON schema."""
PARENTS = {
    "global": {"type": "object", "description": "Values of a parent chart; nothing here reads them."},
    "enabled": {
        "const": True,
        "description": "For the condition of a parent chart, which Helm reads; true, or absent.",
    },
}


def schema_file() -> str:
    """The file's text."""
    schema = values_schema()
    schema["properties"] |= PARENTS
    return json.dumps({"$schema": DIALECT, **schema}, indent=2) + "\n"


def values_schema() -> dict[str, Any]:
    """The schema of ChartValues in words that any validator knows."""
    schema = ChartValues.model_json_schema(by_alias=True)
    definitions = {name: _plain(each) for name, each in schema.pop("$defs").items()}
    plain = _plain(schema)
    for section in _sections(ChartValues()):
        target = plain if section is ChartValues else definitions[section.__name__]
        target["required"] = _never_null(section)
    return {**plain, "$defs": definitions}


def _sections(values: BaseModel) -> Iterator[type[BaseModel]]:
    yield type(values)
    for name in type(values).model_fields:
        if isinstance(section := getattr(values, name), BaseModel):
            yield from _sections(section)


def _never_null(section: type[BaseModel]) -> list[str]:
    """Keys that must be there: a null in values that come after values.yaml takes a key away."""
    fields = section.model_fields
    return [key_of(name, field) for name, field in fields.items() if type(None) not in get_args(field.annotation)]


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = _either(node)
    plain: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "patternProperties"):
            plain[key] = {name: _plain(each) for name, each in value.items()}
        elif key == "description":
            plain[key] = as_yaml_says(value)
        elif key not in DROPPED:
            plain["pattern" if key == "x-pattern" else key] = _plain(value)
    if "propertyNames" in plain:
        plain |= _keys(plain.pop("propertyNames"), plain.pop("additionalProperties"))
    if node.get("format") in NUMBERS_TOO:
        plain["type"] = ["string", "number", *(["null"] if "null" in node["type"] else [])]
        plain["exclusiveMinimum"] = 0
    return plain


def _keys(names: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """What keys of a map look like, put so that a refusal names the map and not only the key."""
    allowed = {names["pattern"]: values}
    if "not" in names:
        allowed[names["not"]["pattern"]] = {"not": {}, "description": "What radiffuse sets itself, or a secret."}
    return {"patternProperties": allowed, "additionalProperties": False}


def _either(node: dict[str, Any]) -> dict[str, Any]:
    """A value or null in one piece, so that a refusal says what was expected and not that no alternative fitted."""
    options = node.get("anyOf", [])
    if {"type": "null"} not in options or len(options) != 2 or "type" not in options[0]:
        return node
    value = dict(options[0])
    value["type"] = [value["type"], "null"]
    if "enum" in value:
        value["enum"] = [*value["enum"], None]
    return {key: each for key, each in node.items() if key != "anyOf"} | value


def key_of(name: str, field: FieldInfo) -> str:
    """As the chart's users write it."""
    return name if field.alias is None else field.alias


def as_yaml_says(description: str) -> str:
    """A description as readers of YAML know it: nothing is called None there."""
    return description.replace("None:", "null:")
