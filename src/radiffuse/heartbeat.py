"""What a worker leaves in the store about a run: where it is, every few seconds, and the last metrics of each node."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from radiffuse.errors import StorageError
from radiffuse.metrics import run_figures, samples
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

BEAT_SECONDS = 15.0
LAST_BEAT_SECONDS = 3.0


@contextmanager
def beating(store: "Store", plan: TrainPlan, start: int, registry: CollectorRegistry) -> Iterator[None]:
    """While it lasts, write where the run is at once and every 15 s, and once more at the end."""
    is_over = threading.Event()

    def beat_on() -> None:
        while True:
            quietly(lambda: write_progress(store, plan, start, registry))
            if is_over.is_set():
                return
            is_over.wait(BEAT_SECONDS)

    thread = threading.Thread(target=beat_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(LAST_BEAT_SECONDS)  # a store that is down must not keep a pod from ending


def write_progress(store: "Store", plan: TrainPlan, start: int, registry: CollectorRegistry) -> None:
    """The run's `progress.json`: steps, speed, and the time. `loss` is null before the first step of a start."""
    figures = run_figures(registry)
    progress = {
        "global_step": int(figures.get("global_step", 0)),
        "max_train_steps": plan.settings.max_train_steps,
        "loss": figures.get("loss"),
        "images_per_second": figures.get("images_per_second", 0.0),
        "start": start,
        "unix_seconds": time.time(),
    }
    store.put_bytes(f"{plan.checkpoints_uri}/progress.json", json.dumps(progress).encode())


def write_metrics(store: "Store", plan: TrainPlan, node: int, registry: CollectorRegistry) -> None:
    """What /metrics of this node showed last, as `metrics/node-K.json`."""
    values = [{"name": sample.name, "labels": sample.labels, "value": sample.value} for sample in samples(registry)]
    document = {"unix_seconds": time.time(), "samples": values}
    store.put_bytes(f"{plan.checkpoints_uri}/metrics/node-{node}.json", json.dumps(document).encode())


def in_time(write: Callable[[], None], seconds: float) -> None:
    """Write, but for no longer than that; what takes longer is left undone."""
    thread = threading.Thread(target=quietly, args=(write,), name="last-write", daemon=True)
    thread.start()
    thread.join(seconds)


def quietly(write: Callable[[], None]) -> None:
    """Write; a store that fails is no reason to end, and says so in the log."""
    try:
        write()
    except StorageError as error:
        logger.warning("not written: %s", error)
