"""Run a training or sampling job on this machine under torchrun, and answer for it with one error. No torch."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from radiffuse.config import SampleSettings, TrainSettings
from radiffuse.errors import Preempted, TrainingError
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest
from radiffuse.processes import run_processes
from radiffuse.sample_plan import plan_samples
from radiffuse.train_plan import plan_training

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)


def launch_training(
    store: "Store", run_name: str, data: Manifest, model: Manifest, settings: TrainSettings
) -> Manifest:
    """Train under torchrun, resuming from the newest complete checkpoint; a finished run returns at once.

    Raises ConfigError before anything starts, TrainingError, StorageError or Preempted as the ranks met them.
    """
    plan = plan_training(run_name, data, model, settings, settings.nproc_per_node)
    if (finished := store.find(plan.uri)) is not None:
        return finished
    return _launch(store, "radiffuse.train", plan, plan.uri, settings.nproc_per_node, settings.metrics_port)


def launch_sampling(
    store: "Store", run_name: str, model: Manifest, settings: SampleSettings, baseline: bool
) -> Manifest:
    """Draw samples under torchrun; those already drawn are kept, and a finished set returns at once."""
    plan = plan_samples(run_name, model, settings, baseline)
    if (finished := store.find(plan.uri)) is not None:
        return finished
    return _launch(store, "radiffuse.sample", plan, plan.uri, settings.nproc_per_node)


def _launch(
    store: "Store", module: str, plan: BaseModel, uri: str, processes: int, metrics_port: int | None = None
) -> Manifest:
    with scratch_folder("job") as folder:
        job = folder / "job"
        job.write_text(plan.model_dump_json(), encoding="utf-8")
        logger.info("launch module=%s processes=%d uri=%s", module, processes, uri)
        try:
            with _metrics_served(folder / "metrics", metrics_port) as environment:
                run_processes(module, job, processes, folder, environment)
        except Preempted:
            # The signal may have come while the result was being published, and that is not cut short.
            if store.find(uri) is None:
                raise
    manifest = store.find(uri)
    if manifest is None:
        raise TrainingError(f"all {processes} processes of {module} ended well, but {uri} has no manifest; run again")
    return manifest


def _metrics_served(folder: Path, port: int | None) -> AbstractContextManager[dict[str, str]]:
    if port is None:
        return nullcontext({})
    from prometheus_client import CollectorRegistry

    from radiffuse.metrics import serving

    return serving(folder, port, CollectorRegistry())
