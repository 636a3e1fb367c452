"""A stand-in for a KFP 2.17.0 backend that treats container components as the real one was seen to.

It reads the compiled YAML, both documents, and nothing else. Steps run one after the other, each in a container of its
own (kfp_sandbox.py); a step that fails lets those that do not need it run on, then the exit task. Where the real
backend loses, changes or refuses something, so does this (kfp_values.py, kfp_step.py).
"""

import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.pipelines.kfp_step import BUCKET, Launcher, StepRun, World, new_outputs
from tests.pipelines.kfp_values import RUN_PLACEHOLDER, BackendError, as_text, checked_input

EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass
class Run:
    """A pipeline's run: its steps by name, in the order in which they ended."""

    run_id: str
    state: str = "RUNNING"
    steps: dict[str, StepRun] = field(default_factory=dict)


@dataclass
class Scope:
    """What the tasks of one graph see: its inputs, and the steps in it that are done, by task."""

    inputs: dict[str, Any]
    done: dict[str, StepRun] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


class Backend:
    """Runs one compiled pipeline.

    `terminate` deletes a step's first pod so many seconds after its start; `report` is told each step's state.
    """

    def __init__(
        self,
        world: World,
        package: Path,
        terminate: Mapping[str, float] | None = None,
        report: Callable[[str, str], None] = lambda step, state: None,
    ) -> None:
        documents = list(yaml.safe_load_all(package.read_text()))
        self.spec, platforms = documents[0], documents[1]["platforms"] if len(documents) > 1 else {}
        self._executors = self.spec["deploymentSpec"]["executors"]
        self._platform = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        self._world = world
        self._terminate = dict(terminate or {})
        self._report = report
        self.run_record = Run(str(uuid.uuid4()))

    def run(self, parameters: Mapping[str, Any]) -> Run:
        """Run everything; the state is SUCCEEDED or FAILED."""
        declared = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        inputs = {name: spec["defaultValue"] for name, spec in declared.items() if "defaultValue" in spec}
        missing = sorted(set(declared) - set(inputs) - set(parameters))
        if missing:
            self.run_record.state = "FAILED"
            raise BackendError(f"neither value nor default value provided for {missing}")
        is_good = self._run_graph(self.spec["root"]["dag"], Scope({**inputs, **parameters}), "")
        self.run_record.state = "SUCCEEDED" if is_good else "FAILED"
        return self.run_record

    def _run_graph(self, graph: Mapping[str, Any], scope: Scope, suffix: str) -> bool:
        for name in _in_order(graph["tasks"]):
            task = graph["tasks"][name]
            is_exit = task.get("triggerPolicy", {}).get("strategy") == EXIT
            if not is_exit and scope.failed.intersection(_needed_by(task)):
                scope.failed.add(name)
                continue
            if not self._run_task(name, task, scope, suffix):
                scope.failed.add(name)
        return not scope.failed

    def _run_task(self, name: str, task: Mapping[str, Any], scope: Scope, suffix: str) -> bool:
        component = self.spec["components"][task["componentRef"]["name"]]
        if "parameterIterator" in task:
            iterator = task["parameterIterator"]
            items = scope.inputs[
                task["inputs"]["parameters"][iterator["items"]["inputParameter"]]["componentInputParameter"]
            ]
            inputs = self._graph_inputs(task, scope)
            # Every iteration runs, also after one that failed.
            results = [
                self._run_graph(component["dag"], Scope({**inputs, iterator["itemInput"]: item}), f" {as_text(item)}")
                for item in items
            ]
            return all(results)
        if "dag" in component:
            return self._run_graph(component["dag"], self.checked(component, self._graph_inputs(task, scope)), suffix)
        return self._run_step(name, task, component, scope, suffix)

    def _graph_inputs(self, task: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
        given = task.get("inputs", {})
        inputs = {key: self._parameter(spec, scope) for key, spec in given.get("parameters", {}).items()}
        return inputs | {key: _artifact(spec, scope) for key, spec in given.get("artifacts", {}).items()}

    def checked(self, component: Mapping[str, Any], inputs: dict[str, Any]) -> Scope:
        """The inputs of a graph as its own driver passes them on."""
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        return Scope(
            {
                key: checked_input(key, value, declared[key]["parameterType"]) if key in declared else value
                for key, value in inputs.items()
            }
        )

    def _run_step(
        self, name: str, task: Mapping[str, Any], component: Mapping[str, Any], scope: Scope, suffix: str
    ) -> bool:
        assert not task.get("cachingOptions", {}).get("enableCache"), f"{name} would be cached"
        step = StepRun(f"{task['taskInfo']['name']}{suffix}")
        self.run_record.steps[step.name] = step
        label = component["executorLabel"]
        root = f"minio://{BUCKET}/v2/artifacts/{self.spec['pipelineInfo']['name']}/{self.run_record.run_id}"
        launcher = Launcher(self._world, self._executors[label]["container"], self._platform.get(label, {}), root)
        try:
            step.executor_input = {
                "inputs": self._executor_inputs(task, component, scope),
                "outputs": new_outputs(component, f"{root}/{name}"),
            }
            step.state = "RUNNING"
            self._report(step.name, step.state)
            launcher.run(step, component, lambda spec: self._parameter(spec, scope), self._terminate.get(step.name))
        except BackendError as error:
            step.state, step.error = "FAILED", str(error)
            self._report(step.name, step.state)
            return False
        step.state = "SUCCEEDED"
        self._report(step.name, step.state)
        scope.done[name] = step
        return True

    def _executor_inputs(self, task: Mapping[str, Any], component: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
        given, declared = task.get("inputs", {}), component.get("inputDefinitions", {}).get("parameters", {})
        parameters = {}
        for key, spec in given.get("parameters", {}).items():
            value = self._parameter(spec, scope)
            parameters[key] = checked_input(key, value, declared[key]["parameterType"]) if key in declared else value
        for key, spec in declared.items():
            if key not in parameters and not spec.get("isOptional") and "defaultValue" not in spec:
                raise BackendError(f"neither value nor default value provided for non-optional parameter {key!r}")
        artifacts = {key: {"artifacts": [_artifact(spec, scope)]} for key, spec in given.get("artifacts", {}).items()}
        return {"parameterValues": parameters, "artifacts": artifacts}

    def _parameter(self, spec: Mapping[str, Any], scope: Scope) -> Any:
        if "componentInputParameter" in spec:
            name = spec["componentInputParameter"]
            if name not in scope.inputs:
                raise BackendError(f"parent DAG does not have input parameter {name}")
            return scope.inputs[name]
        if "taskOutputParameter" in spec:
            reference = spec["taskOutputParameter"]
            return scope.done[reference["producerTask"]].parameters[reference["outputParameterKey"]]
        if "taskFinalStatus" in spec:
            producer = spec["taskFinalStatus"]["producerTask"]
            state = "FAILED" if producer in scope.failed else "COMPLETE"
            return {"state": state, "pipelineTaskName": producer, "pipelineJobResourceName": "run", "error": {}}
        constant = spec["runtimeValue"]["constant"]
        return self.run_record.run_id if constant == RUN_PLACEHOLDER else constant


def _artifact(spec: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """As a consumer sees it: its name is a number, it has no type, and no path but that of its URI."""
    if "componentInputArtifact" in spec:
        artifact: dict[str, Any] = scope.inputs[spec["componentInputArtifact"]]
        return artifact
    reference = spec["taskOutputArtifact"]
    made = scope.done[reference["producerTask"]].artifacts[reference["outputArtifactKey"]]
    return {"name": str(zlib.crc32(made["uri"].encode())), "type": {}, "uri": made["uri"], "metadata": made["metadata"]}


def _needed_by(task: Mapping[str, Any]) -> set[str]:
    artifacts = task.get("inputs", {}).get("artifacts", {}).values()
    producers = {spec["taskOutputArtifact"]["producerTask"] for spec in artifacts if "taskOutputArtifact" in spec}
    return {*task.get("dependentTasks", []), *producers}


def _in_order(tasks: Mapping[str, Any]) -> Iterator[str]:
    """Every task after those it needs."""
    remaining = dict(tasks)
    while remaining:
        ready = [name for name, task in remaining.items() if not _needed_by(task).intersection(remaining)]
        assert ready, f"a circle among {sorted(remaining)}"
        for name in ready:
            del remaining[name]
        yield from ready
