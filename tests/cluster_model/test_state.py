"""What state a job is in: one case per phase and ending, and that nothing a server may send breaks the reading."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.cluster.kinds import ENDED_BECAUSE, KINDS, PYTORCHJOB, QUEUE_LABEL, SUSPENDED_BY, TRAINJOB, JobKind
from radiffuse.cluster.pods import read_pods
from radiffuse.cluster.state import Heartbeat, JobState, Phase, observe, read_heartbeat
from radiffuse.outcome import Ending, Outcome
from tests.cluster_model.objects import (
    NOW,
    STARTED_SECONDS,
    Object,
    condition,
    event,
    pod,
    pytorchjob,
    running,
    terminated,
    trainjob,
    unschedulable,
    waiting,
)

CREATED = condition("Created")
WRONG = Ending(Outcome.WRONG_INPUT, "train.learning_rate is negative", 0).to_json()


def seen(job: Object | None, *pods: Object, kind: JobKind = PYTORCHJOB, **more: Any) -> JobState:
    return observe(kind, job, pods, **{"now": NOW, "stalled_after_seconds": 600.0, **more})


def beat(seconds_ago: float = 5.0, step: int = 10) -> Heartbeat:
    return Heartbeat(step, 100, 0.5, 40.0, 1, NOW - seconds_ago, total_batch_size=8)


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        (PYTORCHJOB, pytorchjob(CREATED, condition("Running", "False"), condition("Succeeded"))),
        (TRAINJOB, trainjob(condition("Suspended", "False"), condition("Complete"))),
    ],
)
def test_a_job_is_done_when_its_own_condition_says_so(kind: JobKind, job: Object) -> None:
    state = seen(job, kind=kind)
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)


def test_conditions_that_hold_no_longer_say_nothing() -> None:
    job = pytorchjob(condition("Failed", "False"), condition("Succeeded", "False"), condition("Running"))
    assert seen(job, pod(), pod("worker"), heartbeat=beat()).phase is Phase.running


def test_the_order_of_conditions_says_nothing() -> None:
    job = pytorchjob(condition("Failed", message="x"), condition("Running", "False"), CREATED)
    assert seen(job).phase is Phase.failed


def test_a_job_that_nobody_reacts_to_names_its_operator() -> None:
    state = seen(pytorchjob())
    assert state.phase is Phase.queued
    assert "is Kubeflow Training Operator 1.9 installed and running?" in state.reason


def test_a_job_in_a_queue_says_what_the_queue_says() -> None:
    job = pytorchjob(condition("Suspended"), labels={QUEUE_LABEL: "team-a"})
    job["spec"]["runPolicy"]["suspend"] = True
    state = seen(job, events=[event("demo-1a2b3c4d", "Pending", "insufficient quota for nvidia.com/gpu")])
    assert state.phase is Phase.queued
    assert state.reason == "waits in queue team-a (Pending: insufficient quota for nvidia.com/gpu)"


def test_missing_pods_say_why_they_could_not_be_made() -> None:
    events = [event("demo-1a2b3c4d", "FailedCreatePod", "exceeded quota")]
    state = seen(pytorchjob(CREATED), pod(), events=events)
    assert (state.phase, state.reason) == (Phase.admitted, "1 of 2 pods exist (FailedCreatePod: exceeded quota)")


def test_the_pod_that_is_least_far_decides() -> None:
    why = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    state = seen(pytorchjob(CREATED), pod(), pod("worker", status=unschedulable(why), node=""))
    assert state.phase is Phase.admitted
    assert state.reason == f"demo-1a2b3c4d-worker-0: Unschedulable: {why}"


def test_a_bound_pod_without_containers_is_scheduled() -> None:
    bound = {"phase": "Pending", "conditions": [condition("PodScheduled")]}
    assert seen(pytorchjob(CREATED, nodes=1), pod(status=bound)).phase is Phase.scheduled


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_had_is_named(reason: str) -> None:
    state = seen(pytorchjob(CREATED, nodes=1), pod(status=waiting(reason, 'image "x:1" not found')))
    assert state.phase is Phase.pulling
    assert state.reason == f'demo-1a2b3c4d-master-0: {reason}: image "x:1" not found'


def test_containers_that_run_without_progress_are_starting() -> None:
    assert seen(pytorchjob(CREATED), pod(), pod("worker")).phase is Phase.starting


def test_progress_from_before_the_last_start_does_not_count() -> None:
    assert STARTED_SECONDS == NOW - 60
    state = seen(pytorchjob(CREATED), pod(status=running(1, terminated(143))), pod("worker"), heartbeat=beat(61))
    assert state.phase is Phase.starting
    assert "exited with 143 (stopped from outside, its checkpoint complete)" in state.reason


def test_a_container_that_has_ended_well_is_not_starting_again() -> None:
    ended = running()
    ended["containerStatuses"][0]["state"] = {"terminated": terminated(0, "Completed")}
    assert seen(pytorchjob(CREATED, nodes=1), pod(status=ended), heartbeat=beat()).phase is Phase.running
    ended["containerStatuses"][0]["state"] = {"terminated": terminated(143)}
    assert seen(pytorchjob(CREATED, nodes=1), pod(status=ended), heartbeat=beat()).phase is Phase.starting


def test_without_a_store_containers_that_run_are_running() -> None:
    assert seen(pytorchjob(CREATED), pod(), pod("worker"), is_heartbeat_known=False).phase is Phase.running


def test_a_start_that_has_made_no_step_is_starting() -> None:
    loading = dataclasses.replace(beat(), loss=None)
    state = seen(pytorchjob(CREATED), pod(), pod("worker"), heartbeat=loading)
    assert (state.phase, state.reason) == (Phase.starting, "no step reported yet; it goes on from step 10")


def test_progress_that_stops_is_a_stall() -> None:
    pods = pod(status=running(started="2027-01-15T06:00:00Z")), pod("worker")
    assert seen(pytorchjob(CREATED), *pods, heartbeat=beat(599)).phase is Phase.running
    state = seen(pytorchjob(CREATED), *pods, heartbeat=beat(601))
    assert (state.phase, state.reason) == (Phase.stalled, "no progress for 601 s, the last at step 10")


@pytest.mark.parametrize(("by", "who"), [("launcher", "its launcher"), ("", "somebody")])
def test_a_suspended_job_says_who_did_it(by: str, who: str) -> None:
    job = pytorchjob(condition("Suspended"), annotations={SUSPENDED_BY: by} if by else {})
    job["spec"]["runPolicy"]["suspend"] = True
    state = seen(job)
    assert state.phase is Phase.suspended and who in state.reason


def test_a_trainjob_is_suspended_in_its_own_place() -> None:
    job = trainjob(condition("Suspended"))
    job["spec"]["suspend"] = True
    assert seen(job, kind=TRAINJOB).phase is Phase.suspended


def test_wrong_settings_end_the_job_with_the_workers_words() -> None:
    last = terminated(2, message=WRONG)
    state = seen(pytorchjob(CREATED), pod(status=waiting("CrashLoopBackOff", restarts=1, last=last)), pod("worker"))
    assert state.should_end is not None and state.exit_code is None
    failed = seen(pytorchjob(condition("Failed", message="job failed")), remembered=[state.should_end])
    assert (failed.phase, failed.exit_code) == (Phase.failed, 2)
    assert "exited with 2 (wrong settings or data, which no retry cures): train.learning_rate is neg" in failed.reason


def test_the_reason_outlives_the_pods_on_the_job_itself() -> None:
    job = pytorchjob(condition("Failed", message="backoff limit"), annotations={ENDED_BECAUSE: WRONG})
    state = seen(job)
    assert (state.reason, state.exit_code) == ("train.learning_rate is negative", 2)


def test_the_cause_comes_before_its_echo() -> None:
    killed = pod(status=running(1, terminated(134, message="")))
    oom = pod("worker", status=running(1, terminated(137, "OOMKilled")))
    state = seen(pytorchjob(condition("Failed", message="limit")), killed, oom)
    assert state.reason.startswith("demo-1a2b3c4d-worker-0 was OOMKilled: it went over its memory limit")
    assert state.exit_code == 1


def test_an_eviction_says_what_the_kubelet_says() -> None:
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    state = seen(pytorchjob(condition("Failed", message="x"), nodes=1), pod(status=evicted))
    assert "was ended: Evicted: The node was low on resource: memory." in state.reason


def test_a_job_that_is_gone_was_deleted() -> None:
    assert seen(None).phase is Phase.deleted
    assert seen(pytorchjob(CREATED, deletionTimestamp="2027-01-15T08:00:00Z")).phase is Phase.deleted


def test_node_0_comes_first_and_10_after_9() -> None:
    pods = [pod("worker", index) for index in (10, 9, 0)] + [pod()]
    roles = [state.role for state in read_pods(PYTORCHJOB, pods)]
    assert roles == ["master-0", "worker-0", "worker-9", "worker-10"]


def test_time_left_follows_from_speed_and_batch() -> None:
    assert beat(step=60).seconds_left == 40 * 8 / 40
    assert Heartbeat(1, 10, 0.0, 0.0, 1, NOW, 8).seconds_left is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"global_step": 1e999}', b"\xff"])
def test_a_record_that_is_no_progress_is_no_progress(data: bytes) -> None:
    assert read_heartbeat(data) is None


KEYS = st.sampled_from(
    "metadata labels annotations spec status conditions type reason message phase state lastState terminated running "
    "waiting exitCode containerStatuses initContainerStatuses name nodeName restartCount startedAt finishedAt suspend "
    "runPolicy pytorchReplicaSpecs Master replicas trainer numNodes deletionTimestamp involvedObject "
    "lastTimestamp".split()
)
WORDS = st.sampled_from(
    "True False Succeeded Failed Complete Running Pending PodScheduled Unschedulable pytorch node OOMKilled Evicted "
    "CrashLoopBackOff 2027-01-15T07:59:00Z 0001-01-01T00:00:00Z 9999-99-99".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | WORDS | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)
ANY_OBJECT = st.dictionaries(KEYS, ANYTHING, max_size=6)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    job=st.none() | ANY_OBJECT,
    pods=st.lists(ANY_OBJECT, max_size=3),
    events=st.lists(ANY_OBJECT, max_size=2),
    has_beat=st.booleans(),
)
def test_whatever_the_server_sends_there_is_a_state(
    kind: str, job: Object | None, pods: list[Object], events: list[Object], has_beat: bool
) -> None:
    state = observe(KINDS[kind], job, pods, events, beat() if has_beat else None, now=NOW)
    assert state.phase in Phase
    assert (state.exit_code is not None) == state.phase.is_end
    assert "\n" not in state.reason


@given(codes=st.lists(st.sampled_from([0, 1, 2, 3, 127, 134, 137, 143]), max_size=3), failed=st.booleans())
def test_a_failed_job_never_ends_with_0_and_a_done_one_always(codes: list[int], failed: bool) -> None:
    pods = [pod("worker", index, running(1, terminated(code))) for index, code in enumerate(codes)]
    state = seen(pytorchjob(condition("Failed" if failed else "Succeeded")), *pods)
    assert (state.exit_code == 0) is not failed
    assert (state.exit_code == 2) is (failed and 2 in codes and (3 not in codes or codes.index(2) < codes.index(3)))


@given(data=st.lists(ANY_OBJECT, max_size=4))
def test_reading_pods_keeps_every_one(data: list[Object]) -> None:
    assert len(read_pods(PYTORCHJOB, data)) == len(data)
