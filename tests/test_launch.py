"""The launcher: torchrun on this machine, signals passed on, one clear error back."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from radiffuse.config import TrainSettings
from radiffuse.errors import ConfigError, Preempted, TrainingError
from radiffuse.launch import launch_training
from radiffuse.processes import run_processes
from radiffuse.rank import error_of, first_cause, read_records, record_of
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.light import light_plan
from tests.training import (
    Inputs,
    inputs,
    losses,
    plan_run,
    published_records,
    run_ranks,
    train_here,
    wait_for_checkpoint,
)

__all__ = ["inputs"]

pytestmark = pytest.mark.usefixtures("store_environment")

ROOT = Path(__file__).parent.parent


def launch(store: Store, plan: TrainPlan, **changed: object) -> object:
    """Launch what a plan describes."""
    return launch_training(store, plan.name, plan.data, plan.model, plan.settings.model_copy(update=changed))


def test_two_processes_stopped_by_sigterm_go_on_where_they_were(
    store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = {"method": "unet_text_encoder", "max_train_steps": 30, "nproc_per_node": 2, "ema_decay": 0.9}
    plan, whole = plan_run(inputs, **settings), plan_run(inputs, **settings)

    def stop_midway() -> None:
        wait_for_checkpoint(store, plan, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_midway)
    stopper.start()
    with pytest.raises(Preempted, match=r"stopped after step \d+ with a complete checkpoint"):
        launch(store, plan)
    stopper.join()
    manifest = launch(store, plan)
    assert manifest.counts["steps"] == 30
    assert run_ranks(whole, 2, tmp_path, store_environment) == [0, 0]
    assert losses(published_records(store, plan)) == losses(published_records(store, whole))


def test_a_finished_run_returns_at_once_without_importing_torch(
    store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    plan = plan_run(inputs, max_train_steps=1)
    train_here(store, plan)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    script = (
        "import sys; from pathlib import Path; from radiffuse.launch import launch_training;"
        "from radiffuse.storage import open_store; from radiffuse.train_plan import TrainPlan;"
        f"plan = TrainPlan.model_validate_json(Path({str(tmp_path / 'plan.json')!r}).read_bytes());"
        "found = launch_training(open_store(), plan.name, plan.data, plan.model, plan.settings);"
        "assert found.uri == plan.uri; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | store_environment, check=True, timeout=600)


def test_a_batch_that_does_not_divide_is_refused_before_anything_starts(store: Store, inputs: Inputs) -> None:
    settings = TrainSettings(total_batch_size=9, nproc_per_node=2)
    with pytest.raises(ConfigError, match="total_batch_size 9 does not divide over 2 processes"):
        launch_training(store, "x", inputs.latents, inputs.model, settings)


def test_an_error_of_one_rank_arrives_as_itself(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("refuse")
    with pytest.raises(ConfigError, match="metrics_port 1 cannot be served: Permission denied"):
        run_processes("tests.doomed_rank", tmp_path / "job", 2, tmp_path)


def test_a_rank_that_was_killed_is_reported_with_its_signal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job").write_text("killed")
    with pytest.raises(TrainingError, match="rank 1 was killed by SIGKILL; the machine may have run out of memory"):
        run_processes("tests.doomed_rank", tmp_path / "job", 2, tmp_path)
    assert "Traceback" not in capfd.readouterr().err


def test_the_ranks_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("wait")
    script = (
        "from pathlib import Path; from radiffuse.processes import run_processes;"
        f"run_processes('tests.doomed_rank', Path({str(tmp_path / 'job')!r}), 2, Path({str(tmp_path)!r}))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    pid_files = [tmp_path / "pid-0", tmp_path / "pid-1"]
    _wait_until(lambda: all(path.exists() and path.read_text() for path in pid_files))
    pids = [int(path.read_text()) for path in pid_files]
    launcher.kill()
    launcher.wait()
    _wait_until(lambda: not any(_is_alive(pid) for pid in pids))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_was_stopped_ends_with_the_code_of_its_signal(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    plan = light_plan()
    for manifest in (plan.data, plan.model):
        manifest.save(tmp_path / manifest.kind)
    files = ["--data", str(tmp_path / "latents"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "radiffuse.cli", "train", "--config", "demo", *files]

    def heed_hangup() -> None:  # below nohup it would be ignored
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_hangup) as process:
        _wait_until(psutil.Process(process.pid).children)  # torchrun is started
        process.send_signal(number)
        said = process.communicate(timeout=300)[1]
    assert said.splitlines()[-1].startswith(f"error: stopped by {number.name}; what is finished is in the store")
    assert process.returncode == code


def test_the_cause_is_reported_not_the_echo_of_it(tmp_path: Path) -> None:
    for rank, kind, message in (
        (0, "RuntimeError", "Connection closed by peer"),
        (1, "Preempted", "SIGTERM"),
        (2, "TrainingError", "step 4: the loss is nan"),
    ):
        record = {"kind": kind, "message": message, "seconds": float(rank)}
        (tmp_path / f"{rank}.json").write_text(json.dumps(record))
    cause = first_cause(read_records(tmp_path))
    assert cause is not None
    error = error_of(cause)
    assert (type(error), str(error)) == (TrainingError, "step 4: the loss is nan")


def test_an_error_of_ours_is_told_apart_from_a_fault(tmp_path: Path) -> None:
    assert first_cause(read_records(tmp_path)) is None
    assert (
        str(error_of(record_of(ZeroDivisionError("division by zero"))))
        == "ZeroDivisionError: division by zero (the traceback is above)"
    )


def _wait_until(condition, deadline_seconds: float = 300) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
