"""The training loop, the same for every method.

Run under torchrun as `python -m radiffuse.train JOB`, JOB a `TrainPlan` as JSON. All processes see the same numbers
after every step: the mean loss of the global batch, the norm of its gradient, and whether one of them was told to stop.
So they refuse a step, save and end together without waiting for one another to say so.
"""

import logging
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from accelerate import Accelerator
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

from radiffuse.checkpoint import Checkpoints, Trained, discard, read_state
from radiffuse.config import TrainSettings
from radiffuse.data.batches import Batch, batch_loader
from radiffuse.data.prefetch import prefetch
from radiffuse.diffusion import seed_torch
from radiffuse.distribution import (
    agree,
    distribute,
    from_rank_0,
    make_accelerator,
    make_control_group,
    peak_memory_bytes,
    wait_for_all,
)
from radiffuse.errors import Preempted, TrainingError
from radiffuse.export import export_model
from radiffuse.history import History
from radiffuse.methods import METHODS, LossFunction
from radiffuse.metrics import StoreMetrics, TrainingMetrics
from radiffuse.models import Models, load_models
from radiffuse.optimization import Ema, learning_rate, make_optimizer, set_learning_rate
from radiffuse.precision import precision_on
from radiffuse.progress import Progress
from radiffuse.rank import run_rank
from radiffuse.train_plan import BatchPlan, TrainPlan, plan_batches

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger("radiffuse.train")  # torchrun starts this file as __main__


class TrainedModel(nn.Module):
    """The trained parts as one module, from a batch to per-sample losses, so that they share gradient buckets."""

    def __init__(self, models: Models, trained: tuple[str, ...], losses_of: LossFunction) -> None:
        super().__init__()
        for name in trained:
            self.add_module(name, getattr(models, name).train().requires_grad_(True))
        self._losses_of = losses_of

    def forward(self, batch: Batch) -> Tensor:
        """Losses, (B,) float32."""
        return self._losses_of(batch)


@dataclass
class Run:
    """What one process holds while it trains; `model` is the trained modules, wrapped for distribution."""

    settings: TrainSettings
    accelerator: Accelerator
    control: dist.ProcessGroup | None
    batch_plan: BatchPlan
    model: nn.Module
    trained: Trained
    checkpoints: Checkpoints
    history: History
    metrics: TrainingMetrics
    global_step: int


def train(plan: TrainPlan, store: "Store", data_folder: Path, model_folder: Path) -> None:
    """Train on data and a model in local folders, from the newest checkpoint in the store; publish the result.

    Every process of a run calls it. Raises TrainingError when the loss is not finite, Preempted after SIGTERM,
    IntegrityError when the newest checkpoint is damaged, StorageError when the store fails.
    """
    plan = with_precision(plan)
    settings, method = plan.settings, METHODS[plan.settings.method]
    accelerator = make_accelerator(settings)
    control = make_control_group(accelerator)
    metrics = TrainingMetrics(CollectorRegistry(), accelerator.process_index)
    kept = settings.checkpoints_kept
    with Checkpoints(store, plan.checkpoints_uri, plan.name, plan.digest, kept, metrics.run) as checkpoints:
        batch_plan = plan_batches(settings.total_batch_size, settings.train_batch_size, accelerator.num_processes)
        models = load_models(model_folder, method.PARTS)
        move(models, accelerator.device)
        model = TrainedModel(models, method.TRAINED, method.loss_function(models, settings))
        if settings.gradient_checkpointing:
            checkpoint_activations(model)
        trained = make_trained(model, settings)
        global_step, history = resume(accelerator, checkpoints, trained)
        metrics.start(global_step, settings.max_train_steps, settings.checkpoint_every_steps)
        run = Run(
            settings,
            accelerator,
            control,
            batch_plan,
            distribute(accelerator, model),
            trained,
            checkpoints,
            history,
            metrics,
            global_step,
        )
        load = batch_loader(plan, batch_plan, accelerator.process_index, data_folder, model_folder)
        places = batch_plan.places(range(global_step, settings.max_train_steps))
        with noting_sigterm() as signals:  # from here on; before there is nothing to save, and SIGTERM ends at once
            run_steps(run, prefetch(load, places, settings.dataloader_workers), signals)
            checkpoints.wait()
            if accelerator.is_main_process:
                with trained.averaged():
                    export_model(store, plan, models, method.TRAINED, model_folder, history)
            wait_for_all(control)


def with_precision(plan: TrainPlan) -> TrainPlan:
    """The plan with the precision that it means on this machine, so that the model says what it was trained in."""
    precision = precision_on("cuda" if torch.cuda.is_available() else "cpu", plan.settings.precision)
    return plan.model_copy(update={"settings": plan.settings.model_copy(update={"precision": precision})})


def run_steps(run: Run, batches: Iterator[Batch], signals: list[int]) -> None:
    """Optimizer steps until the last one. `signals` fills when this process is told to stop."""
    settings, trained, is_main = run.settings, run.trained, run.accelerator.is_main_process
    weights = list(trained.parameters.values())
    with Progress(settings.max_train_steps - run.global_step, "train", "steps") as progress:
        for global_step in range(run.global_step, settings.max_train_steps):
            start = time.perf_counter()
            seed_torch(settings.seed, global_step, run.accelerator.process_index)
            rate = learning_rate(global_step, settings)
            set_learning_rate(trained.optimizer, rate)

            local_loss, data_wait_seconds = accumulate_gradients(run, batches)
            local_norm = nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
            loss, grad_norm, should_stop = agree(run.accelerator, local_loss, local_norm, bool(signals))
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                run.metrics.refuse_step()
                raise TrainingError(describe_nonfinite(global_step, loss, grad_norm, rate))
            trained.optimizer.step()
            trained.optimizer.zero_grad()
            if trained.ema is not None:
                trained.ema.update(global_step)

            steps_done = global_step + 1
            is_end = steps_done == settings.max_train_steps
            run.history.add(loss, settings.total_batch_size, data_wait_seconds)
            run.metrics.count_step(
                {"step": steps_done, "loss": loss, "learning_rate": rate, "grad_norm": grad_norm},
                images=settings.total_batch_size,
                seconds=time.perf_counter() - start,
                data_wait_seconds=data_wait_seconds,
                peak_memory_bytes=peak_memory_bytes(run.accelerator.device),
            )
            progress.update(1, loss=loss)
            if steps_done % settings.log_every_steps == 0 or is_end:
                log(run.history.record(steps_done, rate, grad_norm), is_main)
            if steps_done % settings.checkpoint_every_steps == 0 or is_end or should_stop:
                save(run, steps_done)
            if should_stop:
                stop(run, steps_done)


def accumulate_gradients(run: Run, batches: Iterator[Batch]) -> tuple[Tensor, float]:
    """Forward and backward over this process's micro-steps; its mean loss, and the seconds it waited for data."""
    accelerator, micro_steps = run.accelerator, run.batch_plan.micro_steps
    local_loss, data_wait_seconds = torch.zeros((), device=accelerator.device), 0.0
    for micro_step in range(micro_steps):
        start = time.perf_counter()
        batch = next(batches).to(accelerator.device)
        data_wait_seconds += time.perf_counter() - start
        is_last = micro_step == micro_steps - 1
        with nullcontext() if is_last else accelerator.no_sync(run.model):
            # The sum over this process's share: every sample of the global batch weighs the same.
            loss = run.model(batch).sum() / run.batch_plan.share
            accelerator.backward(loss)
        local_loss += loss.detach()
    return local_loss, data_wait_seconds


def describe_nonfinite(global_step: int, loss: float, grad_norm: float, rate: float) -> str:
    """What the user reads when a step is refused."""
    return (
        f"step {global_step + 1}: the loss is {loss:g} and the gradient norm {grad_norm:g}, both must be finite; the "
        f"weights were not changed and any earlier checkpoint stands. The learning rate was {rate:g}: lower "
        "train.learning_rate, lengthen train.lr_warmup_steps or train with train.precision=fp32, and see that the "
        "latents are finite"
    )


def move(models: Models, device: torch.device) -> None:
    """Everything that the loss needs, trained or frozen, to the device."""
    for module in models.modules():
        # Convolutions take their channels innermost on every device: a step is a seventh shorter on a CPU.
        module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if models.noise_scheduler is not None:
        models.noise_scheduler.alphas_cumprod = models.noise_scheduler.alphas_cumprod.to(device)


def checkpoint_activations(model: TrainedModel) -> None:
    """Recompute activations in the backward pass; diffusers and transformers name the switch differently."""
    switches = ("enable_gradient_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    for module in model.children():
        getattr(module, next(name for name in switches if hasattr(module, name)))()


def make_trained(model: TrainedModel, settings: TrainSettings) -> Trained:
    """Optimizer and, where asked for, average of the trained weights."""
    parameters = dict(model.named_parameters())
    weights = list(parameters.values())
    ema = None if settings.ema_decay is None else Ema(weights, settings.ema_decay)
    return Trained(parameters, make_optimizer(weights, settings), ema)


def resume(accelerator: Accelerator, checkpoints: Checkpoints, trained: Trained) -> tuple[int, History]:
    """Restore the newest complete checkpoint; the number of steps done and their history, 0 and none without one."""
    # One answer for all: the store may change between two questions.
    steps_done = from_rank_0(accelerator, checkpoints.latest_step() if accelerator.is_main_process else 0)
    if steps_done == 0:
        return 0, History()
    folder = checkpoints.fetch(steps_done)
    trained.restore(folder, steps_done)
    history = History.from_state(read_state(folder))
    accelerator.wait_for_everyone()
    if accelerator.is_local_main_process:
        discard(folder)
    logger.info("resumed step=%d", steps_done)
    return steps_done, history


def save(run: Run, steps_done: int) -> None:
    """Every process comes here; rank 0 copies the state, which all of them have, and uploads while others go on."""
    if run.metrics.run is not None:
        with run.metrics.run.copy_seconds.time():
            files = run.trained.snapshot()
        run.checkpoints.save(steps_done, files, {"global_step": steps_done, **run.history.state()})


def stop(run: Run, steps_done: int) -> None:
    """Leave together once the checkpoint is complete; torchrun ends all processes as soon as one has failed."""
    run.checkpoints.wait()
    wait_for_all(run.control)
    raise Preempted(f"SIGTERM: stopped after step {steps_done} with a complete checkpoint; run again to go on")


def log(record: dict[str, float], is_main: bool) -> None:
    """One line per record, from rank 0."""
    if is_main:
        logger.info(
            "step=%d loss=%.5f learning_rate=%.3g grad_norm=%.3g images_per_second=%.1f data_wait_seconds=%.3f",
            record["step"],
            record["loss"],
            record["learning_rate"],
            record["grad_norm"],
            record["images_per_second"],
            record["data_wait_seconds"],
        )


@contextmanager
def noting_sigterm() -> Iterator[list[int]]:
    """A list that SIGTERM appends to; the loop looks at it between steps, so that no step is cut in half."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_job(job: Path) -> None:
    """What one rank does with its job file."""
    from radiffuse.storage import open_store

    plan = TrainPlan.model_validate_json(job.read_bytes())
    store = open_store(StoreMetrics(CollectorRegistry()).pool)
    train(plan, store, store.fetch_cached(plan.data), store.fetch_cached(plan.model))


if __name__ == "__main__":
    sys.exit(run_rank(lambda: run_job(Path(sys.argv[1]))))
