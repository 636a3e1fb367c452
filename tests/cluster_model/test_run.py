"""A whole run on a small API server: what it returns, what it raises, and what the job verbs print."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.launcher import train_in_cluster
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.state import is_suspended
from radiffuse.cluster.submit import job_for, submit
from radiffuse.errors import ConfigError, Preempted, TrainingError
from radiffuse.storage import Store
from radiffuse.train_plan import plan_training
from radiffuse.training_place import train_at
from tests.cluster_model.launches import (
    document,
    make_inputs,
    make_plan,
    publish_result,
    result_of,
    settings,
)
from tests.cluster_model.objects import running, terminated
from tests.cluster_model.operating import WRONG, set_conditions, set_pods, the_job, until
from tests.cluster_model.small_api import SmallApi, now


class InBackground(threading.Thread):
    """Does what the cluster would, while the launcher has the main thread."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._act = act

    def run(self) -> None:
        self._act()


def send_and_act(api: SmallApi, act: Callable[[], None]) -> InBackground:
    def wait_and_act() -> None:
        until(lambda: [key for key in api.objects if key[0] == "pytorchjobs"], "the job is sent")
        set_conditions(api, "Created")
        set_pods(api)
        act()

    thread = InBackground(wait_and_act)
    thread.start()
    return thread


@pytest.mark.usefixtures("store_environment")
def test_a_run_on_a_cluster_returns_its_result_and_tells_its_story(
    api: SmallApi, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    data, model = make_inputs()
    summary = tmp_path / "summary.md"

    def succeed() -> None:
        publish_result(store, plan)
        set_conditions(api, "Created", "Succeeded")

    plan = plan_training("few", data, model, settings(), processes=None)
    send_and_act(api, succeed)
    manifest = train_at(json.dumps(document()), store, "few", data, model, settings(), summary)
    assert manifest.uri == plan.uri
    assert "| succeeded |" in summary.read_text()
    train_in_cluster(store, plan, "{}", summary)
    assert "The result was in the store already" in summary.read_text()


def test_the_batch_is_cut_over_the_processes_of_the_job(
    api: SmallApi, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    wanted = settings().model_copy(update={"total_batch_size": 12, "train_batch_size": 8})
    data, model = make_inputs()
    with pytest.raises(
        ConfigError, match=r"1 nodes x 1 processes = 1: each of 1 processes has 12 of .*; sizes that do"
    ):
        train_at(json.dumps(document(nodes=1, gpus_per_node=1)), store, "few", data, model, wanted)

    def succeed() -> None:
        publish_result(store, plan)
        set_conditions(api, "Created", "Succeeded")

    plan = plan_training("few", data, model, wanted, processes=2)
    send_and_act(api, succeed)
    two = json.dumps(document(nodes=1, gpus_per_node=2))
    assert train_at(two, store, "few", data, model, wanted) == result_of(plan)


@pytest.mark.parametrize(
    ("code", "message", "kind", "words"),
    [(2, WRONG, ConfigError, "learning_rate must be below 1"), (134, "", TrainingError, "exited with 134 .crashed")],
)
def test_a_run_that_fails_raises_the_pods_reason(
    api: SmallApi, store: Store, tmp_path: Path, code: int, message: str, kind: type[Exception], words: str
) -> None:
    summary = tmp_path / "summary.md"

    def fail() -> None:
        set_pods(api, running(1, terminated(code, message=message), started=now()))
        set_conditions(api, "Created", "Failed")

    send_and_act(api, fail)
    with pytest.raises(kind, match=words):
        train_in_cluster(store, make_plan(), json.dumps(document()), summary, api.kubeconfig)
    assert re.search(words, summary.read_text().replace("\\", ""))


def test_a_document_that_is_none_is_told_before_a_cluster_is_looked_for(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-job"):
        train_in_cluster(store, make_plan(), "no-such-job", None, tmp_path / "no-kubeconfig")


def test_why_a_run_failed_is_said_though_its_summary_cannot_be_written(
    api: SmallApi, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    wanted, summary = json.dumps(document(queue="none")), tmp_path / "file" / "summary.md"
    with pytest.raises(ConfigError, match="no queue 'none'"):
        train_in_cluster(store, make_plan(), wanted, summary, api.kubeconfig)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_suspends_the_job_and_a_later_run_resumes_it(
    api: SmallApi, store: Store, number: signal.Signals
) -> None:
    plan = make_plan()
    before = signal.getsignal(number)
    send_and_act(api, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Preempted, match="was suspended, run the same command to go on") as caught:
        train_in_cluster(store, plan, json.dumps(document()), None, api.kubeconfig)
    assert caught.value.number is number
    assert signal.getsignal(number) == before
    assert is_suspended(the_job(api))
    with ClusterClient(api.kubeconfig) as client:
        again = submit(client, store, plan, job_for(plan, json.dumps(document()), "train"), Owner(), lambda: None)
    assert again.how == "resumed" and not is_suspended(the_job(api))


def test_the_job_verbs(
    api: SmallApi, store: Store, store_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_environment and store
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    for name, manifest in zip(("data", "model"), make_inputs(), strict=True):
        manifest.save(tmp_path / f"{name}.json")
    run = json.dumps({"name": "few", "train": {"total_batch_size": 64, "train_batch_size": 1}})
    files = [f"--data={tmp_path}/data.json", f"--model={tmp_path}/model.json", f"--config={run}"]
    given = [*files, f"--job={json.dumps(document())}"]

    def verb(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["job", *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    assert "kind: PyTorchJob" in verb("render", *given)
    assert json.loads(verb("submit", *given, "--dry-run", "--json"))[0]["kind"] == "PyTorchJob"
    assert verb("status") == "no jobs of radiffuse in namespace train\n"
    sent = json.loads(verb("submit", *given, "--json"))
    name = sent["name"]
    set_conditions(api, "Created")
    set_pods(api, running(2, terminated(143), started=now()))
    api.pod_log = b"step=1\nstep=2\n"
    table = verb("status", name)
    assert re.search(rf"{name}-master-0 +gpu-0 +running +2 +143", table)
    assert name in verb("status")
    assert json.loads(verb("status", name, "--json"))["restarts"] == 2
    assert verb("logs", name, "--node", "1") == "step=1\nstep=2\n"
    assert verb("cancel", name) == f"train/{name} suspended\n"
    assert "suspended by its user" in verb("status", name)
    assert verb("submit", *given) == f"train/{name} resumed\n"
    set_conditions(api, "Failed")
    assert "the job is Failed" in verb("status", name, "--watch", code=1)
    assert verb("cancel", name, "--delete") == f"train/{name} deleted\n"
    missing = CliRunner().invoke(app, ["job", "status", name])
    assert f"no job '{name}' in namespace train" in str(missing.exception)
