"""From a step's number to what one process feeds to its model.

A batch is a pure function of (seed, step, place in the batch), so any thread may make any batch, and a resumed run
makes the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from radiffuse.config import TrainSettings
from radiffuse.data.latents import LatentDataset, open_latents, to_pixel_values
from radiffuse.data.order import sample_indices
from radiffuse.diffusion import draw, drop_prompts
from radiffuse.errors import DataError
from radiffuse.models import read_part_config
from radiffuse.train_plan import DATA_KINDS, BatchPlan, TrainPlan

if TYPE_CHECKING:
    from radiffuse.data.shards import ImageDataset

DEFAULT_SCALING_FACTOR = 0.18215  # diffusers' own default: Stable Diffusion 1.x does not write it down


@dataclass(frozen=True)
class LatentsBatch:
    """One micro-step of diffusion training: latents, noise (B, C, h, w) float32; timesteps (B,) int64; B prompts."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]

    def to(self, device: torch.device) -> "LatentsBatch":
        """The same on another device."""
        return replace(
            self,
            latents=_move(self.latents, device),
            noise=_move(self.noise, device),
            timesteps=_move(self.timesteps, device),
        )


@dataclass(frozen=True)
class ImagesBatch:
    """One micro-step of VAE training: pixel_values (B, 3, H, W); posterior_noise (B, C, h, w); both float32."""

    pixel_values: Tensor
    posterior_noise: Tensor

    def to(self, device: torch.device) -> "ImagesBatch":
        """The same on another device."""
        return ImagesBatch(_move(self.pixel_values, device), _move(self.posterior_noise, device))


Batch = LatentsBatch | ImagesBatch


def batch_loader(
    plan: TrainPlan, batch_plan: BatchPlan, rank: int, data_folder: Path, model_folder: Path
) -> Callable[[tuple[int, int]], Batch]:
    """Open the data in a local folder; the function returned makes a process's batch from (step, micro_step)."""
    settings = plan.settings
    vae = read_part_config(model_folder, "vae")
    if DATA_KINDS[settings.method] == "latents":
        latents = open_latents(data_folder)
        noise_scheduler = read_part_config(model_folder, "scheduler")

        def load_latents(place: tuple[int, int]) -> LatentsBatch:
            step, micro_step = place
            positions = batch_plan.positions(step, rank, micro_step)
            return latents_batch(
                latents,
                settings,
                step,
                positions,
                vae.get("scaling_factor", DEFAULT_SCALING_FACTOR),
                noise_scheduler["num_train_timesteps"],
            )

        return load_latents

    from radiffuse.data.shards import ImageDataset

    images = ImageDataset(sorted(data_folder.glob("shard-*.arrow")))
    rows = images.indices("train")
    if len(rows) == 0:
        raise DataError(f"the dataset at {plan.data.uri} has no image in its train split; ingest more images")
    latent_shape = (vae["latent_channels"], 2 ** (len(vae["block_out_channels"]) - 1))

    def load_images(place: tuple[int, int]) -> ImagesBatch:
        step, micro_step = place
        return images_batch(images, rows, settings, step, batch_plan.positions(step, rank, micro_step), *latent_shape)

    return load_images


def latents_batch(
    data: LatentDataset,
    settings: TrainSettings,
    step: int,
    positions: tuple[int, int],
    scaling_factor: float,
    num_train_timesteps: int,
) -> LatentsBatch:
    """Latents drawn from the posterior, times the scaling factor, with this step's noise, timesteps and prompts."""
    indices, epochs = sample_indices(settings.seed, *positions, len(data))
    stored = data.batch(indices)
    draws = draw(settings.seed, step, stored.sample_ids, epochs, data.shape, num_train_timesteps)
    latents = stored.std.astype(np.float32)
    latents *= draws.posterior_noise
    latents += stored.mean
    latents *= np.float32(scaling_factor)
    return LatentsBatch(
        torch.from_numpy(latents),
        torch.from_numpy(draws.noise),
        torch.from_numpy(draws.timesteps),
        drop_prompts(stored.prompts, draws.dropout, settings.prompt_dropout_prob),
    )


def images_batch(
    data: "ImageDataset",
    rows: np.ndarray,
    settings: TrainSettings,
    step: int,
    positions: tuple[int, int],
    latent_channels: int,
    downsampling: int,
) -> ImagesBatch:
    """Images of `rows` (those of the train split) with this step's posterior noise."""
    indices, epochs = sample_indices(settings.seed, *positions, len(rows))
    examples = [data[int(row)] for row in rows[indices]]
    images = np.stack([example.image for example in examples])
    sample_ids = np.array([example.sample_id for example in examples])
    height, width = images.shape[1:]
    shape = (latent_channels, height // downsampling, width // downsampling)
    draws = draw(settings.seed, step, sample_ids, epochs, shape, num_train_timesteps=1)
    return ImagesBatch(torch.from_numpy(to_pixel_values(images)), torch.from_numpy(draws.posterior_noise))


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
