"""The U-Net and the text encoder it attends to, together and at one learning rate, as RoentGen was trained."""

from collections.abc import Callable

from torch import Tensor

from radiffuse.config import TrainSettings
from radiffuse.data.batches import LatentsBatch
from radiffuse.diffusion import denoising_losses
from radiffuse.models import Models, encode_prompts

PARTS = ("tokenizer", "text_encoder", "unet", "noise_scheduler")
TRAINED = ("unet", "text_encoder")


def loss_function(models: Models, settings: TrainSettings) -> Callable[[LatentsBatch], Tensor]:
    """Denoising loss whose gradients flow into the text encoder too."""

    def losses(batch: LatentsBatch) -> Tensor:
        return denoising_losses(models, batch, encode_prompts(models, batch.prompts), settings.snr_gamma)

    return losses
