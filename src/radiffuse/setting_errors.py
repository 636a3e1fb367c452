"""What is wrong with a document of settings, in words for the person who wrote it."""

import difflib
from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Every mistake of a document that was to be that model: which setting, what was found, what is allowed."""
    lines = []
    for item in error.errors():
        path = [part for part in item["loc"] if part != "[key]"]
        if item["type"] == "extra_forbidden":
            what, found = f"unknown setting; {_known(model, path)}", ""
        else:
            what = item["msg"].removeprefix("Value error, ")
            is_found_elsewhere = item["type"] == "missing" or isinstance(item["input"], dict | BaseModel)
            is_in_where = item["loc"][-1:] == ("[key]",)
            found = "" if is_found_elsewhere or is_in_where else f" (found {item['input']!r})"
        where = ".".join(map(str, path))
        lines.append(f"{where}: {what}{found}" if where else f"{what}{found}")
    return "; ".join(lines)


def _known(model: type[BaseModel], path: Sequence[int | str]) -> str:
    """The name that was probably meant, or all that stand beside it."""
    *sections, unknown = path
    names = sorted(_fields(model, sections))
    close = difflib.get_close_matches(str(unknown), names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def _fields(model: type[BaseModel], sections: Sequence[int | str]) -> set[str]:
    """Names of the settings of a section; of all its kinds, where it may be of several."""
    models = {model}
    for section in sections:
        fields = [each.model_fields[section] for each in models if section in each.model_fields]
        models = {inner for field in fields for inner in _models(field.annotation)} or models
    return {name for each in models for name in each.model_fields}


def _models(annotation: object) -> set[type[BaseModel]]:
    """Those in a type, however deep: in a list's items, a mapping's values, one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models(part)}
