"""The launcher on a small API server: sent once, watched through interruptions, ended and stopped in time."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radiffuse.cli import app
from radiffuse.cluster import watch
from radiffuse.cluster.api_errors import ForbiddenError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PYTORCHJOB, Resource
from radiffuse.cluster.launcher import train_in_cluster
from radiffuse.cluster.mirror import Mirror
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.state import Phase, is_suspended
from radiffuse.cluster.submit import job_for, submit
from radiffuse.errors import ConfigError, Preempted, TrainingError
from radiffuse.outcome import Ending, Outcome
from radiffuse.storage import Store
from radiffuse.train_plan import plan_training
from radiffuse.training_place import train_at
from tests.cluster_model.launches import (
    ENTRIES,
    SECRET,
    Launch,
    document,
    launched,
    make_inputs,
    make_plan,
    publish_result,
    result_of,
    settings,
)
from tests.cluster_model.objects import Object, condition, event, pod, running, terminated, waiting
from tests.cluster_model.small_api import SmallApi, now

WRONG = Ending(Outcome.WRONG_INPUT, "train.learning_rate must be below 1", 0).to_json()
CONFIG_MAPS = Resource("", "v1", "configmaps")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallApi]:
    monkeypatch.setattr(watch, "HEARTBEAT_POLL_SECONDS", 0.2)
    with SmallApi(tmp_path) as server:
        server.put("secrets", {"metadata": {"name": SECRET}, "data": dict.fromkeys(ENTRIES, "eA==")})
        yield server


def until(happens: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def the_job(api: SmallApi) -> Object:
    (job,) = [item for (plural, _, _), item in api.objects.items() if plural == "pytorchjobs"]
    return job


def set_conditions(api: SmallApi, *kinds: str) -> None:
    job = the_job(api)
    job["status"] = {"conditions": [condition(kind, message=f"the job is {kind}") for kind in kinds]}
    api.put("pytorchjobs", job)


def set_pods(api: SmallApi, master: Object | None = None, worker: Object | None = None) -> None:
    name = the_job(api)["metadata"]["name"]
    for role, status in (("master", master), ("worker", worker)):
        item = pod(role, status=status if status is not None else running(started=now()))
        item["metadata"]["name"] = f"{name}-{role}-0"
        item["metadata"]["labels"][PYTORCHJOB.job_label] = name
        api.put("pods", item)


def admit(api: SmallApi, launch: Launch) -> None:
    """What the operator and two kubelets would do."""
    until(lambda: launch.submitted, "the job is sent")
    set_conditions(api, "Created")
    set_pods(api)
    until(lambda: "starting" in launch.phases(), "containers are seen to run")


def test_a_job_is_watched_from_its_start_to_success(
    api: SmallApi, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    api.pod_log = b"2027-01-15T07:59:00.1Z step=1\n2027-01-15T07:59:00.2Z step=2\n"
    with launched(api, store, "train", document()) as launch:
        admit(api, launch)
        launch.beat(50)
        until(lambda: "running" in launch.phases(), "progress is seen")
        until(lambda: "step=2" in capfd.readouterr().err, "the log is shown")
        set_conditions(api, "Created", "Succeeded")
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert state.heartbeat is not None and state.heartbeat.seconds_left == 50.0


def test_what_no_retry_cures_is_told_to_the_operator(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document()) as launch:
        admit(api, launch)
        set_pods(api, waiting("CrashLoopBackOff", restarts=1, last=terminated(2, message=WRONG)))
        until(lambda: the_job(api)["spec"]["runPolicy"]["backoffLimit"] == 0, "the limit is 0")
        set_conditions(api, "Created", "Failed")
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.failed, 2)
    assert "train.learning_rate must be below 1" in state.reason


def test_an_operator_that_does_not_end_the_job_is_not_waited_for_without_end(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document(), cancelled_seconds=1) as launch:
        admit(api, launch)
        set_pods(api, waiting("CrashLoopBackOff", restarts=1, last=terminated(2, message=WRONG)))
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.failed, 2)
    assert is_suspended(the_job(api))


def test_a_phase_that_lasts_too_long_suspends_the_job(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document(), pulled_seconds=1) as launch:
        admit(api, launch)
        set_pods(api, waiting("ImagePullBackOff", "manifest unknown"))
        state = launch.wait()
    assert "not every container could be started within 1 s" in state.reason and "manifest unknown" in state.reason
    assert is_suspended(the_job(api))
    assert the_job(api)["metadata"]["annotations"]["radiffuse.org/suspended-by"] == "deadline"


def test_a_job_in_a_queue_that_is_late_is_deleted(api: SmallApi, store: Store) -> None:
    api.put("localqueues", {"metadata": {"name": "team-a"}})
    with launched(api, store, "train", document(queue="team-a"), queued_seconds=1) as launch:
        state = launch.wait()
    assert "its queue has not admitted the job within 1 s: waits in queue team-a" in state.reason
    assert not [key for key in api.objects if key[0] == "pytorchjobs"]


def test_a_job_that_somebody_deletes_is_over(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document()) as launch:
        admit(api, launch)
        api.remove("pytorchjobs", launch.job.name)
        assert launch.wait().phase is Phase.deleted


def test_events_are_told_and_where_they_are_forbidden_that_is_said_once(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document()) as launch:
        until(lambda: launch.submitted, "the job is sent")
        api.put("events", event(launch.job.name, "FailedCreatePod", "exceeded quota") | {"metadata": {"name": "e"}})
        set_conditions(api, "Created")
        until(lambda: launch.timeline.events, "the event is told")
        assert launch.timeline.last is not None
        until(lambda: "exceeded quota" in launch.timeline.last.reason, "the reason is known")
    api.forbidden.add("events")
    with launched(api, store, "train", document()) as launch:
        until(lambda: launch.timeline.notes, "it is said")
        assert launch.timeline.notes == ["events may not be read by this account, so reasons come from the pods alone"]


def test_a_server_that_breaks_off_forgets_and_is_busy_costs_a_pause_only(api: SmallApi, store: Store) -> None:
    with launched(api, store, "train", document()) as launch:
        admit(api, launch)
        api.refusals += [(503, "the server is starting")] * 6
        api.forget()
        set_conditions(api, "Created", "Succeeded")
        assert launch.wait().phase is Phase.succeeded


def test_an_account_without_rights_ends_at_once(api: SmallApi, store: Store) -> None:
    api.forbidden.add("pods")
    with launched(api, store, "train", document()) as launch, pytest.raises(ForbiddenError, match='resource "pods"'):
        launch.wait()


def test_a_server_that_is_gone_for_long_is_given_up(
    api: SmallApi, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.5)
    with launched(api, store, "train", document()) as launch:
        admit(api, launch)
        api.refusals += [(503, "no")] * 1000
        api.break_streams()
        with pytest.raises(UnavailableError, match="the job goes on without its launcher"):
            launch.wait()


def test_an_expired_watch_begins_anew_with_a_list(api: SmallApi) -> None:
    with ClusterClient(api.kubeconfig) as client, Mirror(client, CONFIG_MAPS, "train", lambda: None) as mirror:
        until(lambda: mirror.is_synced, "a list has arrived")
        api.forget()
        api.put("configmaps", {"metadata": {"name": "a"}})
        until(lambda: [item["metadata"]["name"] for item in mirror.items()] == ["a"], "the mirror is current")
        assert mirror.error is None


def test_a_replaced_job_waits_for_the_name_and_forgets_old_records(api: SmallApi, store: Store) -> None:
    plan = make_plan()
    job = job_for(plan, json.dumps(document()), "train")
    with ClusterClient(api.kubeconfig) as client:
        first = submit(client, store, plan, job, Owner(), lambda: None)
        assert submit(client, store, plan, job, Owner(), lambda: None).how == "found"
        set_conditions(api, "Failed")
        store.put_bytes(f"{plan.checkpoints_uri}/outcome.json", b"{}")
        again = submit(client, store, plan, job, Owner(), lambda: None)
    assert again.how == "replaced" and again.uid != first.uid
    assert not store.exists(f"{plan.checkpoints_uri}/outcome.json")


def test_what_is_missing_is_said_all_at_once(api: SmallApi, store: Store) -> None:
    api.put("secrets", {"metadata": {"name": SECRET}, "data": {"MINIO_ACCESS_KEY": "eA=="}})
    plan = make_plan()
    shown = json.dumps(document(queue="none", image_pull_secrets=["registry"]))
    words = "has no MINIO_SECRET_KEY, MINIO_ENDPOINT.*no secret 'registry'.*no queue 'none'.*Nothing was sent"
    with ClusterClient(api.kubeconfig) as client, pytest.raises(ConfigError, match=words):
        submit(client, store, plan, job_for(plan, shown, "train"), Owner(), lambda: None)


def test_a_secret_that_may_not_be_read_is_taken_on_trust(api: SmallApi, store: Store) -> None:
    api.forbidden.add("secrets")
    plan = make_plan()
    with ClusterClient(api.kubeconfig) as client:
        assert submit(client, store, plan, job_for(plan, "{}", "train"), Owner(), lambda: None).how == "created"


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
    with pytest.raises(Preempted, match="was suspended, run the same command to go on"):
        train_in_cluster(store, plan, json.dumps(document()), None, api.kubeconfig)
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
