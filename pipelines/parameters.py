"""A pipeline's parameters, checked against the compiled YAML and by what they mean, before anything is sent."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from radiffuse.cluster.job import load_job
from radiffuse.cluster.sections import RunFacts
from radiffuse.config import is_document, load_config
from radiffuse.errors import ConfigError
from radiffuse.parts import Part

LAYOUTS = ("chexpert", "mimic")
DOCUMENTS = ("config", "job")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTP]i?)?")
TYPES: dict[str, type] = {"LIST": list, "STRUCT": dict, "NUMBER_INTEGER": int, "BOOLEAN": bool}


def check_parameters(package: Path, given: Sequence[str]) -> dict[str, Any]:
    """The parameters to send, from name=value; a number N for a list of parts stands for 1/N to N/N.

    Values of lists and dicts are YAML or JSON, all others are text as they stand. Raises ConfigError that names every
    parameter that is unknown, missing or wrong.
    """
    declared = _declared(package)
    values = dict(_split(text) for text in given)
    _check_names(package, declared, values)
    typed = {name: _typed(name, text, declared[name]["parameterType"]) for name, text in values.items()}
    typed |= {name: _with_content(typed[name]) for name in DOCUMENTS if name in typed}
    for name, value in typed.items():
        if name in CHECKS:
            CHECKS[name](name, value)
        elif name.endswith("_parts"):
            _check_parts(name, value)
    _check_together({name: spec.get("defaultValue") for name, spec in declared.items()} | typed)
    return typed


def _declared(package: Path) -> dict[str, Any]:
    try:
        spec = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
        parameters: dict[str, Any] = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(f"{package} is not a compiled pipeline: {error}") from error
    return parameters


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"a parameter must be name=value, not {text!r}")
    return name, value


def _check_names(package: Path, declared: Mapping[str, Any], values: Mapping[str, str]) -> None:
    unknown = sorted(set(values) - set(declared))
    missing = sorted(name for name, spec in declared.items() if "defaultValue" not in spec and name not in values)
    if unknown:
        raise ConfigError(
            f"pipeline {package.stem} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(declared))}"
        )
    if missing:
        raise ConfigError(f"pipeline {package.stem} needs {', '.join(f'{name}=...' for name in missing)} too")


def _typed(name: str, text: str, kind: str) -> Any:
    """A STRING stays as it is, also when it looks like a number: a pod's fields take nothing but text."""
    if kind == "STRING":
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} must be YAML or JSON: {' '.join(str(error).split())}") from error
    if name.endswith("_parts") and isinstance(value, int):
        value = [f"{number}/{value}" for number in range(1, value + 1)]
    if not isinstance(value, TYPES[kind]):
        raise ConfigError(f"{name} must be a {TYPES[kind].__name__}, not {text!r}")
    return value


def _check_parts(name: str, parts: list[Any]) -> None:
    if not parts:
        raise ConfigError(f'{name} must name at least one part, such as ["1/1"]; pipeline finetune has no parts')
    for part in parts:
        Part.parse(str(part))


def _one_of(*choices: str) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    return check


def _matches(pattern: str, example: str) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if re.fullmatch(pattern, value) is None:
            raise ConfigError(f"{name} must look like {example}, not {value!r}")

    return check


def _check_base_model(name: str, value: str) -> None:
    """A hub id moves with its branch, so its commit must be there."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        raise ConfigError(f"{name} must name a commit, such as {value}@<commit>: branches on the hub move")


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "layout": _one_of(*LAYOUTS),
    "external_layout": _one_of(*LAYOUTS),
    "base_model": _check_base_model,
    "dataset": _matches(r"s3://datasets/[^/]+/[0-9a-f]+", "s3://datasets/<name>/<digest>"),
    "model": _matches(r"s3://models/[^/]+/[0-9a-f]+", "s3://models/<name>/<digest>"),
    "cpu": _matches(QUANTITY.pattern, "2 or 500m"),
    "memory": _matches(QUANTITY.pattern, "8Gi"),
    "gpus": _matches(r"[0-9]{1,3}", "0 or 1"),
}


def _check_together(values: Mapping[str, Any]) -> None:
    """The run's document, and the training job that it would become."""
    train = load_config(values["config"]).train
    if values.get("job") not in (None, "local"):
        facts = train.model_dump(include={"total_batch_size", "train_batch_size", "dataloader_workers"})
        # Its digest is not known before the steps before training are done; the job does not depend on it.
        load_job(values["job"], run=RunFacts(name=load_config(values["config"]).name, digest="0" * 16, **facts))


def _with_content(value: str) -> str:
    """A document in place of the path of its file, which the steps would not see."""
    if is_document(value) or not Path(value).is_file():
        return value
    try:
        return json.dumps(yaml.safe_load(Path(value).read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ConfigError(f"{value} is not valid YAML: {' '.join(str(error).split())}") from error
