"""What the training loop costs beyond the bare forward, backward and optimizer step on the same batch.

    python benchmarks/train_loop_overhead.py [--model FOLDER] [--method unet] [--steps 40] [--json FILE]

Our loop runs as it is; between its steps, from inside the iterator that feeds it, a second copy of the model takes a
bare step on the batch that the loop has just had. So both meet the same noise of the machine. CPU seconds of the
process are compared, one thread, and the median over the steps is given with the quartiles. Bars: ratio <= 1.05, wait
for data <= 1 % of a step. Exit code 1 when one is missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from radiffuse.checkpoint import Checkpoints
from radiffuse.config import TrainSettings
from radiffuse.data.batches import Batch, LatentsBatch, batch_loader
from radiffuse.data.latents import write_shard
from radiffuse.distribution import distribute, make_accelerator
from radiffuse.history import History
from radiffuse.manifest import Manifest
from radiffuse.methods import METHODS
from radiffuse.metrics import TrainingMetrics
from radiffuse.models import Models, encode_prompts, load_models
from radiffuse.optimization import make_optimizer
from radiffuse.train import Run, TrainedModel, make_trained, move, run_steps
from radiffuse.train_plan import TrainPlan, plan_batches

TINY = Path(__file__).parent.parent / "src/radiffuse/base_models/tiny"
PROMPTS = ("a photo of a lung xray", "a photo of a lung xray with a visible pleural effusion")
WARM_UP_STEPS = 3
BAR_RATIO = 1.05
BAR_DATA_WAIT = 0.01


class EnoughSteps(Exception):
    """Ends the loop before its last step, which would save a checkpoint."""


def write_latents(folder: Path, side: int, count: int = 2048) -> None:
    """Random latents under two prompts."""
    mean, std = np.random.default_rng(0).normal(size=(2, count, 4, side, side)).astype(np.float16)
    write_shard(
        folder / "latents-00000.arrow", np.arange(count), mean, abs(std), [PROMPTS[i % 2] for i in range(count)]
    )


def make_run(plan: TrainPlan, models: Models) -> Run:
    """The loop's own state, in one process, without a store: it never comes to save."""
    settings, method = plan.settings, METHODS[plan.settings.method]
    accelerator = make_accelerator(settings)
    move(models, accelerator.device)
    model = TrainedModel(models, method.TRAINED, method.loss_function(models, settings))
    batch_plan = plan_batches(settings.total_batch_size, settings.train_batch_size, 1)
    checkpoints = Checkpoints(None, plan.checkpoints_uri, plan.name, plan.digest, 1)  # type: ignore[arg-type]
    metrics = TrainingMetrics(CollectorRegistry(), rank=0)
    trained, wrapped = make_trained(model, settings), distribute(accelerator, model)
    return Run(settings, accelerator, None, batch_plan, wrapped, trained, checkpoints, History(), metrics, 0)


class BareStep:
    """What nobody can leave out: U-Net (and text encoder, where it is trained) forward, loss, backward, AdamW."""

    def __init__(self, models: Models, settings: TrainSettings) -> None:
        self.models, self.is_text_trained = models, settings.method == "unet_text_encoder"
        modules = [models.unet, models.text_encoder] if self.is_text_trained else [models.unet]
        parameters = [p for module in modules for p in module.train().requires_grad_(True).parameters()]
        self.optimizer = make_optimizer(parameters, settings)

    def prepare(self, batch: LatentsBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Noisy latents, and text features where they are frozen: not part of what is timed."""
        noisy = self.models.noise_scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        with torch.no_grad():
            return noisy, None if self.is_text_trained else encode_prompts(self.models, batch.prompts)

    def take(self, batch: LatentsBatch, noisy: torch.Tensor, hidden: torch.Tensor | None) -> None:
        """The step that is timed."""
        hidden = encode_prompts(self.models, batch.prompts) if hidden is None else hidden
        prediction = self.models.unet(noisy, batch.timesteps, hidden, return_dict=False)[0]
        torch.nn.functional.mse_loss(prediction, batch.noise).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def interleave(load, bare: BareStep, steps: int, times: dict[str, list[float]]) -> Iterator[Batch]:
    """Feeds the loop; `times` gets CPU seconds of our step, of the wait for data in it, and of the bare step."""
    for step in range(WARM_UP_STEPS + steps):
        start = time.process_time()
        batch = load((step, 0))
        loaded = time.process_time()
        yield batch
        ours = time.process_time() - start
        prepared = bare.prepare(batch)
        start_bare = time.process_time()
        bare.take(batch, *prepared)
        if step >= WARM_UP_STEPS:
            times["ours"].append(ours)
            times["data_wait"].append(loaded - start)
            times["bare"].append(time.process_time() - start_bare)
    raise EnoughSteps


def measure(model_folder: Path, settings: TrainSettings, side: int, steps: int) -> dict[str, float]:
    """Medians and quartiles over the steps."""
    manifest = Manifest(kind="model", name="bench", uri="s3://models/bench/0", digest="0")
    plan = TrainPlan(name="bench", digest="0", data=manifest, model=manifest, settings=settings)
    times: dict[str, list[float]] = {"ours": [], "data_wait": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        write_latents(Path(folder), side)
        parts = ("tokenizer", "text_encoder", "unet", "noise_scheduler")
        run = make_run(plan, load_models(model_folder, parts))
        models = load_models(model_folder, parts)
        move(models, run.accelerator.device)  # the layout in memory is no part of what the loop costs
        bare = BareStep(models, settings)
        load = batch_loader(plan, run.batch_plan, 0, Path(folder), model_folder)
        with contextlib.suppress(EnoughSteps):
            run_steps(run, interleave(load, bare, steps, times), [])
    ratios = [ours / bare for ours, bare in zip(times["ours"], times["bare"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_of_sums": sum(times["ours"]) / sum(times["bare"]),
        "ratio_quartile_1": quartiles[0],
        "ratio_quartile_3": quartiles[2],
        "data_wait_fraction": sum(times["data_wait"]) / sum(times["ours"]),
        "our_step_seconds": statistics.median(times["ours"]),
        "bare_step_seconds": statistics.median(times["bare"]),
    }


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--method", choices=("unet", "unet_text_encoder"), default="unet_text_encoder")
    parser.add_argument("--side", type=int, default=12, help="Latent side: 12 is 96 px.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ema", type=float, default=None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = TrainSettings(
        method=arguments.method,
        max_train_steps=10**6,
        total_batch_size=arguments.batch,
        train_batch_size=arguments.batch,
        precision="fp32",
        ema_decay=arguments.ema,
        checkpoint_every_steps=10**6,
    )
    figures = measure(arguments.model, settings, arguments.side, arguments.steps)
    print(json.dumps(figures, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    is_lean = figures["ratio_median"] <= BAR_RATIO and figures["data_wait_fraction"] <= BAR_DATA_WAIT
    return 0 if is_lean else 1


if __name__ == "__main__":
    sys.exit(main())
