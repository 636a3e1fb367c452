"""values.yaml: every value with its default, and above it what it means."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from charts.schema import as_yaml_says, key_of
from charts.values import ChartValues

WIDTH = 118
HEAD = """# Values of the chart radiffuse: each with its default, and above it what it means. null is "not set".
# Keys are in camelCase; those below job.template and job.config.document are the documents' own.
# No value is a secret: secrets exist in the namespace, and are named here.
# Written by `make generate` from charts/values.py.
"""


def values_file() -> str:
    """The file's text."""
    return HEAD + "\n".join(_section(ChartValues(), depth=0)) + "\n"


def _section(values: BaseModel, depth: int) -> Iterator[str]:
    for name, field in type(values).model_fields.items():
        if depth == 0:
            yield ""
        value = getattr(values, name)
        yield from _comment(field, value, depth)
        key = f"{'  ' * depth}{key_of(name, field)}:"
        if isinstance(value, BaseModel):
            yield key
            yield from _section(value, depth + 1)
        else:
            yield f"{key} {_written(value)}"


def _comment(field: FieldInfo, value: Any, depth: int) -> Iterator[str]:
    indent = f"{'  ' * depth}# "
    for line in textwrap.wrap(meaning(field, value), WIDTH - len(indent), break_on_hyphens=False):
        yield f"{indent}{line}"


def meaning(field: FieldInfo, value: Any) -> str:
    """What a value or a section is for, in the words of its model, and which words it takes if there are few."""
    described = field.description
    if described is None:
        assert isinstance(value, BaseModel), "a value without a description"
        described = " ".join(str(type(value).__doc__).split())
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    return as_yaml_says(described) + (f" One of {', '.join(choices)}." if choices else "")


def _written(value: Any) -> str:
    """In YAML's flow style, which is JSON; plain words need no quotes."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalpha() and value not in _NO_WORDS:
        return value
    return json.dumps(value, default=_document, ensure_ascii=False)


def _document(value: Any) -> Any:
    assert isinstance(value, BaseModel)
    return value.model_dump(mode="json", by_alias=True)


_NO_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
