"""Where a run is trained: by torchrun on this machine, or as a job on Kubernetes. The result is the same manifest."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from radiffuse.config import TrainSettings
from radiffuse.errors import ConfigError
from radiffuse.local_files import write_text
from radiffuse.manifest import Manifest
from radiffuse.train_plan import plan_training

if TYPE_CHECKING:
    from radiffuse.storage import Store

LOCAL = "local"


def train_at(
    job: str,
    store: "Store",
    run_name: str,
    data: Manifest,
    model: Manifest,
    settings: TrainSettings,
    summary: Path | None = None,
) -> Manifest:
    """Train at 'local', or as the job that a job document describes; the summary is Markdown and always written.

    Raises what `launch_training` and `train_in_cluster` raise.
    """
    if job == LOCAL:
        return _train_here(store, run_name, data, model, settings, summary)
    try:
        from radiffuse.cluster.launcher import train_in_cluster
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed here; pip install 'radiffuse[cluster]' brings the Kubernetes client"
        ) from error
    return train_in_cluster(store, plan_training(run_name, data, model, settings, processes=None), job, summary)


def _train_here(
    store: "Store", run_name: str, data: Manifest, model: Manifest, settings: TrainSettings, summary: Path | None
) -> Manifest:
    from radiffuse.launch import launch_training

    start = time.monotonic()
    conclusion = "Training did not end."
    try:
        manifest = launch_training(store, run_name, data, model, settings)
        conclusion = f"Training is done after {time.monotonic() - start:.0f} s. Result: `{manifest.uri}`"
        return manifest
    except Exception as error:
        conclusion = f"Training ended after {time.monotonic() - start:.0f} s: {error}"
        raise
    finally:
        if summary is not None:
            where = f"On this machine, in {settings.nproc_per_node} processes."
            write_text(summary, f"# Training run {run_name}\n\n{where}\n\n{conclusion}\n")
