"""Short training runs for tests: their inputs, and ways to run them in this process or as ranks of a gang."""

import json
import multiprocessing
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from radiffuse.config import TrainSettings
from radiffuse.manifest import Manifest
from radiffuse.rank import run_rank
from radiffuse.storage import Store
from radiffuse.train import run_job, train
from radiffuse.train_plan import TrainPlan, plan_training
from tests.tiny import tiny_images, tiny_latents, tiny_model

SHORT = {
    "max_train_steps": 6,
    "total_batch_size": 4,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "lr_warmup_steps": 2,
    "precision": "fp32",
    "log_every_steps": 1,
    "checkpoint_every_steps": 2,
}


@dataclass(frozen=True)
class Inputs:
    """What a short run starts from."""

    model: Manifest
    latents: Manifest
    images: Manifest


def publish_inputs(store: Store, folder: Path) -> Inputs:
    """The tiny model and data for each method."""
    return Inputs(
        model=tiny_model(store, folder / "model"),
        latents=tiny_latents(store, folder / "latents"),
        images=tiny_images(store, folder / "images"),
    )


def plan_run(inputs: Inputs, name: str | None = None, data: Manifest | None = None, **settings: object) -> TrainPlan:
    """A short run under a name of its own, so that no other test's checkpoints are found."""
    resolved = TrainSettings.model_validate(SHORT | settings)
    if data is None:
        data = inputs.images if resolved.method == "vae" else inputs.latents
    name = name or f"run-{uuid.uuid4().hex[:12]}"
    return plan_training(name, data, inputs.model, resolved, resolved.nproc_per_node)


def train_here(store: Store, plan: TrainPlan) -> list[dict[str, float]]:
    """Train in this process, alone; the published records."""
    train(plan, store, store.fetch_cached(plan.data), store.fetch_cached(plan.model))
    return published_records(store, plan)


def published_records(store: Store, plan: TrainPlan) -> list[dict[str, float]]:
    """What metrics.jsonl of the exported model holds."""
    lines = store.get_bytes(f"{plan.uri}/metrics.jsonl").decode().splitlines()
    return [json.loads(line) for line in lines]


def losses(records: list[dict[str, float]]) -> list[float]:
    """Loss of each logged step."""
    return [record["loss"] for record in records]


class SignallingStore(Store):
    """Sends SIGTERM to this process once a certain checkpoint has been uploaded."""

    signal_after = ""

    def publish(self, manifest: Manifest, directory: Path, names: Iterable[str] | None = None) -> Manifest:
        published = super().publish(manifest, directory, names)
        if manifest.uri.endswith(self.signal_after):
            os.kill(os.getpid(), signal.SIGTERM)
        return published


def signalling_store(store: Store, signal_after: str) -> SignallingStore:
    """The same store, with a signal after the checkpoint of that name."""
    signalling = SignallingStore(store.settings)
    signalling.signal_after = signal_after
    return signalling


def wait_for_checkpoint(store: Store, plan: TrainPlan, step: int, deadline_seconds: float = 600) -> None:
    """Return when the checkpoint after that step is complete."""
    deadline = time.monotonic() + deadline_seconds
    while store.find(f"{plan.checkpoints_uri}/step-{step:08d}") is None:
        assert time.monotonic() < deadline, f"no checkpoint after step {step} within {deadline_seconds} s"
        time.sleep(0.02)


def run_ranks(
    plan: TrainPlan,
    world_size: int,
    folder: Path,
    environment: Mapping[str, str],
    while_running: Callable[[list[int]], None] = lambda pids: None,
) -> list[int]:
    """Run the job on that many ranks, forked from a server that has imported everything once; their exit codes."""
    job = folder / f"{plan.name}-{world_size}.json"
    job.write_text(plan.model_dump_json(), encoding="utf-8")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training", "diffusers", "transformers.models.clip.modeling_clip"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    common |= {"WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1", "RADIFFUSE_ERROR_DIR": str(folder)}
    processes = [
        context.Process(target=_rank, args=(str(job), common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    while_running([process.pid for process in processes if process.pid is not None])
    for process in processes:
        process.join(timeout=600)
    return [-1 if process.exitcode is None else process.exitcode for process in processes]


def _rank(job: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # torch read it in the fork server
    raise SystemExit(run_rank(lambda: run_job(Path(job))))


@pytest.fixture(scope="module")
def inputs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny model and data, published once per module."""
    return publish_inputs(store, tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps the first precision it was given for the life of the process; forget it before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
