"""What runs in a training pod: it starts torchrun, keeps to the gang, and says how it ended.

Its exit code is 0 if and only if the run's result is in the store; `outcome.py` has the others. It imports no torch:
what watches over 32 ranks should not weigh as much as one of them.
"""

import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from radiffuse.errors import ConfigError, Preempted, RadiffuseError, StorageError, TrainingError
from radiffuse.gang import Verdict, join_gang
from radiffuse.heartbeat import beating, in_time, write_metrics
from radiffuse.metrics import WorkerMetrics, has_last_words, run_figures, serving
from radiffuse.orphans import reaping_orphans
from radiffuse.outcome import Ending, Outcome
from radiffuse.processes import Agent, on_stop, rank_environment
from radiffuse.rank import ErrorRecord, error_of, record_of
from radiffuse.starts import Starts, count_start, is_terminal, read_terminal, write_starts, write_terminal
from radiffuse.storage import Store, open_store
from radiffuse.topology import Topology
from radiffuse.train_plan import TrainPlan, plan_batches

logger = logging.getLogger(__name__)

TROUBLE_SECONDS = 4.0
"""How long ranks may take to end when those of another node have: a step or a checkpoint needs all of them."""
LAST_WORDS_SECONDS = 3.0
"""For what is written at the end: a store that is down must not keep a pod from ending."""
TERMINAL_WORDS_SECONDS = 15.0
"""The same for what keeps later starts from being made in vain."""


@dataclass(frozen=True)
class WorkerSettings:
    """How a pod's worker behaves."""

    plan_uri: str
    max_starts: int = 5
    rendezvous_timeout_seconds: float = 600.0
    grace_seconds: float = 300.0
    linger_seconds: float = 20.0
    termination_log: Path = Path("/dev/termination-log")
    metrics_port: int = 9090
    module: str = "radiffuse.train"


class Job(NamedTuple):
    """What a pod is to do, and where it stands among the others that do it."""

    store: Store
    plan: TrainPlan
    topology: Topology


def run_worker(settings: WorkerSettings) -> Outcome:
    """Run this pod's part of a training job to its end; the outcome is the exit code. Main thread only."""
    stop = threading.Event()
    worker = Worker(settings, stop)
    with on_stop(lambda number: stop.set()), reaping_orphans(lambda: worker.agent_pid):
        try:
            with serving(worker.folder / "metrics", settings.metrics_port, worker.registry) as environment:
                ending = worker.run(environment)
                _tell(settings.termination_log, ending)
                if worker.should_linger(ending):
                    stop.wait(settings.linger_seconds)  # one more scrape sees the end
        except ConfigError as error:  # the port is taken
            ending = Ending(Outcome.of(error), str(error), 0)
            _tell(settings.termination_log, ending)
    return ending.outcome


class Worker:
    """One start of one pod. `stop` is set by signals that come when there is nothing to pass them on to."""

    def __init__(self, settings: WorkerSettings, stop: threading.Event) -> None:
        self._settings, self._stop = settings, stop
        self.registry = CollectorRegistry()
        self._metrics = WorkerMetrics(self.registry)
        self._agent: Agent | None = None
        self._starts: Starts | None = None
        self.folder = Path(tempfile.gettempdir()) / "radiffuse-worker"
        # A container that is started again in its pod finds what lost ranks have left: as much as a checkpoint.
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("errors", "tmp"):
            (self.folder / name).mkdir(parents=True)

    @property
    def agent_pid(self) -> int | None:
        """Of torchrun; None as long as it was not started."""
        return None if self._agent is None else self._agent.pid

    def should_linger(self, ending: Ending) -> bool:
        """Whether the end is news that only a scrape of this pod can tell."""
        if ending.outcome is Outcome.DONE:
            return self.agent_pid is not None
        return ending.outcome is Outcome.GAVE_UP or (
            ending.outcome is Outcome.CRASHED and has_last_words(self.registry)
        )

    def run(self, environment: Mapping[str, str]) -> Ending:
        """All of it, with that much more in the ranks' environment; what goes wrong is an ending too."""
        self._metrics.set_state("preparing")
        job = None
        try:
            with on_stop(_end_at_once):
                job = find_job(self._settings.plan_uri)
                self._metrics.describe(job.plan.name, job.plan.digest, job.plan.settings.method)
                if (earlier := earlier_ending(job)) is not None:
                    return earlier
                batch = job.plan.settings
                plan_batches(batch.total_batch_size, batch.train_batch_size, job.topology.world_size)
            ending = self._run_with_others(job, environment)
        except Exception as error:
            is_ours = isinstance(error, RadiffuseError)
            if not is_ours:
                logger.exception("the worker failed")
            reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
            ending = Ending(Outcome.of(error), reason, self._global_step)
        self._metrics.set_state("ending")
        self._metrics.count_ending(ending.outcome.name)
        if job is not None:
            in_time(
                lambda: self._write_last_words(job, ending),
                TERMINAL_WORDS_SECONDS if is_terminal(ending.outcome) else LAST_WORDS_SECONDS,
            )
        return ending

    def _run_with_others(self, job: Job, environment: Mapping[str, str]) -> Ending:
        """Wait for the other nodes, run this one's ranks, and end as all do."""
        self._metrics.set_state("waiting")
        with on_stop(_end_at_once):
            gang = join_gang(job.topology)
            start = gang.begin(lambda: self._count_start(job), self._settings.rendezvous_timeout_seconds)
        agent = self._agent = self._make_agent(job, environment)
        gang.watch(lambda trouble: _end_soon(agent, trouble))
        if self._stop.is_set():
            agent.stop(signal.SIGTERM)
        self._metrics.set_state("running")
        if job.topology.node == 0:
            with beating(job.store, job.plan, start, self.registry):
                cause = agent.run()
        else:
            cause = agent.run()
        verdict = gang.conclude(cause, lambda cause: self._decide(job, cause))
        if verdict.cause is None:
            return Ending(Outcome.DONE, f"the result is at {job.plan.uri}", verdict.global_step)
        error = error_of(verdict.cause)
        return Ending(Outcome.of(error), str(error), verdict.global_step)

    def _count_start(self, job: Job) -> int:
        self._starts = count_start(job.store, job.plan, self._settings.max_starts)
        self._metrics.count_starts(self._starts.total, self._starts.endings)
        self._metrics.set_first_start(self._starts.first_unix_seconds, self._starts.first_step)
        return self._starts.total

    def _make_agent(self, job: Job, environment: Mapping[str, str]) -> Agent:
        settings = self._settings
        plan = self.folder / "plan.json"
        plan.write_text(job.plan.model_dump_json(), encoding="utf-8")
        arguments = [*job.topology.agent_arguments, "--rdzv-conf", f"timeout={settings.rendezvous_timeout_seconds:.0f}"]
        own = {
            "TMPDIR": str(self.folder / "tmp"),
            # torchrun's own patience ends after ours, which knows the reason.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": f"{settings.grace_seconds + 5:.0f}",
        }
        environment = {**rank_environment(job.topology.processes_per_node), **environment, **own}
        return Agent(settings.module, plan, self.folder / "errors", arguments, environment, settings.grace_seconds)

    def _decide(self, job: Job, cause: ErrorRecord | None) -> Verdict:
        """Whether the result is in the store, and else the cause. A run that was short of its end has none."""
        step = self._global_step
        if cause is not None and job.topology.node == 0 and step < job.plan.settings.max_train_steps:
            return Verdict(cause, step)
        try:
            if job.store.find(job.plan.uri) is not None:
                return Verdict(None, step)
        except StorageError as error:
            return Verdict(record_of(error) if cause is None else cause, step)
        if cause is None:
            cause = record_of(TrainingError(f"all ranks ended well, but {job.plan.uri} has no manifest"))
        return Verdict(cause, step)

    def _write_last_words(self, job: Job, ending: Ending) -> None:
        if is_terminal(ending.outcome):
            write_terminal(job.store, job.plan, ending)
        elif self._starts is not None:
            write_starts(job.store, job.plan, self._starts.ended(ending))
        if self.agent_pid is not None:
            write_metrics(job.store, job.plan, job.topology.node, self.registry)

    @property
    def _global_step(self) -> int:
        """What rank 0 has reached, where this is its node."""
        return int(run_figures(self.registry).get("global_step", 0))


def find_job(plan_uri: str) -> Job:
    """What the environment and the store say that this pod is to do; raises ConfigError and StorageError."""
    topology, store = Topology.from_environment(), open_store()
    try:
        return Job(store, TrainPlan.model_validate_json(store.get_bytes(plan_uri)), topology)
    except ValidationError as error:
        raise ConfigError(
            f"{plan_uri} is not a plan of this version: {error.errors()[0]['msg']}; submit the job anew with the image "
            "that it is to run"
        ) from error


def earlier_ending(job: Job) -> Ending | None:
    """How the run ended before, where another start of it would be in vain."""
    if job.store.find(job.plan.uri) is not None:
        return Ending(Outcome.DONE, f"the result was at {job.plan.uri} already", job.plan.settings.max_train_steps)
    return read_terminal(job.store, job.plan)


def _end_at_once(number: signal.Signals) -> NoReturn:
    raise Preempted(f"stopped by {number.name} before anything was begun")


def _end_soon(agent: Agent, trouble: str) -> None:
    logger.warning("trouble=%s", trouble)
    agent.end_soon(TROUBLE_SECONDS, RuntimeError(f"ended since {trouble}"))


def _tell(termination_log: Path, ending: Ending) -> None:
    """For `kubectl describe`, the operator and the launcher; outside of a pod there is nobody to tell."""
    log = logger.info if ending.outcome is Outcome.DONE else logger.error
    log("outcome=%s global_step=%d reason=%s", ending.outcome.name, ending.global_step, ending.reason)
    try:
        termination_log.write_text(ending.to_json(), encoding="utf-8")
    except OSError as error:
        logger.warning("termination_log=%s not written: %s", termination_log, error.strerror)
