"""Submitting a compiled pipeline: what is refused before anything is sent, and how a run's end becomes an exit code."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import submit
from pipelines.parameters import check_parameters
from radiffuse.cluster.job import load_job
from tests.cluster_model.jobs import RUN
from tests.pipelines.kfp_rest import API, Execute, KfpServer, kfp_run_submit

ROOT = Path(__file__).parents[2]
FINETUNE = ROOT / "pipelines/finetune.yaml"
PARTS = ROOT / "pipelines/finetune_parts.yaml"
GOOD = ("source=/data/chexpert", "config=demo", "base_model=tiny")


def ends(state: str, *steps: tuple[str, str]) -> Execute:
    """A run that reports these steps and ends like this."""

    def execute(_package: str, _parameters: dict[str, Any], report: Callable[[str, str], None]) -> str:
        for name, step_state in steps:
            report(name, step_state)
        return state

    return execute


def never_ends(until: threading.Event) -> Execute:
    def execute(*_: Any) -> str:
        until.wait(120)
        return "SUCCEEDED"

    return execute


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "POLL_SECONDS", 0.05)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1)])
def test_the_exit_code_says_how_the_run_ended(state: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(ends(state, ("ingest", "SUCCEEDED"), ("train", state))) as server:
        assert submit.main(["finetune", *GOOD, "--endpoint", server.endpoint]) == code
        (run,) = server.runs.values()
    error = capsys.readouterr().err
    assert "ingest: SUCCEEDED" in error
    assert f"train: {state}" in error
    assert run["runtime_config"]["parameters"] == dict(pair.split("=") for pair in GOOD)


def test_a_run_that_goes_on_after_the_timeout_exits_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    until = threading.Event()
    with KfpServer(never_ends(until)) as server:
        assert submit.main(["finetune", *GOOD, "--endpoint", server.endpoint, "--timeout", "0.3"]) == 3
        until.set()
    assert "goes on; follow it in the dashboard" in capsys.readouterr().err


def test_a_run_that_nobody_follows_prints_its_identifier(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(ends("FAILED")) as server:
        assert submit.main(["finetune", *GOOD, "--endpoint", server.endpoint, "--no-follow"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] in server.runs


def test_an_answer_that_is_lost_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        calls = 0

        def get_run(self, _run_id: str) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError("the API server starts again")
            return type("Run", (), {"state": "SUCCEEDED", "run_details": None})

    client = Client()
    assert submit.follow(client, "run", None, poll_seconds=0) == 0
    assert client.calls == 2
    monkeypatch.setattr(submit, "LONGEST_SILENCE_SECONDS", -1.0)
    with pytest.raises(submit.KubeflowError, match="KFP did not answer for"):
        submit.follow(Client(), "run", None, poll_seconds=0)


@pytest.mark.parametrize(
    ("pipeline", "words", "message"),
    [
        ("finetune", ["source=/d", "config=demo"], "pipeline finetune needs base_model=... too"),
        ("finetune", [*GOOD, "gpu=1"], "pipeline finetune has no parameter gpu; it has accelerator, "),
        ("finetune", [*GOOD, "layout=cxr14"], "layout must be one of chexpert, mimic, not 'cxr14'"),
        ("finetune", ["source=/d", "base_model=tiny", "config=dmeo"], "no configuration 'dmeo'"),
        ("finetune", ["source=/d", "base_model=tiny", "config={name: a, trian: {}}"], "trian: unknown setting"),
        ("finetune", ["source=/d", "config=demo", "base_model=a/b"], "must name a commit, such as a/b@<commit>"),
        ("finetune", [*GOOD, "job=2x33"], "2x33"),
        ("finetune", [*GOOD, 'job={"nodes": 2, "gpus_per_node": 5}'], "does not divide"),
        ("finetune", [*GOOD, "memory=much"], "memory must look like 8Gi, not 'much'"),
        ("finetune", [*GOOD, "tolerations={}"], "tolerations must be a list, not '{}'"),
        ("finetune", [*GOOD, "extra"], "a parameter must be name=value, not 'extra'"),
        ("finetune_parts", [*GOOD, 'encode_parts=["3/2"]'], "a part must be K/N with 1 <= K <= N"),
        ("finetune_parts", [*GOOD, "encode_parts=[]"], "encode_parts must name at least one part"),
        ("evaluate", ["dataset=x", "model=y", "base_model=tiny", "config=demo"], "must look like s3://datasets/"),
        ("finetun", [], "no compiled pipeline 'finetun'; there are evaluate, finetune, "),
        ("finetune", list(GOOD), "--endpoint is missing"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_sent(
    pipeline: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with KfpServer(ends("SUCCEEDED")) as server:
        endpoint = [] if message.startswith("--endpoint") else ["--endpoint", server.endpoint]
        assert submit.main([pipeline, *words, *endpoint]) == 2
        assert server.requests == []
    assert message in capsys.readouterr().err


def test_a_server_that_is_not_there_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpServer(ends("SUCCEEDED")) as server:
        endpoint = server.endpoint
    assert submit.main(["finetune", *GOOD, "--endpoint", endpoint]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith(f"error: no KFP at {endpoint}: ") and "Connection refused; --endpoint takes the address" in line
    )
    assert "Max retries" not in line


def test_what_looks_like_a_number_is_sent_as_text() -> None:
    assert check_parameters(FINETUNE, [*GOOD, "gpus=0", "cpu=4"]) | {"gpus": "0", "cpu": "4"} == check_parameters(
        FINETUNE, [*GOOD, "gpus=0", "cpu=4"]
    )


def test_a_number_of_parts_stands_for_the_list() -> None:
    assert check_parameters(PARTS, [*GOOD, "encode_parts=3"])["encode_parts"] == ["1/3", "2/3", "3/3"]


def test_a_file_is_sent_as_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntrain:\n  max_train_steps: 7\n")
    sent = check_parameters(FINETUNE, ["source=/d", "base_model=tiny", f"config={path}"])
    assert json.loads(sent["config"]) == {"name": "mine", "train": {"max_train_steps": 7}}


def test_a_document_may_be_given_as_it_stands() -> None:
    job = "nodes: 8\ngpus_per_node: 8\n" + "env: {NOTE: " + "long " * 100 + "}"
    assert (
        check_parameters(FINETUNE, ["source=/d", "base_model=tiny", "config=roentgen-1k", f"job={job}"])["job"] == job
    )


def test_a_job_that_fits_the_run_is_accepted() -> None:
    sent = check_parameters(FINETUNE, ["source=/d", "base_model=tiny", "config=roentgen-1k", "job=2x32"])
    assert sent["job"] == "2x32"


def test_the_true_command_line_submits_and_follows_to_the_end_but_exits_with_0_when_the_run_fails() -> None:
    with KfpServer(ends("FAILED", ("ingest", "FAILED"))) as server:
        done = kfp_run_submit(server, FINETUNE, "-w", *GOOD, "gpus=0", 'cpu="2"', "job=nodes: 8\ngpus_per_node: 8")
        (run,) = server.runs.values()
    assert done.returncode == 0, done.stderr
    assert "Run is finished with state FAILED." in done.stdout
    assert run["runtime_config"]["parameters"]["gpus"] == 0, "a number, though the parameter is text"
    assert run["runtime_config"]["parameters"]["cpu"] == "2"
    assert load_job(run["runtime_config"]["parameters"]["job"], run=RUN).nodes == 8, "as the chart's notes send it"
    assert set(run["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert ("POST", f"{API}/runs") in server.requests
