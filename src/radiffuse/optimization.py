"""Learning rate, optimizer and averaged weights: what turns gradients into weights."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from radiffuse.config import TrainSettings


def learning_rate(global_step: int, settings: TrainSettings) -> float:
    """Rate of optimizer step `global_step` (from 0): warm-up to the peak, then the schedule down to 0.

    A pure function of the step, so that neither accumulation nor the number of processes nor a restart moves it.
    """
    peak, warmup = settings.learning_rate, settings.lr_warmup_steps
    if global_step < warmup:
        return peak * ((global_step + 1) / warmup)  # the bracket keeps the last of them at the peak exactly
    progress = (global_step - warmup) / max(1, settings.max_train_steps - warmup)
    if settings.lr_schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.lr_schedule == "linear":
        return peak * (1 - progress)
    return peak


def make_optimizer(parameters: Sequence[Tensor], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW in one pass over the parameters (Loshchilov and Hutter 2019); its state stays fp32."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set it for every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = value


class Ema:
    """An exponential moving average of the weights, exported in their place (Karras et al. 2022, appendix F.1)."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.averages = [parameter.detach().clone() for parameter in parameters]
        self._parameters = parameters
        self._decay = decay

    @torch.no_grad()
    def update(self, global_step: int) -> None:
        """Move towards the weights after optimizer step `global_step` (from 0)."""
        # Until 1 / (1 - decay) steps have passed a fixed decay would still be mostly the first weights.
        decay = min(self._decay, (1 + global_step) / (10 + global_step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self._parameters], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages as the model's weights while the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self.averages, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
