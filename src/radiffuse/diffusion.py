"""The maths of training: what is added, what is predicted, how it is weighed, and every random draw. Pure functions.

Every draw comes from a counter, never from a state: the counter is (step, sample, epoch) and the key is the seed. So
neither the number of processes nor a restart changes what a sample meets at a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from radiffuse.errors import ConfigError

if TYPE_CHECKING:
    from radiffuse.data.batches import LatentsBatch
    from radiffuse.models import Models

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Draws:
    """One step's random numbers for B samples.

    noise and posterior_noise: (B, *shape) float32, standard normal. timesteps: (B,) int64.
    dropout: (B,) float64, uniform in [0, 1).
    """

    timesteps: np.ndarray
    dropout: np.ndarray
    posterior_noise: np.ndarray
    noise: np.ndarray


def sample_generator(seed: int, step: int, sample_id: int, epoch: int) -> np.random.Generator:
    """Generator of one sample at one step; Philox-4x64 with the seed as key (Salmon et al. 2011).

    The epoch tells apart two visits to one sample within one step, as in a batch larger than the dataset.
    """
    # The lowest 64 bits of the counter stay 0: Philox counts there while it draws.
    return np.random.Generator(np.random.Philox(key=seed, counter=(step << 192) | (sample_id << 128) | (epoch << 64)))


def draw(
    seed: int,
    step: int,
    sample_ids: np.ndarray,
    epochs: np.ndarray,
    shape: tuple[int, ...],
    num_train_timesteps: int,
) -> Draws:
    """All that is random about one step for B samples; sample_ids and epochs: (B,) int64, shape: of one latent."""
    count = len(sample_ids)
    timesteps = np.empty(count, np.int64)
    dropout = np.empty(count, np.float64)
    posterior_noise = np.empty((count, *shape), np.float32)
    noise = np.empty((count, *shape), np.float32)
    for row, (sample_id, epoch) in enumerate(zip(sample_ids.tolist(), epochs.tolist(), strict=True)):
        generator = sample_generator(seed, step, sample_id, epoch)
        timesteps[row] = generator.integers(num_train_timesteps)
        dropout[row] = generator.random()
        generator.standard_normal(dtype=np.float32, out=posterior_noise[row])
        generator.standard_normal(dtype=np.float32, out=noise[row])
    return Draws(timesteps, dropout, posterior_noise, noise)


def drop_prompts(prompts: Sequence[str], dropout: np.ndarray, prompt_dropout_prob: float) -> list[str]:
    """Prompts with each one whose uniform draw is below the probability made empty (Ho and Salimans 2022)."""
    return [
        "" if uniform < prompt_dropout_prob else prompt
        for prompt, uniform in zip(prompts, dropout.tolist(), strict=True)
    ]


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """noisy_latents, (B, C, h, w): the forward process at timesteps (B,); Ho et al. 2020, equation 4."""
    alpha_bar = _per_image(alphas_cumprod[timesteps], latents)
    return alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise


def target_of(
    prediction_type: str, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """What the U-Net should put out, (B, C, h, w): the noise, or v of Salimans and Ho 2022, appendix D.

    Raises ConfigError for another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha_bar = _per_image(alphas_cumprod[timesteps], latents)
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
    raise ConfigError(
        f"the model's scheduler declares prediction_type {prediction_type!r}; trained are {', '.join(PREDICTION_TYPES)}"
    )


def min_snr_weight(prediction_type: str, timesteps: Tensor, alphas_cumprod: Tensor, snr_gamma: float) -> Tensor:
    """Min-SNR loss weight per image, (B,) float32 in [0, 1]; Hang et al. 2023, section 3.4. timesteps: (B,)."""
    alpha_bar = alphas_cumprod[timesteps].float()
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "v_prediction":
        return snr.clamp(max=snr_gamma) / (snr + 1)
    return (snr_gamma / snr).clamp(max=1)  # in this form a signal-to-noise ratio of 0 gives 1, not NaN


def mean_square_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Per sample, (B,) float32, whatever precision the prediction has."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def denoising_losses(
    models: "Models", batch: "LatentsBatch", encoder_hidden_states: Tensor, snr_gamma: float | None
) -> Tensor:
    """Loss per image, (B,) float32, of the U-Net that attends to encoder_hidden_states (B, T, D)."""
    assert models.unet is not None
    assert models.noise_scheduler is not None
    latents, noise, timesteps = batch.latents, batch.noise, batch.timesteps
    alphas_cumprod = models.noise_scheduler.alphas_cumprod
    prediction_type: str = models.noise_scheduler.config["prediction_type"]
    noisy_latents = add_noise(latents, noise, timesteps, alphas_cumprod)
    model_pred = models.unet(noisy_latents, timesteps, encoder_hidden_states, return_dict=False)[0]
    losses = mean_square_error(model_pred, target_of(prediction_type, latents, noise, timesteps, alphas_cumprod))
    if snr_gamma is not None:
        losses = losses * min_snr_weight(prediction_type, timesteps, alphas_cumprod, snr_gamma)
    return losses


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of the posterior from N(0, 1) per image, mean over its elements, (B,) float32."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).mean(1)


def reconstruction_losses(reconstruction: Tensor, pixel_values: Tensor) -> Tensor:
    """L1 + squared error + L1 between the pixels' horizontal and vertical differences, per image, (B,) float32.

    The difference term (Mathieu et al. 2016) keeps edges that the first two would blur. Both: (B, 3, H, W).
    """
    error = reconstruction.float() - pixel_values.float()
    differences = error.diff(dim=-1).abs().flatten(1).mean(1) + error.diff(dim=-2).abs().flatten(1).mean(1)
    return error.abs().flatten(1).mean(1) + error.square().flatten(1).mean(1) + differences


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def seed_torch(seed: int, step: int, rank: int) -> None:
    """Seed what torch draws by itself, such as a text encoder's dropout, so that a resumed step draws the same.

    It depends on the rank: with such dropout, and with it alone, the number of processes changes what is learnt.
    """
    torch.manual_seed(int(sample_generator(seed, step, rank, 2**63).integers(2**63)))
