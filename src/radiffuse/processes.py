"""A job's processes on this machine: torchrun and its ranks, started, told to stop, and why they ended. No torch."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from radiffuse.errors import Preempted, TrainingError
from radiffuse.orphans import kill_descendants
from radiffuse.rank import ERROR_DIR_VARIABLE, ErrorRecord, error_of, first_cause, read_records, record_of
from radiffuse.sigterm import stop_signals

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_SECONDS = 300  # between torchrun's SIGTERM and its SIGKILL: a checkpoint must fit


class Agent:
    """torchrun with this machine's ranks; `arguments` say where it stands among the nodes, where PET_* do not.

    `error_dir` is where the ranks leave what they ended of. `grace_seconds` after it was told to stop all are killed.
    """

    def __init__(
        self,
        module: str,
        job: Path,
        error_dir: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        grace_seconds: float | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "radiffuse.agent", *arguments, "-m", module, str(job)]
        self._environment = {**environment, ERROR_DIR_VARIABLE: str(error_dir)}
        self._error_dir, self._grace_seconds = error_dir, grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._signals: list[signal.Signals] = []
        self._ended: ErrorRecord | None = None

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The first signal that it was told to stop by."""
        return self._signals[0] if self._signals else None

    @property
    def pid(self) -> int | None:
        """None before it runs."""
        return None if self._process is None else self._process.pid

    def run(self) -> ErrorRecord | None:
        """Start it and wait; what stopped the ranks, None when all ended well. In the main thread signals are met."""
        with on_stop(self.stop):
            # Its own session: Ctrl-C reaches the launcher alone, which passes it on as SIGTERM, and the ranks save.
            self._process = subprocess.Popen(self._command, env=self._environment, start_new_session=True)
            if self._signals or self._ended is not None:
                self._process.terminate()
            code = self._process.wait()
        return None if code == 0 else self._cause(code)

    def stop(self, number: signal.Signals) -> None:
        """Pass a signal on as SIGTERM, once: torchrun would take a second for haste, and leave its ranks behind."""
        self._signals.append(number)
        if len(self._signals) > 1:
            return
        logger.warning("signal=%s passed on to the training processes", number.name)
        if self._process is not None:
            self._process.terminate()
        if self._grace_seconds is not None:
            late = TrainingError(f"the ranks had not ended {self._grace_seconds:g} s after {number.name}; allow more")
            self.kill_after(self._grace_seconds, late)

    def end_soon(self, seconds: float, error: Exception) -> None:
        """Tell the ranks to end, since others did for the reason that the error says, and kill those that hang."""
        if self._ended is None:
            self._ended = record_of(error)
            if self._process is not None:
                self._process.terminate()
            self.kill_after(seconds, error)

    def kill_after(self, seconds: float, error: Exception) -> None:
        """End all processes below this one unless they have ended by then; the error says why."""
        timer = threading.Timer(seconds, self._kill, (error,))
        timer.daemon = True
        timer.start()

    def _kill(self, error: Exception) -> None:
        if self._process is None or self._process.returncode is None:
            logger.error("killing what still runs: %s", error)
            self._ended = record_of(error) if self._ended is None else self._ended
            kill_descendants()

    def _cause(self, code: int) -> ErrorRecord:
        records = read_records(self._error_dir)
        if self._ended is not None:  # what ranks say after they were ended is no cause
            records = [self._ended, *(record for record in records if record["seconds"] < self._ended["seconds"])]
        if self._signals:  # then an echo is no reason: while ranks start, those that are ended leave the others alone
            name = self._signals[0].name
            late = Preempted(f"stopped by {name}; what is finished is in the store, run again to go on")
            records.append(record_of(late))
        if (cause := first_cause(records)) is not None:
            return cause
        return record_of(
            TrainingError(f"torchrun ended with exit code {code} and no rank said why; look at the log above")
        )


@contextmanager
def on_stop(action: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call the action, in the main thread, for each SIGINT and stop signal."""

    def act(number: int, frame: FrameType | None) -> None:
        action(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    previous = {number: signal.signal(number, act) for number in (signal.SIGINT, *stop_signals())}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_processes(
    module: str, job: Path, processes: int, error_dir: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run `python -m module job` as that many ranks on this machine alone; raises the error that stopped them."""
    arguments = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    # One machine: gloo need not resolve its host name, which a bare container often cannot.
    environment = {"GLOO_SOCKET_IFNAME": "lo"} | rank_environment(processes) | dict(environment or {})
    agent = Agent(module, job, error_dir, arguments, environment)
    if (cause := agent.run()) is None:
        return
    error = error_of(cause)
    if isinstance(error, Preempted) and agent.stopped_by is not None:
        error = Preempted(str(error), agent.stopped_by)  # the ranks know of SIGTERM alone
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
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT_SECONDS),
        # The ranks leave their own error; torchrun's account of it is noise.
        "LOGLEVEL": "CRITICAL",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return defaults | os.environ
