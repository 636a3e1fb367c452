"""Start a job's processes on this machine under torchrun, pass signals on, report failure as one error. No torch."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import BaseModel

from radiffuse.config import SampleSettings, TrainSettings
from radiffuse.errors import Preempted, TrainingError
from radiffuse.manifest import Manifest
from radiffuse.rank import ERROR_DIR_VARIABLE, read_error
from radiffuse.sample_plan import plan_samples
from radiffuse.train_plan import plan_training

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_SECONDS = 300  # between torchrun's SIGTERM and its SIGKILL: a checkpoint must fit


def launch_training(
    store: "Store", run_name: str, data: Manifest, model: Manifest, settings: TrainSettings
) -> Manifest:
    """Train under torchrun, resuming from the newest complete checkpoint; a finished run returns at once.

    Raises ConfigError before anything starts, TrainingError, StorageError or Preempted as the ranks met them.
    """
    plan = plan_training(run_name, data, model, settings)
    if (finished := store.find(plan.uri)) is not None:
        return finished
    return _launch(store, "radiffuse.train", plan, plan.uri, settings.nproc_per_node)


def launch_sampling(
    store: "Store", run_name: str, model: Manifest, settings: SampleSettings, baseline: bool
) -> Manifest:
    """Draw samples under torchrun; those already drawn are kept, and a finished set returns at once."""
    plan = plan_samples(run_name, model, settings, baseline)
    if (finished := store.find(plan.uri)) is not None:
        return finished
    return _launch(store, "radiffuse.sample", plan, plan.uri, settings.nproc_per_node)


def _launch(store: "Store", module: str, plan: BaseModel, uri: str, processes: int) -> Manifest:
    with tempfile.TemporaryDirectory(prefix="radiffuse-job-") as folder:
        job = Path(folder) / "job"
        job.write_text(plan.model_dump_json(), encoding="utf-8")
        logger.info("launch module=%s processes=%d uri=%s", module, processes, uri)
        try:
            run_processes(module, job, processes, Path(folder))
        except Preempted:
            # The signal may have come while the result was being published, and that is not cut short.
            if store.find(uri) is None:
                raise
    manifest = store.find(uri)
    if manifest is None:
        raise TrainingError(f"all {processes} processes of {module} ended well, but {uri} has no manifest; run again")
    return manifest


def run_processes(module: str, job: Path, processes: int, error_dir: Path) -> None:
    """Run `python -m module job` as that many ranks and wait; raises the error that stopped them."""
    command = [sys.executable, "-m", "radiffuse.agent", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", str(processes), "-m", module, str(job)]
    environment = rank_environment(processes) | {ERROR_DIR_VARIABLE: str(error_dir)}
    # Its own session: Ctrl-C reaches the launcher alone, which passes it on as SIGTERM, so that the ranks save first.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    with _passing_signals_to(process) as passed:
        code = process.wait()
    if code == 0:
        return
    error = read_error(error_dir)
    if error is None and passed:
        error = Preempted(f"stopped by {passed[0].name}; what is finished is in the store, run again to go on")
    if error is None:
        error = TrainingError(f"torchrun ended with exit code {code} and no rank said why; look at the log above")
    raise error


def rank_environment(processes: int) -> dict[str, str]:
    """The environment of each of that many ranks on this machine; what the user has set wins."""
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        # Two processes that spin on shared cores slow each other tenfold.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        # glibc would give memory back to the kernel after every step and fetch it again page by page. Kept, and in
        # large pages, it saves a tenth of a training step on a CPU, and two thirds of reading a batch of latents.
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_MMAP_THRESHOLD_": str(2**26),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        # One machine: gloo need not resolve its host name, which a bare container often cannot.
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT_SECONDS),
        # The ranks leave their own error; torchrun's account of it is noise.
        "LOGLEVEL": "CRITICAL",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return defaults | os.environ


@contextmanager
def _passing_signals_to(process: subprocess.Popen[bytes]) -> Iterator[list[signal.Signals]]:
    """Pass SIGTERM and SIGINT on as SIGTERM; yields the list of those passed on."""
    passed: list[signal.Signals] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed.append(signal.Signals(number))
        logger.warning("signal=%s passed on to the training processes", passed[-1].name)
        process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield passed  # only the main thread may set handlers, and only it is interrupted
        return
    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield passed
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
