"""Values on their way through a KFP 2.17.0 backend: placeholders in a command, and what comes back changed."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

RUN_PLACEHOLDER = "{{$.pipeline_job_uuid}}"
TYPES: dict[str, type | tuple[type, ...]] = {
    "NUMBER_DOUBLE": (int, float),
    "NUMBER_INTEGER": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
}


class BackendError(Exception):
    """What makes a step FAILED, in the driver or in the launcher."""


def as_text(value: Any) -> str:
    """A parameter as it appears in a command: 1.0 is 1, True is true, lists and dicts are JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(repr(float(value))).normalize(), "f")
    return json.dumps(value, separators=(",", ":"))


def checked_input(name: str, value: Any, kind: str) -> Any:
    """The driver's type check: anything may become text, nothing else is converted."""
    if value is None:
        raise BackendError(f"got null for input parameter {name!r}")
    if kind == "STRING":
        return as_text(value)
    expected = TYPES[kind]
    is_number_for_bool = isinstance(value, bool) and kind.startswith("NUMBER")
    if not isinstance(value, expected) or is_number_for_bool:
        raise BackendError(f"input parameter {name!r} type mismatch: expect {kind}, got {type(value).__name__}")
    return value


def substituted(
    arguments: Sequence[str], executor_input: Mapping[str, Any], local_paths: Mapping[str, str]
) -> list[str]:
    """A container's command with its placeholders filled in; those that 2.17.0 does not know stay literal.

    `local_paths` maps the URI of an artifact to its path in the container. Raises BackendError for a parameter that was
    not passed: the driver looks before a component's default is filled in.
    """
    known = _placeholders(executor_input, local_paths)
    resolved = []
    for argument in _with_conditions(arguments, executor_input):
        for placeholder, value in known.items():
            argument = argument.replace(placeholder, value)
        if "{{$.inputs.parameters[" in argument and argument not in known.values():
            raise BackendError(f"parameter not found in executor input: {argument}")
        resolved.append(argument)
    return resolved


def _with_conditions(arguments: Sequence[str], executor_input: Mapping[str, Any]) -> list[str]:
    """IfPresent asks for parameters only: an artifact counts as absent even when it is there."""
    resolved: list[str] = []
    for argument in arguments:
        if not argument.startswith('{"IfPresent"'):
            resolved.append(argument)
            continue
        condition = json.loads(argument)["IfPresent"]
        is_present = condition["InputName"] in executor_input["inputs"]["parameterValues"]
        resolved += condition["Then"] if is_present else condition.get("Else", [])
    return resolved


def _placeholders(executor_input: Mapping[str, Any], local_paths: Mapping[str, str]) -> dict[str, str]:
    known = {
        f"{{{{$.inputs.parameters['{name}']}}}}": as_text(value)
        for name, value in executor_input["inputs"]["parameterValues"].items()
    }
    for direction in ("inputs", "outputs"):
        for name, listed in executor_input[direction].get("artifacts", {}).items():
            uri = listed["artifacts"][0]["uri"]
            known[f"{{{{$.{direction}.artifacts['{name}'].uri}}}}"] = uri
            known[f"{{{{$.{direction}.artifacts['{name}'].path}}}}"] = local_paths[uri]
    for name, parameter in executor_input["outputs"].get("parameters", {}).items():
        known[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
    return {**known, "{{$}}": json.dumps(executor_input)}


def after_round_trip(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as the metadata store gives it back; a null fails the step, after its work is done."""
    returned: dict[str, Any] = {}
    for name, value in metadata.items():
        if value is None:
            raise BackendError(f"metadata {name!r} is null")
        if isinstance(value, bool):
            returned[name] = int(value)
        elif isinstance(value, int | float):
            returned[name] = float(value)
        elif isinstance(value, list):
            returned[name] = {"list": value}
        elif isinstance(value, dict):
            returned[name] = {"struct": value}
        else:
            returned[name] = value
    return returned
