"""Prometheus metrics, declared once; the registry is passed in, so that each test has its own.

Ranks write theirs to files of a folder that PROMETHEUS_MULTIPROC_DIR names, and the process that started them serves
them all, with its own. Rank 0 speaks for the run; two families only are labelled by rank. No label names a patient.
"""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from urllib3 import BaseHTTPResponse, PoolManager

from radiffuse import __version__
from radiffuse.errors import ConfigError

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Read when prometheus_client is imported, so it must stand in the environment that a rank is started with."""

STEP_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
CHECKPOINT_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
REQUEST_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

STORE_METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
STORE_ANSWERS = ("2xx", "4xx", "5xx", "none")
WORKER_STATES = ("preparing", "waiting", "running", "ending")
NEWEST: Final = "mostrecent"
"""Of several processes' values of a gauge the one set last, without a label for the process."""


class TrainingMetrics:
    """What one rank says while it trains: of itself always, of the run where it is rank 0."""

    def __init__(self, registry: CollectorRegistry, rank: int) -> None:
        self.registry = registry
        self.run = RunMetrics(registry) if rank == 0 else None
        self._data_wait_seconds = Counter(
            "radiffuse_train_data_wait_seconds", "Rank waited for its batches.", ["rank"], registry=registry
        ).labels(rank)
        self._peak_memory = Gauge(
            "radiffuse_train_peak_memory_bytes",
            "Most that a rank has held: of its device's memory, or of the host's where it trains on CPUs.",
            ["rank"],
            registry=registry,
            multiprocess_mode=NEWEST,
        ).labels(rank)

    def start(self, global_step: int, max_train_steps: int, checkpoint_every_steps: int) -> None:
        """The steps that earlier starts have done, how many there are to be, and how many from save to save."""
        if self.run is not None:
            self.run.start_timestamp.set(time.time())
            self.run.global_step.set(global_step)
            self.run.resumed_step.set(global_step)
            self.run.max_steps.set(max_train_steps)
            self.run.checkpoint_interval.set(checkpoint_every_steps)

    def count_step(
        self,
        record: Mapping[str, float],
        images: int,
        seconds: float,
        data_wait_seconds: float,
        peak_memory_bytes: int,
    ) -> None:
        """One optimizer step: step (from 1), loss, learning_rate and grad_norm; images, durations, memory."""
        self._data_wait_seconds.inc(data_wait_seconds)
        self._peak_memory.set(peak_memory_bytes)
        if self.run is None:
            return
        self.run.steps.inc()
        self.run.images.inc(images)
        self.run.step_seconds.observe(seconds)
        self.run.images_per_second.set(images / seconds)
        self.run.global_step.set(record["step"])
        self.run.loss.set(record["loss"])
        self.run.learning_rate.set(record["learning_rate"])
        self.run.grad_norm.set(record["grad_norm"])
        self.run.last_step_timestamp.set(time.time())

    def refuse_step(self) -> None:
        """A step whose loss is not finite."""
        if self.run is not None:
            self.run.nonfinite.inc()


class RunMetrics:
    """What rank 0 says of the run."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"radiffuse_{name}", meaning, registry=registry, multiprocess_mode=NEWEST)

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"radiffuse_{name}", meaning, registry=registry)

        self.steps = counter("train_steps", "Optimizer steps taken.")
        self.images = counter("train_images", "Images trained on, over all processes.")
        self.nonfinite = counter("train_nonfinite", "Steps refused for a loss not finite.")
        self.step_seconds = Histogram(
            "radiffuse_train_step_duration_seconds", "Per optimizer step.", buckets=STEP_BUCKETS, registry=registry
        )
        self.images_per_second = gauge("train_images_per_second", "In the last step, over all processes.")
        self.start_timestamp = gauge("train_start_timestamp_seconds", "Unix time when this start was ready to train.")
        self.global_step = gauge("train_global_step", "Optimizer steps of the run so far.")
        self.resumed_step = gauge("train_resumed_step", "Optimizer steps that earlier starts had done; 0: afresh.")
        self.max_steps = gauge("train_max_steps", "Optimizer steps the run will take.")
        self.loss = gauge("train_loss", "Mean of the last step's global batch.")
        self.learning_rate = gauge("train_learning_rate", "Of the last step.")
        self.grad_norm = gauge("train_grad_norm", "Of the last step, before clipping.")
        self.last_step_timestamp = gauge("train_last_step_timestamp_seconds", "Unix time of the last step.")
        self.checkpoint_interval = gauge("checkpoint_interval_steps", "Optimizer steps from one to the next.")
        self.checkpoint_step = gauge("checkpoint_step", "Step of the newest complete checkpoint of this start.")
        self.checkpoint_bytes = gauge("checkpoint_size_bytes", "Of the newest complete checkpoint of this start.")
        self.checkpoint_timestamp = gauge("checkpoint_last_success_timestamp_seconds", "Unix time when complete.")
        self.checkpoint_failures = counter("checkpoint_failures", "Checkpoints that could not be uploaded.")
        seconds = Histogram(
            "radiffuse_checkpoint_duration_seconds",
            "copy: training stands still; upload: it goes on.",
            ["stage"],
            buckets=CHECKPOINT_BUCKETS,
            registry=registry,
        )
        self.copy_seconds, self.upload_seconds = seconds.labels("copy"), seconds.labels("upload")

    def count_checkpoint(self, global_step: int, size_bytes: int, seconds: float) -> None:
        """A checkpoint that is complete, and how long its upload took."""
        self.checkpoint_step.set(global_step)
        self.checkpoint_bytes.set(size_bytes)
        self.checkpoint_timestamp.set(time.time())
        self.upload_seconds.observe(seconds)


class StoreMetrics:
    """The requests that a process sends to the object store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "radiffuse_store_requests",
            "By method and answer: 2xx, 4xx, 5xx, or none when the store was not reached.",
            ["method", "answer"],
            registry=registry,
        )
        for method, answer in itertools.product(STORE_METHODS, STORE_ANSWERS):
            self.requests.labels(method, answer)  # from 0 on: Prometheus sees no increase in a series that begins at 1
        self.seconds = Histogram(
            "radiffuse_store_request_duration_seconds",
            "Until the answer's header, retries included.",
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )

    def pool(self, **settings: Any) -> PoolManager:
        """A pool of connections whose requests are counted."""
        return _CountingPool(self, **settings)


class _CountingPool(PoolManager):
    def __init__(self, metrics: StoreMetrics, **settings: Any) -> None:
        super().__init__(**settings)
        self._metrics = metrics

    def urlopen(  # type: ignore[override]  # as the pool's own
        self, method: str, url: str, redirect: bool = True, **settings: Any
    ) -> BaseHTTPResponse:
        start, answer = time.monotonic(), "none"
        try:
            response: BaseHTTPResponse = super().urlopen(method, url, redirect, **settings)
            answer = f"{response.status // 100}xx"
        finally:
            self._metrics.requests.labels(method, answer).inc()
            self._metrics.seconds.observe(time.monotonic() - start)
        return response


class WorkerMetrics:
    """What the worker of a pod says of itself, and of the run's starts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._state = Enum("radiffuse_worker_state", "What it does.", states=WORKER_STATES, registry=registry)
        self._info = Info("radiffuse_worker", "What it runs.", registry=registry)
        self._starts = Counter("radiffuse_run_starts", "Of this run so far, this one included.", registry=registry)
        self._endings = Counter(
            "radiffuse_run_endings", "Of this run's starts, by how they ended.", ["outcome"], registry=registry
        )
        self._first_timestamp = Gauge(
            "radiffuse_run_first_start_timestamp_seconds", "Unix time of this run's first start.", registry=registry
        )
        self._first_step = Gauge(
            "radiffuse_run_first_start_step", "Optimizer steps done before this run's first start.", registry=registry
        )

    def set_state(self, state: str) -> None:
        """One of WORKER_STATES."""
        self._state.state(state)

    def describe(self, name: str, digest: str, method: str) -> None:
        """Name and digest of the run, and its method."""
        self._info.info({"version": __version__, "run": name, "plan": digest, "method": method})

    def count_starts(self, starts: int, endings: Mapping[str, int]) -> None:
        """Starts of the run, and how many of the earlier ones ended in which way; they live on in the store."""
        self._starts.inc(starts)
        for outcome, count in endings.items():
            self._endings.labels(outcome.lower()).inc(count)

    def set_first_start(self, unix_seconds: float, step: int) -> None:
        """When the run's first start was, and at which of its steps."""
        self._first_timestamp.set(unix_seconds)
        self._first_step.set(step)

    def count_ending(self, outcome: str) -> None:
        """This start has ended, and how."""
        self._endings.labels(outcome.lower()).inc()


class _RankFiles(Collector):
    """What ranks have written; a rank that dies while it opens its first file leaves it empty, which is no metric."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size > 0]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


@contextmanager
def serving(folder: Path, port: int | None, registry: CollectorRegistry) -> Iterator[dict[str, str]]:
    """While it lasts, GET /metrics on every interface answers with the registry and what ranks write to the folder.

    Yields what the ranks' environment needs. Without a port nothing is served; raises ConfigError when it is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    registry.register(_RankFiles(folder))
    if port is None:
        yield {FOLDER_VARIABLE: str(folder)}
        return
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigError(f"metrics port {port} cannot be served: {error}") from error
    try:
        yield {FOLDER_VARIABLE: str(folder)}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def samples(registry: CollectorRegistry) -> Iterator[Sample]:
    """All finite values that the registry would serve."""
    for family in registry.collect():
        yield from (sample for sample in family.samples if math.isfinite(sample.value))


def has_last_words(registry: CollectorRegistry) -> bool:
    """Whether rank 0 has counted what ends a start at once, and what nobody hears who does not scrape it now."""
    names = ("radiffuse_train_nonfinite_total", "radiffuse_checkpoint_failures_total")
    return any(sample.name in names and sample.value > 0 for sample in samples(registry))


def run_figures(registry: CollectorRegistry) -> dict[str, float]:
    """What rank 0 has said of the run, by name without radiffuse_train_; what it has not yet said is left out."""
    prefix = "radiffuse_train_"
    return {
        sample.name.removeprefix(prefix): sample.value
        for sample in samples(registry)
        if sample.name.startswith(prefix) and not sample.labels
    }
