"""One container step on a KFP 2.17.0 backend: what the driver resolves, the launcher runs, and the store gets back."""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipelines.kfp_sandbox import KFP_FOLDERS, Pod, make_writable
from tests.pipelines.kfp_values import BackendError, after_round_trip, substituted

BUCKET = "mlpipeline"
OUTPUT_FILE = "/tmp/kfp/outputs/output_metadata.json"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
QUANTITIES = ("resourceCpuRequest", "resourceMemoryRequest")


@dataclass(frozen=True)
class World:
    """What the cluster has: a folder for its buckets and pods, its secrets, its volumes, and where programs are."""

    folder: Path
    secrets: Mapping[str, Mapping[str, str]]
    claims: Mapping[str, Path] = field(default_factory=dict)
    program_path: str = PATH

    def object_path(self, uri: str) -> Path:
        """Where an object of KFP's own store lies on this machine."""
        return self.folder / "buckets" / uri.removeprefix("minio://")


@dataclass
class StepRun:
    """A step as far as it came."""

    name: str
    state: str = "PENDING"
    error: str = ""
    log: str = ""
    attempts: int = 0
    executor_input: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


def new_outputs(component: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The outputs of an executor input: every artifact has its type, a URI below the run's root, and no metadata."""
    definitions = component.get("outputDefinitions", {})
    folder = f"{root}/{uuid.uuid4()}"
    artifacts = {
        name: {"artifacts": [{"name": name, "type": spec["artifactType"], "uri": f"{folder}/{name}", "metadata": {}}]}
        for name, spec in definitions.get("artifacts", {}).items()
    }
    parameters = {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in definitions.get("parameters", {})}
    return {"artifacts": artifacts, "parameters": parameters, "outputFile": OUTPUT_FILE}


class Launcher:
    """Runs one step, as often as its pod is lost, and publishes what it made."""

    def __init__(self, world: World, container: Mapping[str, Any], platform: Mapping[str, Any], root: str) -> None:
        self._world = world
        self._container = container
        self._platform = platform
        self._root = root

    def run(
        self,
        step: StepRun,
        component: Mapping[str, Any],
        parameter: Callable[[Mapping[str, Any]], Any],
        terminate_after: float | None,
    ) -> None:
        """Raises BackendError when the step is FAILED; a pod that is deleted meanwhile is made anew.

        `parameter` resolves a parameter that the platform's part of the specification refers to.
        """
        self.check_pod_fields(step.executor_input["inputs"]["parameterValues"])
        environment = self._environment(parameter)
        code = 1
        for deadline in [None] if terminate_after is None else [terminate_after, None]:
            step.attempts += 1
            folder = (
                self._world.folder / "pods" / f"{step.name.replace(' ', '-').replace('/', '-')}-{uuid.uuid4().hex[:8]}"
            )
            pod = self._pod(folder, step.executor_input, parameter)
            code, step.log = pod.run(self._command(step.executor_input), environment, deadline)
            if code >= 0:
                break
        if code != 0:
            raise BackendError(f"failed to execute component: exit status {code}\n{step.log}")
        self._publish(step, component, folder)

    def check_pod_fields(self, given: Mapping[str, Any]) -> None:
        """Fields of the pod that come from parameters: other than text they arrive empty, and no pod can be made."""
        resources = self._container.get("resources", {})
        fields = [self._container["image"], *(resources[name] for name in QUANTITIES if name in resources)]
        fields += resources.get("accelerator", {}).values()
        for text in fields:
            if "{{$.inputs.parameters['" in text:
                value = given.get(text.split("'")[1])
                if not isinstance(value, str) or not value:
                    raise BackendError(f"the pod's {text} must come from text, not from {value!r}")

    def _command(self, executor_input: Mapping[str, Any]) -> list[str]:
        """The image's entry point is ignored, so the command must be there."""
        assert self._container.get("command"), "a container component without a command"
        given = [*self._container["command"], *self._container.get("args", [])]
        uris = [
            listed["artifacts"][0]["uri"]
            for direction in ("inputs", "outputs")
            for listed in executor_input[direction].get("artifacts", {}).values()
        ]
        return substituted(given, executor_input, {uri: uri.replace("minio://", "/minio/") for uri in uris})

    def _environment(self, parameter: Callable[[Mapping[str, Any]], Any]) -> dict[str, str]:
        environment = {"PATH": self._world.program_path, "HOME": "/", "KFP_POD_NAME": "pod", "KFP_POD_UID": "uid"}
        environment |= {variable["name"]: variable["value"] for variable in self._container.get("env", [])}
        for secret in self._platform.get("secretAsEnv", []):
            name = parameter(secret["secretNameParameter"])
            for pair in secret["keyToEnv"]:
                value = self._world.secrets.get(name, {}).get(pair["secretKey"])
                if value is not None:
                    environment[pair["envVar"]] = value
                elif not secret.get("optional"):
                    raise BackendError(f"CreateContainerConfigError: no {pair['secretKey']} in secret {name!r}")
        return environment

    def _pod(self, folder: Path, executor_input: Mapping[str, Any], parameter: Callable[..., Any]) -> Pod:
        """A fresh pod: nothing of an earlier one is left, and its inputs are downloaded."""
        user = int(self._platform["securityContext"]["runAsUser"])
        assert self._platform["securityContext"]["runAsNonRoot"]
        mounted = [*KFP_FOLDERS, *(mount["mountPath"] for mount in self._platform.get("emptyDirMounts", []))]
        folder.mkdir(parents=True)
        writable = {path: make_writable(folder / "volumes" / path.strip("/"), user) for path in mounted}
        for path in (*self._output_paths(executor_input), OUTPUT_FILE):
            _make_parents(folder / "volumes", path, user)
        for listed in executor_input["inputs"].get("artifacts", {}).values():
            uri = listed["artifacts"][0]["uri"]
            target = _make_parents(folder / "volumes", uri.replace("minio://", "/minio/"), user)
            shutil.copyfile(self._world.object_path(uri), target)
        return Pod(folder, writable, self._read_only(folder, parameter), user)

    def _read_only(self, folder: Path, parameter: Callable[..., Any]) -> dict[str, Path]:
        mounts = {}
        for claim in self._platform.get("pvcMount", []):
            name = parameter(claim["pvcNameParameter"])
            if name not in self._world.claims:
                raise BackendError(f'persistentvolumeclaim "{name}" not found')
            mounts[claim["mountPath"]] = self._world.claims[name]
        for volume in self._platform.get("secretAsVolume", []):
            files = folder / "secrets" / volume["mountPath"].strip("/")
            files.mkdir(parents=True)
            for key, value in self._world.secrets.get(parameter(volume["secretNameParameter"]), {}).items():
                (files / key).write_text(value)
            mounts[volume["mountPath"]] = files
        return mounts

    def _output_paths(self, executor_input: Mapping[str, Any]) -> list[str]:
        outputs = executor_input["outputs"]
        paths = [
            listed["artifacts"][0]["uri"].replace("minio://", "/minio/") for listed in outputs["artifacts"].values()
        ]
        return paths + [parameter["outputFile"] for parameter in outputs["parameters"].values()]

    def _publish(self, step: StepRun, component: Mapping[str, Any], folder: Path) -> None:
        volumes = folder / "volumes"
        output = _read_output(volumes / OUTPUT_FILE.strip("/"))
        step.parameters = _output_parameters(output, component, step.executor_input, volumes)
        for name, listed in step.executor_input["outputs"]["artifacts"].items():
            artifact = dict(listed["artifacts"][0])
            (said,) = output.get("artifacts", {}).get(name, {}).get("artifacts", [{}])
            artifact["uri"] = said.get("uri", artifact["uri"])
            if not artifact["uri"].startswith(f"{self._root}/"):
                raise BackendError(f"output artifact {name!r} has a uri outside the run's root: {artifact['uri']}")
            made = volumes / artifact["uri"].replace("minio://", "minio/")
            if made.exists():
                target = self._world.object_path(artifact["uri"])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(made, target)
            artifact["metadata"] = after_round_trip(said.get("metadata", {}))
            step.artifacts[name] = artifact


def _read_output(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = path.read_text()
    try:
        json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    except json_format.ParseError as error:
        raise BackendError(f"failed to unmarshal ExecutorOutput: {error}") from error
    document: dict[str, Any] = json.loads(text)
    return document


def _output_parameters(
    output: Mapping[str, Any], component: Mapping[str, Any], executor_input: Mapping[str, Any], volumes: Path
) -> dict[str, Any]:
    values = dict(output.get("parameterValues", {}))
    declared = component.get("outputDefinitions", {}).get("parameters", {})
    if undeclared := sorted(set(values) - set(declared)):
        raise BackendError(f"output parameters that are not declared: {undeclared}")
    for name, parameter in executor_input["outputs"]["parameters"].items():
        path = volumes / parameter["outputFile"].strip("/")
        if name not in values and not path.exists():
            raise BackendError(f"failed to read output parameter {name!r}: no such file")
        values.setdefault(name, path.read_text() if path.exists() else None)
        if values[name] is None:
            raise BackendError(f"output parameter {name!r} is null")
    return values


def _make_parents(volumes: Path, path: str, user: int) -> Path:
    target = volumes / path.strip("/")
    for parent in reversed(target.relative_to(volumes).parents[:-1]):
        make_writable(volumes / parent, user)
    return target
