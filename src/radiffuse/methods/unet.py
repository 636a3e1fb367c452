"""The U-Net alone; the text encoder is frozen."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from radiffuse.config import TrainSettings
from radiffuse.data.batches import LatentsBatch
from radiffuse.diffusion import denoising_losses
from radiffuse.models import Models, encode_prompts

PARTS = ("tokenizer", "text_encoder", "unet", "noise_scheduler")
TRAINED = ("unet",)
PROMPTS_KEPT = 1024  # 231 KiB each in SD 1.x, so 231 MiB at most


def loss_function(models: Models, settings: TrainSettings) -> Callable[[LatentsBatch], Tensor]:
    """Denoising loss given the features of the frozen text encoder."""
    features = FrozenFeatures(models)

    def losses(batch: LatentsBatch) -> Tensor:
        return denoising_losses(models, batch, features.of(batch.prompts), settings.snr_gamma)

    return losses


class FrozenFeatures:
    """Text features of prompts; the most recently used prompts are not encoded again."""

    def __init__(self, models: Models, kept: int = PROMPTS_KEPT) -> None:
        self._models = models
        self._kept = kept
        self._features: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def of(self, prompts: Sequence[str]) -> Tensor:
        """encoder_hidden_states of B prompts, (B, T, D)."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._features]
        if new:
            self._features.update(zip(new, encode_prompts(self._models, new), strict=True))
        for prompt in prompts:
            self._features.move_to_end(prompt)
        hidden = torch.stack([self._features[prompt] for prompt in prompts])
        while len(self._features) > self._kept:
            self._features.popitem(last=False)
        return hidden
