"""A job is watched to every end it can have, by a real API server and operator: state, reason, exit code."""

import dataclasses
import json
import time

import pytest

from radiffuse.cluster import watch
from radiffuse.cluster.api_errors import ForbiddenError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PYTORCHJOB, Resource
from radiffuse.cluster.state import Phase
from radiffuse.cluster.watch import HeartbeatReader, JobWatcher
from radiffuse.errors import ClusterError
from radiffuse.outcome import Ending, Outcome
from radiffuse.storage import Store
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster_model.launches import document, launched

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("gpu_nodes")]

WRONG = Ending(Outcome.WRONG_INPUT, "train.learning_rate must be below 1", 0).to_json()
WAIT = 60.0
GAVE_UP = Ending(Outcome.GAVE_UP, "5 starts without a newer checkpoint", 40).to_json()


def condition(plane: ControlPlane, namespace: str, name: str, kind: str) -> str:
    job = plane.get("pytorchjob", name, "--namespace", namespace)
    return next((each["status"] for each in job["status"]["conditions"] if each["type"] == kind), "")


def test_success_is_seen_with_its_progress_and_its_log(
    control_plane: ControlPlane,
    gpu_nodes: GpuNodes,
    store: Store,
    job_namespace: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_POLL_SECONDS", 0.5)
    shown: list[str] = []

    def is_logged() -> bool:
        shown.append(capfd.readouterr().err)
        return "step=1 loss=0.5" in "".join(shown)

    with launched(control_plane, store, job_namespace, document("run")) as launch:
        first = f"{launch.job.name}-master-0"
        gpu_nodes.write_log(job_namespace, first, "step=1 loss=0.5")
        wait_until(lambda: "starting" in launch.phases(), WAIT, "containers run")
        launch.beat(50)
        wait_until(lambda: "running" in launch.phases(), WAIT, "progress is seen")
        wait_until(is_logged, WAIT, "the log is shown")
        gpu_nodes.succeed(job_namespace)
        state = launch.wait()
        gpu_nodes.write_log(job_namespace, first, "step=2 loss=0.4")
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert "".join([*shown, capfd.readouterr().err]).count("step=1 loss=0.5") == 1
    assert sorted(pod.node for pod in state.pods) == list(gpu_nodes.names)
    assert state.heartbeat is not None and state.heartbeat.seconds_left == 50.0


@pytest.mark.parametrize(
    ("outcome", "message", "code", "words"),
    [("exit-2", WRONG, 2, "train.learning_rate must be below 1"), ("exit-3", GAVE_UP, 1, "5 starts without")],
)
def test_what_no_retry_cures_is_ended_by_the_operator_at_once(
    control_plane: ControlPlane, store: Store, job_namespace: str, outcome: str, message: str, code: int, words: str
) -> None:
    with launched(control_plane, store, job_namespace, document(outcome, message=message)) as launch:
        state = launch.wait()
        assert (state.phase, state.exit_code) == (Phase.failed, code)
        assert words in state.reason
        assert condition(control_plane, job_namespace, launch.job.name, "Failed") == "True"
        job = control_plane.get("pytorchjob", launch.job.name, "--namespace", job_namespace)
        assert words in job["metadata"]["annotations"]["radiffuse.org/ended-because"]
        assert launch.ended_after_seconds < 60

        def are_ended() -> bool:
            pods = control_plane.get("pods", "--namespace", job_namespace)["items"]
            return not [pod for pod in pods if pod["status"]["phase"] == "Running"]

        wait_until(are_ended, WAIT, "the operator has taken the pods away")


@pytest.mark.parametrize("code", [134, 143])
def test_a_crash_or_a_preemption_is_survived(
    control_plane: ControlPlane, store: Store, job_namespace: str, code: int
) -> None:
    with launched(control_plane, store, job_namespace, document(f"restart-{code},succeed")) as launch:
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)
    assert {end.exit_code for end in launch.timeline.ends} == {0, code}


def test_a_pod_that_is_taken_away_is_replaced_and_the_job_goes_on(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    shown = document("run", after_milliseconds=2000)
    shown["annotations"]["test.radiffuse.org/on-delete"] = "exit-143"
    with launched(control_plane, store, job_namespace, shown) as launch:
        wait_until(lambda: launch.phases()[-1:] == ["starting"], WAIT, "containers run")
        worker = f"{launch.job.name}-worker-0"
        before = control_plane.get("pod", worker, "--namespace", job_namespace)["metadata"]["uid"]
        control_plane.kubectl("delete", "pod", worker, "--namespace", job_namespace, "--wait=false")
        wait_until(lambda: 143 in [end.exit_code for end in launch.timeline.ends], WAIT, "the exit code was seen")

        def is_another() -> bool:
            pods = control_plane.get("pods", "--namespace", job_namespace)["items"]
            return [pod["metadata"]["uid"] for pod in pods if pod["metadata"]["name"] == worker] not in ([], [before])

        wait_until(is_another, WAIT, "the operator made another worker")
        assert launch.state is None


def test_a_job_that_is_always_killed_for_memory_fails_and_says_so(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with launched(control_plane, store, job_namespace, document("oom", max_restarts=1)) as launch:
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.failed, 1)
    assert "was OOMKilled: it went over its memory limit" in state.reason


def test_an_eviction_is_told_and_survived(control_plane: ControlPlane, store: Store, job_namespace: str) -> None:
    with launched(control_plane, store, job_namespace, document("evicted")) as launch:
        wait_until(
            lambda: [end for end in launch.timeline.ends if end.reason == "Evicted"], WAIT, "the eviction is told"
        )


@pytest.mark.parametrize(
    ("outcome", "fields", "words"),
    [
        (
            "",
            {"nodes": 1, "gpus_per_node": 64},
            ("not every pod has found a node within 3 s", "2 Insufficient nvidia.com/gpu"),
        ),
        ("pull-error", {}, ("not every container could be started within 3 s", "ImagePullBackOff")),
        ("stay-pending", {}, ("not every container could be started within 3 s", "pulling")),
        ("run", {}, ("training has not begun within 3 s", "no progress reported yet")),
    ],
)
def test_a_phase_that_lasts_too_long_ends_the_job_with_its_reason(
    control_plane: ControlPlane,
    store: Store,
    job_namespace: str,
    outcome: str,
    fields: dict[str, int],
    words: tuple[str],
) -> None:
    deadlines = {"scheduled_seconds": 3, "pulled_seconds": 3, "started_seconds": 3}
    with launched(control_plane, store, job_namespace, document(outcome, **fields), **deadlines) as launch:
        state = launch.wait()
        assert (state.phase, state.exit_code) == (Phase.failed, 1)
        assert all(word in state.reason for word in words), state.reason

        def is_suspended() -> bool:
            return condition(control_plane, job_namespace, launch.job.name, "Suspended") == "True"

        wait_until(is_suspended, 20, "the operator has taken the pods away")


def test_training_that_stops_making_progress_is_stalled(
    control_plane: ControlPlane, store: Store, job_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_POLL_SECONDS", 0.5)
    with launched(control_plane, store, job_namespace, document("run"), heartbeat_seconds=60) as launch:
        wait_until(lambda: "starting" in launch.phases(), WAIT, "containers run")
        launch.beat(7)
        wait_until(lambda: "running" in launch.phases(), WAIT, "progress is seen")
        long_ago = time.monotonic() - 100
        monkeypatch.setattr(HeartbeatReader, "silent_seconds", property(lambda self: time.monotonic() - long_ago))
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.failed, 1)
    assert "training makes no progress within 60 s" in state.reason and "the last at step 7" in state.reason


def test_a_job_that_somebody_deletes_is_over(control_plane: ControlPlane, store: Store, job_namespace: str) -> None:
    with launched(control_plane, store, job_namespace, document()) as launch:
        wait_until(lambda: "starting" in launch.phases(), WAIT, "containers run")
        control_plane.kubectl("delete", "pytorchjob", launch.job.name, "--namespace", job_namespace, "--wait=false")
        state = launch.wait()
    assert (state.phase, state.exit_code) == (Phase.deleted, 1)
    assert "deleted" in state.reason


def test_an_operator_that_is_not_there_is_named_when_its_webhook_is_asked(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with (
        control_plane.without_training_operator(),
        launched(control_plane, store, job_namespace, document(), admitted_seconds=3) as launch,
        pytest.raises(ClusterError) as caught,
    ):
        launch.wait()
    assert "failed calling webhook" in str(caught.value)
    assert "Kubeflow Training Operator 1.9" in str(caught.value)


def allow_without_webhook(plane: ControlPlane, policy: str) -> None:
    """Whether objects pass that the operator's webhook, which is not there, cannot look at."""
    name = "validatingwebhookconfiguration/validator.training-operator.kubeflow.org"
    webhooks = plane.get(name)["webhooks"]
    patch = [
        {"op": "replace", "path": f"/webhooks/{index}/failurePolicy", "value": policy} for index in range(len(webhooks))
    ]
    plane.kubectl("patch", name, "--type=json", "-p", json.dumps(patch))


def test_an_operator_that_does_not_react_is_named_after_the_deadline(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    with control_plane.without_training_operator():
        allow_without_webhook(control_plane, "Ignore")
        try:
            with launched(control_plane, store, job_namespace, document(), admitted_seconds=3) as launch:
                state = launch.wait()
        finally:
            allow_without_webhook(control_plane, "Fail")
    assert (state.phase, state.exit_code) == (Phase.failed, 1)
    assert "the operator has not made the job's pods within 3 s" in state.reason
    assert "is Kubeflow Training Operator 1.9 installed and running?" in state.reason


def test_a_kind_of_job_that_the_server_does_not_know_is_named(control_plane: ControlPlane, job_namespace: str) -> None:
    unknown = dataclasses.replace(PYTORCHJOB, resource=Resource("kubeflow.org", "v1", "xjobs"))
    with (
        ClusterClient(control_plane.kubeconfig) as client,
        JobWatcher(client, unknown, job_namespace, "few", HeartbeatReader(None, "", None)) as watcher,
        pytest.raises(ClusterError, match=r"knows no PyTorchJob: Kubeflow Training Operator 1\.9 is not installed"),
    ):
        watcher.wait_until_known()


def test_a_token_without_rights_ends_at_once_in_the_servers_words(
    control_plane: ControlPlane, store: Store, job_namespace: str
) -> None:
    kubeconfig = control_plane.kubeconfig_for(job_namespace, "default")
    with launched(control_plane, store, job_namespace, document(), kubeconfig=kubeconfig) as launch:
        with pytest.raises(ForbiddenError, match=r'cannot get resource "pytorchjobs" in API group "kubeflow\.org"'):
            launch.wait(20)
        assert launch.ended_after_seconds < 10
