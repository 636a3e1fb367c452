"""Run a pipeline of container steps on this machine: each step is a process of this interpreter, no container.

kfp.local refuses container components, so the class that it runs subprocesses with is replaced while a pipeline runs.
"""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import pipeline_orchestrator, status, subprocess_task_handler

from radiffuse.errors import RadiffuseError
from radiffuse.orphans import end_with_parent

GRACE_SECONDS = 120.0
"""What an interrupted step has for saving; training saves at its next optimizer step."""

RESULT_WIDTH = 200


class StepFailedError(RadiffuseError):
    """A step of the pipeline ended with an error; its own message is already on stderr."""


@dataclass
class StepClock:
    """Which step of how many, and how long still.

    `expected_seconds` holds, per step in the order of the run, what it takes on a machine like the one it was measured
    on; the steps already done say how much faster or slower this one is.
    """

    expected_seconds: Mapping[str, float]
    start: float = field(default_factory=time.monotonic)
    done_seconds: dict[str, float] = field(default_factory=dict)

    def remaining_seconds(self) -> float:
        """Expected for the steps not yet done, at the pace of those done."""
        expected = sum(self.expected_seconds.get(step, 0.0) for step in self.done_seconds)
        pace = sum(self.done_seconds.values()) / expected if expected > 0 else 1.0
        return pace * sum(s for step, s in self.expected_seconds.items() if step not in self.done_seconds)

    def describe_start(self, step: str) -> str:
        """A step begins."""
        number, total = len(self.done_seconds) + 1, max(len(self.expected_seconds), len(self.done_seconds) + 1)
        return (
            f"[{number}/{total}] {step} · {_minutes(time.monotonic() - self.start)} elapsed"
            f" · about {_minutes(self.remaining_seconds())} left"
        )

    def describe_end(self, step: str, seconds: float, result: str) -> str:
        """A step is done; of `result`, what it printed, the first line."""
        self.done_seconds[step] = seconds
        headline = result.partition("\n")[0].lstrip("# ")
        return f"      {seconds:.1f} s · {textwrap.shorten(headline, RESULT_WIDTH, placeholder=' …')}"


def run_pipeline(
    pipeline: Any,
    arguments: Mapping[str, str],
    *,
    root: Path,
    environment: Mapping[str, str],
    clock: StepClock,
) -> dict[str, Path]:
    """Run every step and return where each left its outputs, by step name.

    `pipeline` is a kfp pipeline, a function or loaded from YAML; `environment` is set for every step on top of this
    process's own and of the pipeline's; `clock` tells a person how far it is, and in which order to run. What an
    earlier run left below `root` is removed. After a step that fails only the exit handler's still runs, then
    StepFailedError is raised; an exception in between, such as KeyboardInterrupt, asks the running step to stop and
    waits for it.
    """
    shutil.rmtree(root, ignore_errors=True)
    workspace = root / "workspace"
    workspace.mkdir(parents=True)
    spec = _in_order(pipeline, list(clock.expected_seconds))
    steps = {
        task.component_ref.name.removeprefix("comp-"): task.task_info.name
        for dag in _dags(spec)
        for task in dag.tasks.values()
    }
    last = {task.task_info.name for task in spec.root.dag.tasks.values()}
    folders: dict[str, Path] = {}
    failures: list[StepFailedError] = []

    class ProcessTaskHandler:
        """kfp.local's interface to what runs a task: it is given the resolved command."""

        def __init__(self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None, **_: Any) -> None:
            self.command = as_local(full_command)
            self.environment = {**(env_vars if env_vars is not None else {}), **environment}

        def run(self) -> status.Status:
            folder = _output_folder(self.command)
            step = steps[folder.name]
            if failures and step not in last:
                return status.Status.FAILURE
            try:
                run_step(step, self.command, self.environment, clock)
            except StepFailedError as error:
                failures.append(error)
                return status.Status.FAILURE
            folders[step] = folder
            return status.Status.SUCCESS

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), workspace_root=str(workspace))
    # It raises RuntimeError for a failed step, which the step's own error says better.
    with _replaced_handler(ProcessTaskHandler), _quiet_kfp(), _failing_as(failures):
        pipeline_orchestrator.run_local_pipeline(spec, dict(arguments))
    return folders


@contextlib.contextmanager
def _failing_as(failures: Sequence[StepFailedError]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not failures:
            raise
        raise failures[0] from error


def as_local(command: Sequence[str]) -> list[str]:
    """The image's `radiffuse` is this interpreter's; raises RadiffuseError for any other program."""
    program, *arguments = command
    if program != "radiffuse":
        raise RadiffuseError(f"a step must run radiffuse to run on this machine, not {program!r}")
    return [sys.executable, "-m", "radiffuse.cli", *arguments]


def run_step(step: str, command: Sequence[str], environment: Mapping[str, str], clock: StepClock) -> None:
    """Run one process to its end; raises StepFailedError when it fails."""
    _say(clock.describe_start(step))
    start = time.monotonic()
    code, printed = _run(command, {**os.environ, **environment})
    if code != 0:
        raise StepFailedError(f"step {step!r} failed with exit code {code}; its own message is above")
    _say(clock.describe_end(step, time.monotonic() - start, printed))


@contextlib.contextmanager
def _quiet_kfp() -> Iterator[None]:
    """Its log, and its warnings of settings that matter in a cluster only; the steps write to the real descriptors."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"kfp\.")
        yield


def _in_order(pipeline: Any, order: Sequence[str]) -> Any:
    """The pipeline's specification with each step after the one before it; kfp.local's order differs by run."""
    spec = copy.deepcopy(pipeline.pipeline_spec)
    for dag in _dags(spec):
        keys = {task.task_info.name: key for key, task in dag.tasks.items()}
        for earlier, later in pairwise(step for step in order if step in keys):
            dag.tasks[keys[later]].dependent_tasks.append(keys[earlier])
    return spec


def _dags(spec: Any) -> list[Any]:
    """The pipeline's own graph, and those of its exit handler and loops."""
    return [spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))]


def _output_folder(command: Sequence[str]) -> Path:
    """Where KFP's executor input says that the step's outputs go."""
    executor_input = json.loads(command[command.index("--executor-input") + 1])
    return Path(executor_input["outputs"]["outputFile"]).parent


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and standard output; standard error passes through, so that its progress bars are seen.

    The step has a session of its own: Ctrl-C in a terminal reaches us alone, and we stop it in order. Where we are
    killed, the kernel tells it to stop.
    """
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    ) as step:
        try:
            printed, _ = step.communicate()
        except BaseException:
            _stop(step)
            raise
    return step.returncode, printed.strip()


def _stop(step: subprocess.Popen[str]) -> None:
    """Ask, wait, and leave no orphan; only the leader is asked, since torchrun gives up when it is asked twice."""
    step.terminate()
    try:
        step.wait(GRACE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(step.pid, signal.SIGKILL)


@contextlib.contextmanager
def _replaced_handler(handler: type) -> Iterator[None]:
    original = subprocess_task_handler.SubprocessTaskHandler
    subprocess_task_handler.SubprocessTaskHandler = handler
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = original


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
