"""Processes that train together: devices, precision, averaged gradients, and what they must agree on."""

import logging
import resource
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from radiffuse.config import TrainSettings

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = timedelta(minutes=15)
"""How long a process may keep the others waiting, in a step or while it loads. One that dies is noticed much sooner."""
UPLOAD_TIMEOUT = timedelta(hours=2)  # of a checkpoint or a model, while the other processes wait for rank 0


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """Devices, precision and distribution: NCCL where there are GPUs, gloo on CPUs."""
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=COLLECTIVE_TIMEOUT),
        ],
    )
    logger.info(
        "rank=%d world_size=%d device=%s precision=%s threads=%d",
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.device,
        settings.precision,
        torch.get_num_threads(),
    )
    return accelerator


def distribute(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """The model with its gradients averaged over the processes while the backward pass goes on, and with autocast."""
    wrapped: nn.Module = accelerator.prepare(model)
    is_order_felt = accelerator.num_processes > 2 and accelerator.device.type == "cpu"
    if is_order_felt and isinstance(wrapped, DistributedDataParallel):
        wrapped.register_comm_hook(None, average_in_rank_order)
    return wrapped


def average_in_rank_order(
    state: None,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Average gradients over the ranks, always adding them up in the same order.

    gloo's own order depends on where in a bucket a gradient lies, and DDP lays the buckets out anew after a run's first
    step; so from three ranks on a resumed run would round its first step differently. On GPUs bits are not promised.
    """
    gradients: Tensor = bucket.buffer()
    everyones = gradients.new_empty(dist.get_world_size() * len(gradients))
    gathered = dist.all_gather_into_tensor(everyones, gradients, async_op=True)
    assert gathered is not None

    def average(future: torch.futures.Future[list[Tensor]]) -> Tensor:
        future.wait()
        first, *others = everyones.chunk(dist.get_world_size())
        gradients.copy_(first)
        for other in others:
            gradients.add_(other)
        return gradients.div_(dist.get_world_size())

    averaged: torch.futures.Future[Tensor] = gathered.get_future().then(average)
    return averaged


def agree(
    accelerator: Accelerator, local_loss: Tensor, grad_norm: Tensor, is_told_to_stop: bool
) -> tuple[float, float, bool]:
    """Mean loss over all processes, gradient norm, and whether any process was told to stop: the same everywhere.

    The one wait for the device in a step; the norm is of averaged gradients, so it is everywhere the same already.
    """
    shared = torch.stack([local_loss.double(), torch.tensor(float(is_told_to_stop)).to(local_loss)])
    shared = accelerator.reduce(shared, "sum")
    loss, told = shared.tolist()
    return loss / accelerator.num_processes, grad_norm.item(), told > 0


def from_rank_0(accelerator: Accelerator, number: int) -> int:
    """The number that rank 0 was called with."""
    shared = torch.tensor(number, device=accelerator.device)
    if accelerator.num_processes > 1:
        dist.broadcast(shared, src=0)
    return int(shared.item())


def make_control_group(accelerator: Accelerator) -> dist.ProcessGroup | None:
    """A gloo group to wait in while rank 0 uploads: NCCL's watchdog would end the run after ten minutes."""
    if accelerator.num_processes == 1:
        return None
    group = dist.new_group(backend="gloo", timeout=UPLOAD_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)  # the other case is a process that the group leaves out
    return group


def wait_for_all(control: dist.ProcessGroup | None) -> None:
    """Return once every process has come here."""
    if control is not None:
        dist.barrier(group=control)


def peak_memory_bytes(device: torch.device) -> int:
    """Most that this process has held: of its device's memory, or of the host's where it trains on CPUs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
