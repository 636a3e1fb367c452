"""Submit a compiled pipeline to Kubeflow, follow the run, and fail when it fails: `kfp run submit` exits 0 then.

`python -m pipelines.submit finetune source=/data/chexpert config=roentgen-1k base_model=tiny --endpoint URL`.
Parameters are checked before anything is sent. Exit code: 0 the run succeeded, 1 it failed, or KFP could not be asked;
2 the parameters are wrong, and nothing was sent; 3 it goes on, and nobody waits any longer.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.parameters import check_parameters
from radiffuse.errors import ConfigError, RadiffuseError

FOLDER = Path(__file__).parent
SUCCEEDED, FAILED, REFUSED, GOES_ON, INTERRUPTED = 0, 1, 2, 3, 130
ENDED = {"SUCCEEDED": SUCCEEDED, "FAILED": FAILED, "CANCELED": FAILED, "SKIPPED": FAILED}
POLL_SECONDS = 2.0
LONGEST_SILENCE_SECONDS = 300.0
"""While KFP does not answer; its API server may be restarted during a run of days."""


class KubeflowError(RadiffuseError):
    """KFP cannot be reached, or refused what it was sent."""


def find_package(name: str) -> Path:
    """The compiled pipeline of that name, or at that path; raises ConfigError when there is none."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in FOLDER.glob("*.yaml")))
        raise ConfigError(f"no compiled pipeline {name!r}; there are {names}")
    return path


def submit(client: Any, package: Path, parameters: dict[str, Any], experiment: str, name: str) -> str:
    """Create the run and return its identifier. Raises KubeflowError."""
    try:
        run = client.create_run_from_pipeline_package(
            str(package), arguments=parameters, run_name=name, experiment_name=experiment
        )
    except Exception as error:  # the generated client raises its own, urllib3's and ValueError
        raise KubeflowError(f"KFP did not take the run: {_reason(error)}") from error
    return str(run.run_id)


def follow(client: Any, run_id: str, timeout_seconds: float | None, poll_seconds: float) -> int:
    """Show each step's state when it changes, until the run ends; returns the exit code. Raises KubeflowError."""
    start = last_answer = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        try:
            run = client.get_run(run_id)
            last_answer = time.monotonic()
        except Exception as error:
            if time.monotonic() - last_answer > LONGEST_SILENCE_SECONDS:
                raise KubeflowError(
                    f"KFP did not answer for {LONGEST_SILENCE_SECONDS:.0f} s: {_reason(error)}"
                ) from error
            run = None
        if run is not None:
            _show_changes(run, shown, time.monotonic() - start)
            if run.state in ENDED:
                _say(f"run {run_id}: {run.state}")
                return ENDED[run.state]
        if timeout_seconds is not None and time.monotonic() - start >= timeout_seconds:
            state = "not known" if run is None else run.state
            _say(f"run {run_id} is {state} after {timeout_seconds:.0f} s and goes on; follow it in the dashboard")
            return GOES_ON
        time.sleep(poll_seconds)


def _show_changes(run: Any, shown: dict[str, str], seconds: float) -> None:
    """Drivers, and the graphs that hold the steps, are KFP's own affair."""
    details = run.run_details.task_details if run.run_details is not None else None
    for task in details or []:
        name, state = task.display_name, task.state
        is_step = name and not name.endswith("-driver") and not task.child_tasks
        if is_step and state is not None and shown.get(task.task_id) != state:
            shown[task.task_id] = state
            _say(f"{int(seconds) // 60:>4}:{int(seconds) % 60:02d}  {name}: {state}")


def _reason(error: Exception) -> str:
    said = getattr(error, "body", None) or getattr(error, "reason", None)  # KFP's answer, or urllib3's last attempt
    return " ".join(str(said or error).split())[:500]


def _connect(arguments: argparse.Namespace) -> Any:
    from kfp.client import Client  # a second to import, and nothing to ask before the parameters are right

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"kfp\.")
    try:
        return Client(
            host=arguments.endpoint,
            namespace=arguments.namespace,
            existing_token=os.environ.get("KFP_TOKEN"),
            ssl_ca_cert=arguments.ca_cert,
        )
    except Exception as error:
        raise KubeflowError(
            f"no KFP at {arguments.endpoint}: {_reason(error)}; --endpoint takes the address of its API, such as"
            ' http://localhost:8888 after "kubectl --namespace kubeflow port-forward service/ml-pipeline 8888", and'
            " KFP_TOKEN a token where it asks for one"
        ) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="finetune, finetune_external, finetune_parts, evaluate, or a compiled file")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="the pipeline's parameters")
    parser.add_argument("--endpoint", default=os.environ.get("KF_PIPELINES_ENDPOINT"), help="URL of the KFP API")
    parser.add_argument("--namespace", default="kubeflow", help="the profile's, where KFP has many users")
    parser.add_argument("--experiment", default="radiffuse", help="what the run is listed under")
    parser.add_argument("--run", default=None, help="the run's name; default: the pipeline's")
    parser.add_argument("--ca-cert", default=None, help="PEM file of the authority that signed KFP's certificate")
    parser.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="how long to follow the run")
    parser.add_argument("--no-follow", action="store_true", help="submit only, and print the run's identifier")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code as the module says."""
    arguments = _parse(words)
    try:
        package = find_package(arguments.pipeline)
        parameters = check_parameters(package, arguments.parameters)
        if arguments.endpoint is None:
            raise ConfigError("--endpoint is missing, and KF_PIPELINES_ENDPOINT is not set: where is KFP's API?")
    except RadiffuseError as error:
        _say(f"error: {error}")
        return REFUSED
    try:
        client = _connect(arguments)
        run_id = submit(client, package, parameters, arguments.experiment, arguments.run or package.stem)
        print(run_id, flush=True)
        return SUCCEEDED if arguments.no_follow else follow(client, run_id, arguments.timeout, POLL_SECONDS)
    except RadiffuseError as error:
        _say(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        _say("no longer followed; the run goes on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
