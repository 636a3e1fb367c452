"""Decided without asking anybody: which error an answer is, what a name that is taken means, what is late."""

import json
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import MaxRetryError, NewConnectionError, SSLError

from radiffuse.cluster import api_errors
from radiffuse.cluster.api_errors import refusal, unreachable
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.finish import PhaseClock, waits_for
from radiffuse.cluster.kinds import MANAGED_BY, MANAGED_BY_LABEL, PLAN_LABEL, PYTORCHJOB, SUSPENDED_BY, TRAINJOB
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.pods import ContainerEnd
from radiffuse.cluster.sections import Deadlines
from radiffuse.cluster.state import JobState, Phase
from radiffuse.cluster.stopping import resumption, suspension
from radiffuse.cluster.submit import Found, decide
from radiffuse.cluster.summary import to_markdown, write_summary
from radiffuse.cluster.timeline import Timeline, duration
from radiffuse.errors import ClusterError, ConfigError, StorageError
from tests.cluster_model.objects import Object, condition, pytorchjob, trainjob

DIGEST = "1a2b3c4d5e6f7a8b"
SERVER = "https://10.0.0.1:6443"
WORKFLOW = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "finetune-x", "uid": "w1"}
OTHER = WORKFLOW | {"name": "finetune-y", "uid": "w2"}


def answer(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


def ours(*conditions: Object, digest: str = DIGEST, **more: Any) -> Object:
    labels = {MANAGED_BY_LABEL: MANAGED_BY, PLAN_LABEL: digest}
    return pytorchjob(*conditions, labels=labels, **more)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Unauthorized", "UnauthenticatedError"),
        (403, 'pytorchjobs is forbidden: User "u" cannot create resource', "ForbiddenError"),
        (403, 'admission webhook "validator" denied the request: must be 1', "RefusedError"),
        (403, "exceeded quota: team-a", "ClusterError"),
        (404, 'pytorchjobs "x" not found', "NotFoundError"),
        (409, 'pytorchjobs "x" already exists', "ConflictError"),
        (410, "too old resource version", "ExpiredError"),
        (422, "metadata.name: Invalid value", "RefusedError"),
        (503, "apiserver not ready", "UnavailableError"),
        (500, "failed calling webhook: connection refused", "UnavailableError"),
    ],
)
def test_each_refusal_is_an_error_of_its_own_and_keeps_the_servers_words(status: int, message: str, kind: str) -> None:
    error = refusal(status, answer(message), "create pytorchjobs train/x", SERVER)
    assert type(error).__name__ == kind
    assert message in str(error) and SERVER in str(error) and "create pytorchjobs train/x" in str(error)


def test_what_a_webhook_refuses_is_misuse() -> None:
    assert issubclass(api_errors.RefusedError, ConfigError)


def test_an_answer_that_is_no_status_is_shown_in_part() -> None:
    error = refusal(502, b"<html>\n  Bad   Gateway </html>", "list pods", SERVER)
    assert str(error).endswith("(502): <html> Bad Gateway </html>")


def test_a_server_that_is_gone_is_worth_a_retry_and_one_without_trust_is_not() -> None:
    gone = MaxRetryError(None, "/", NewConnectionError(None, "[Errno 111] Connection refused"))  # type: ignore[arg-type]
    error = unreachable(gone, "list pods", SERVER)
    assert isinstance(error, api_errors.UnavailableError)
    assert f"cannot reach {SERVER} ([Errno 111] Connection refused)" in str(error)
    untrusted = unreachable(MaxRetryError(None, "/", SSLError("certificate verify failed")), "list pods", SERVER)  # type: ignore[arg-type]
    assert not isinstance(untrusted, api_errors.UnavailableError)
    assert "no trusted TLS connection" in str(untrusted)


def test_a_name_that_is_free_is_taken() -> None:
    assert decide(None, DIGEST, Owner()) is Found.nothing


def test_our_own_job_is_found_again() -> None:
    assert decide(ours(condition("Running")), DIGEST, Owner()) is Found.attach
    owned = ours(condition("Running"), ownerReferences=[WORKFLOW])
    assert decide(owned, DIGEST, Owner(WORKFLOW)) is Found.attach
    assert decide(ours(), DIGEST, Owner(WORKFLOW)) is Found.attach


def test_what_we_suspended_is_resumed() -> None:
    suspended = ours(ownerReferences=[WORKFLOW], annotations={SUSPENDED_BY: "launcher"})
    assert decide(suspended, DIGEST, Owner(WORKFLOW)) is Found.resume


@pytest.mark.parametrize("end", ["Failed", "Succeeded"])
def test_a_job_that_is_over_is_replaced_whosever_it_was(end: str) -> None:
    assert decide(ours(condition(end), ownerReferences=[OTHER]), DIGEST, Owner(WORKFLOW)) is Found.replace


def test_what_another_run_left_suspended_is_replaced() -> None:
    suspended = ours(ownerReferences=[OTHER], annotations={SUSPENDED_BY: "launcher"})
    assert decide(suspended, DIGEST, Owner(WORKFLOW)) is Found.replace


def test_another_plans_job_is_left_alone() -> None:
    with pytest.raises(ConfigError, match=r"train/demo-1a2b3c4d exists and trains another plan \(ffff, not 1a2b"):
        decide(ours(digest="ffff"), DIGEST, Owner())
    with pytest.raises(ConfigError, match=r"another plan \(none, not"):
        decide(pytorchjob(), DIGEST, Owner())


def test_another_runs_job_is_left_alone_while_it_runs() -> None:
    with pytest.raises(ConfigError, match="Workflow finetune-y trains the same plan now, as job train/demo-1a2b3c4d"):
        decide(ours(condition("Running"), ownerReferences=[OTHER]), DIGEST, Owner(WORKFLOW))


@pytest.mark.parametrize("kind", [PYTORCHJOB, TRAINJOB])
def test_resuming_undoes_what_suspending_did(kind: Any) -> None:
    put, undone = suspension(kind, "launcher"), resumption(kind)
    assert put["metadata"]["annotations"].keys() <= undone["metadata"]["annotations"].keys()
    assert set(undone["metadata"]["annotations"].values()) == {None}
    assert json.dumps(put["spec"]).replace("true", "false") == json.dumps(undone["spec"])


@pytest.mark.parametrize(
    ("phase", "job", "expected"),
    [
        (Phase.queued, ours(), "admitted_seconds"),
        (Phase.queued, pytorchjob(labels={"kueue.x-k8s.io/queue-name": "a"}), "queued_seconds"),
        (Phase.admitted, trainjob(), "admitted_seconds"),
        (Phase.admitted, trainjob(nodes=0), "scheduled_seconds"),
        (Phase.scheduled, ours(), "pulled_seconds"),
        (Phase.pulling, ours(), "pulled_seconds"),
        (Phase.starting, ours(), "started_seconds"),
        (Phase.stalled, ours(), "heartbeat_seconds"),
        (Phase.running, ours(), None),
    ],
)
def test_every_phase_that_waits_is_under_a_deadline(phase: Phase, job: Object, expected: str | None) -> None:
    assert waits_for(JobState(phase, ""), job) == expected


def test_an_end_that_the_operator_does_not_make_is_under_a_deadline_too() -> None:
    end = ContainerEnd("p", 2, "Error", "", 0.0)
    assert waits_for(JobState(Phase.starting, "", should_end=end), ours()) == "cancelled_seconds"


def test_a_phase_is_late_after_its_own_deadline_and_not_the_former_ones() -> None:
    clock = PhaseClock(Deadlines(admitted_seconds=10, scheduled_seconds=20))
    assert clock.overdue("admitted_seconds", 0.0) is None
    assert clock.overdue("scheduled_seconds", 9.0) is None
    assert clock.overdue("scheduled_seconds", 28.9) is None
    assert clock.overdue("scheduled_seconds", 29.0) == "not every pod has found a node within 20 s"


def test_a_stall_is_late_at_once() -> None:
    assert PhaseClock(Deadlines()).overdue("heartbeat_seconds", 5.0) == "training makes no progress within 1200 s"


def test_durations_are_written_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 200, 7500, 270000)] == ["0s", "1m00s", "3m20s", "2h05m", "3d03h"]


def test_a_summary_is_whole_or_not_there(small_disk: Path) -> None:
    fill = small_disk / "fill"
    fill.write_bytes(bytes(2**20 - 8192))
    with pytest.raises(StorageError, match="no space"):
        write_summary(small_disk / "summary.md", Timeline("demo"), "s3://models/demo/1", "x" * 10_000)
    assert list(small_disk.iterdir()) == [fill]


def test_the_summary_shows_text_of_others_as_text() -> None:
    timeline = Timeline("demo-1a2b3c4d")
    timeline.see(JobState(Phase.pulling, "p: ErrImagePull: <script>|*x*"))
    timeline.see(JobState(Phase.failed, "p was OOMKilled", 1))
    page = to_markdown(timeline, "s3://models/demo/1a2b", "job demo failed")
    assert r"\<script>\|\*x\*" in page
    assert "| failed |" in page and "What to do next" in page and "`s3://models/demo/1a2b`" in page


def test_without_a_kubeconfig_the_error_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=rf"no kubeconfig at {tmp_path}/none, .* name one with --kubeconfig"):
        ClusterClient(tmp_path / "none")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/b")
    with pytest.raises(ClusterError, match=rf"no kubeconfig at {tmp_path}/a, {tmp_path}/b"):
        ClusterClient()


@pytest.mark.parametrize("text", ["", "{", "[]", "a: 1", "clusters: 3", "current-context: x\ncontexts: []"])
def test_a_kubeconfig_that_is_none_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ClusterError, match=r"the kubeconfig .*/config cannot be used: "):
        ClusterClient(path)
