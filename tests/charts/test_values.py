"""What is documented as a value is one: its default is the model's, and some template reads it; and nothing else is."""

import json
from typing import Any

import jsonschema
import pytest

from charts.schema import values_schema
from charts.values import ChartValues
from tests.charts.alternatives import alternatives, at, leaves
from tests.charts.rendering import CHART, DEFAULTS, MODES, HelmError, Object, rendered_text, values_of
from tests.charts.template_reads import Reader, is_documented

SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
LEAVES = sorted(leaves(DEFAULTS))
FIRST = ("richest", "multi-user", "job", "external-minio", "job-stored")
ACTIVE = (*FIRST, *(mode for mode in MODES if mode not in FIRST))
"""Modes in the order in which they are asked whether a value does something: in one of the first nearly all do."""


def test_the_defaults_are_the_models() -> None:
    assert ChartValues().model_dump(mode="json", by_alias=True) == DEFAULTS


def test_the_schema_is_a_schema_and_takes_the_defaults() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(DEFAULTS, SCHEMA)
    assert values_schema()["properties"].keys() <= SCHEMA["properties"].keys()


@pytest.mark.parametrize("mode", MODES)
def test_each_modes_values_are_what_the_models_take(mode: str) -> None:
    values = values_of(mode)
    jsonschema.validate(values, SCHEMA)
    assert ChartValues.model_validate(values)


def test_every_value_that_a_template_reads_is_documented() -> None:
    reads = Reader(CHART / "templates").reads
    assert ("store", "secret") in reads and ("kueue", "*", "create") in reads
    unknown = {".".join(place): files for place, files in reads.items() if not is_documented(place, SCHEMA)}
    assert unknown == {}


def test_a_misspelt_read_would_be_found() -> None:
    assert is_documented(("job", "data", "claim", "name"), SCHEMA)
    assert is_documented(("kueue", "clusterQueue", "quotas", "*"), SCHEMA)
    assert not is_documented(("job", "data", "claim", "nmae"), SCHEMA)
    assert not is_documented(("kueue", "*", "creat"), SCHEMA)


def rendered(mode: str, values: Object) -> str | None:
    """What a mode becomes with values over it; None where the chart refuses them."""
    try:
        return rendered_text(mode, values)
    except HelmError:
        return None


@pytest.mark.charts
@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_documented_value_changes_what_is_made(path: tuple[str, ...]) -> None:
    assert any(changes(mode, path, number) for number in range(4) for mode in ACTIVE), "no other value changes a mode"


def changes(mode: str, path: tuple[str, ...], number: int) -> bool:
    """Whether one of the other values that are allowed at a path, by number, gives a mode other objects."""
    others = alternatives(SCHEMA, path, at_or(values_of(mode), path, at(DEFAULTS, path)))
    if number >= len(others):
        return False
    change: Any = others[number]
    for name in reversed(path):
        change = {name: change}
    after = rendered(mode, change)
    return after is not None and after != rendered_text(mode)


def at_or(values: Object, path: tuple[str, ...], default: Any) -> Any:
    try:
        return at(values, path)
    except (KeyError, TypeError):
        return default
