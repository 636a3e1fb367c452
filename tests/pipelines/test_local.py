import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kfp.local import subprocess_task_handler

from pipelines.finetune import finetune
from pipelines.local import StepClock, StepFailedError, as_local, run_pipeline, run_step
from radiffuse.errors import RadiffuseError
from tests.workers import wait_until

ROOT = Path(__file__).parents[2]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_step_says_which_of_how_many_it_is_and_what_it_printed(capfd: pytest.CaptureFixture[str]) -> None:
    clock = StepClock({"ingest": 10, "train": 90})
    run_step("ingest", python("print('dataset s3://datasets/a')"), {}, clock)
    error = capfd.readouterr().err
    assert "[1/2] ingest · 0:00 elapsed · about 1:40 left" in error
    assert "s · dataset s3://datasets/a" in error


def test_the_time_left_follows_the_pace_of_the_steps_done() -> None:
    clock = StepClock({"ingest": 10, "train": 90})
    clock.describe_end("ingest", 20.0, "")
    assert clock.remaining_seconds() == pytest.approx(180)


def test_a_step_that_was_not_foreseen_counts_too() -> None:
    assert StepClock({}).describe_start("ingest").startswith("[1/1] ingest")


def test_standard_error_of_a_step_passes_through(capfd: pytest.CaptureFixture[str]) -> None:
    run_step("ingest", python("import sys; print('half way', file=sys.stderr)"), {}, StepClock({}))
    assert "half way" in capfd.readouterr().err


def test_a_step_sees_the_given_environment(capfd: pytest.CaptureFixture[str]) -> None:
    run_step("ingest", python("import os; print(os.environ['MARK'])"), {"MARK": "here"}, StepClock({}))
    assert "here" in capfd.readouterr().err


def test_a_step_that_fails_is_named_with_its_exit_code() -> None:
    with pytest.raises(StepFailedError, match="step 'train' failed with exit code 3"):
        run_step("train", python("raise SystemExit(3)"), {}, StepClock({}))


def test_a_step_of_another_image_is_refused() -> None:
    with pytest.raises(RadiffuseError, match="a step must run radiffuse to run on this machine, not 'bash'"):
        as_local(["bash", "-c", "true"])


def test_a_pipeline_stops_at_the_first_step_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {"source": str(tmp_path), "config": "no-such-preset", "base_model": "tiny"}
    with pytest.raises(StepFailedError, match="step 'ingest' failed with exit code 2"):
        run_pipeline(
            finetune, arguments, root=tmp_path / "root", environment={}, clock=StepClock({"ingest": 1, "stage": 1})
        )
    captured = capfd.readouterr()
    assert "error: no configuration 'no-such-preset'" in captured.err
    assert "stage" not in captured.err.split("error:")[1]
    assert captured.out == ""


def test_the_pipeline_itself_is_left_as_it_was(tmp_path: Path) -> None:
    before = str(finetune.pipeline_spec)
    arguments = {"source": str(tmp_path), "config": "no-such-preset", "base_model": "tiny"}
    clock = StepClock(dict.fromkeys(("ingest", "stage", "encode"), 1.0))
    with pytest.raises(StepFailedError, match="step 'ingest'"):
        run_pipeline(finetune, arguments, root=tmp_path / "root", environment={}, clock=clock)
    assert str(finetune.pipeline_spec) == before


def test_kfp_gets_its_own_handler_back(tmp_path: Path) -> None:
    before = subprocess_task_handler.SubprocessTaskHandler
    with pytest.raises(StepFailedError):
        run_pipeline(
            finetune,
            {"source": "x", "config": "no-such-preset", "base_model": "tiny"},
            root=tmp_path / "root",
            environment={},
            clock=StepClock({}),
        )
    assert subprocess_task_handler.SubprocessTaskHandler is before


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def running_step(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A runner whose step, once it has written its own and its child's number to `pids`, saves when it is stopped."""
    step = (
        "import os, signal, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "def save(*_): time.sleep(1); Path('saved').touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "Path('pids.part').write_text(f'{os.getpid()} {child.pid}'); os.rename('pids.part', 'pids')\n"
        "time.sleep(600)\n"
    )
    runner = (
        "import signal, sys\n"
        # A shell lets what it starts in the background ignore SIGINT, and nohup SIGHUP; the tests may run there.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from pipelines.local import StepClock, run_step\nfrom radiffuse.sigterm import exit_on_sigterm\n"
        "try:\n"
        f"    with exit_on_sigterm(): run_step('train', [sys.executable, '-c', {step!r}], {{}}, StepClock({{}}))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen(python(runner), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until((tmp_path / "pids").exists, lambda: f"runner: {process.poll()}")
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_running_step_in_order_and_leaves_no_orphan(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = running_step(tmp_path)
    process.send_signal(number)
    assert process.wait(120) == code
    assert (tmp_path / "saved").exists()
    assert not any(is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_short_what_the_first_began(tmp_path: Path, number: signal.Signals) -> None:
    process = running_step(tmp_path)
    process.send_signal(number)
    time.sleep(0.2)  # two at once are one to the kernel
    process.send_signal(number)
    assert process.wait(120) == 128 + number
    assert (tmp_path / "saved").exists()


def test_a_step_is_told_to_stop_when_its_runner_is_killed(tmp_path: Path) -> None:
    process = running_step(tmp_path)
    process.kill()
    process.wait()
    step, child = (int(pid) for pid in (tmp_path / "pids").read_text().split())
    wait_until(lambda: not is_alive(step), lambda: "the step still runs", 60)
    assert (tmp_path / "saved").exists()
    os.kill(child, signal.SIGKILL)
