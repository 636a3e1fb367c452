"""The launcher on a small API server: sent once, watched through interruptions, ended and stopped in time."""

import json

import pytest

from radiffuse.cluster import watch
from radiffuse.cluster.api_errors import ForbiddenError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import Resource
from radiffuse.cluster.mirror import Mirror
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.state import Phase, is_suspended
from radiffuse.cluster.submit import job_for, submit
from radiffuse.errors import ConfigError
from radiffuse.storage import Store
from tests.cluster_model.launches import (
    SECRET,
    Launch,
    document,
    launched,
    make_plan,
)
from tests.cluster_model.objects import event, terminated, waiting
from tests.cluster_model.operating import WRONG, set_conditions, set_pods, the_job, until
from tests.cluster_model.small_api import SmallApi

CONFIG_MAPS = Resource("", "v1", "configmaps")


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
