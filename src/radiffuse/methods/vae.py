"""The VAE: encoder and decoder on images, without prompts."""

from collections.abc import Callable

from torch import Tensor

from radiffuse.config import TrainSettings
from radiffuse.data.batches import ImagesBatch
from radiffuse.diffusion import kl_from_standard_normal, reconstruction_losses
from radiffuse.models import Models

PARTS = ("vae",)
TRAINED = ("vae",)


def loss_function(models: Models, settings: TrainSettings) -> Callable[[ImagesBatch], Tensor]:
    """Reconstruction from a latent drawn from the posterior, plus `kl_weight` times the mean KL of its elements."""
    vae = models.vae
    assert vae is not None

    def losses(batch: ImagesBatch) -> Tensor:
        posterior = vae.encode(batch.pixel_values).latent_dist
        latents = posterior.mean + posterior.std * batch.posterior_noise
        reconstruction = vae.decode(latents, return_dict=False)[0]
        kl = kl_from_standard_normal(posterior.mean, posterior.logvar)
        return reconstruction_losses(reconstruction, batch.pixel_values) + settings.kl_weight * kl

    return losses
