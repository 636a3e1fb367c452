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
    """Open the data in a local folder; what is returned makes a process's batch from (step, micro_step)."""
    vae = read_part_config(model_folder, "vae")
    if DATA_KINDS[plan.settings.method] == "latents":
        return LatentsLoader(
            data=open_latents(data_folder),
            settings=plan.settings,
            batch_plan=batch_plan,
            rank=rank,
            scaling_factor=vae.get("scaling_factor", DEFAULT_SCALING_FACTOR),
            num_train_timesteps=read_part_config(model_folder, "scheduler")["num_train_timesteps"],
        )
    from radiffuse.data.shards import ImageDataset

    data = ImageDataset(sorted(data_folder.glob("shard-*.arrow")))
    rows = data.indices("train")
    if len(rows) == 0:
        raise DataError(f"the dataset at {plan.data.uri} has no image in its train split; ingest more images")
    return ImagesLoader(
        data=data,
        rows=rows,
        settings=plan.settings,
        batch_plan=batch_plan,
        rank=rank,
        latent_channels=vae["latent_channels"],
        downsampling=2 ** (len(vae["block_out_channels"]) - 1),
    )


@dataclass(frozen=True)
class LatentsLoader:
    """Latents drawn from the posterior, times the scaling factor, with a step's noise, timesteps and prompts."""

    data: LatentDataset
    settings: TrainSettings
    batch_plan: BatchPlan
    rank: int
    scaling_factor: float
    num_train_timesteps: int

    def __call__(self, place: tuple[int, int]) -> LatentsBatch:
        """The batch at (step, micro_step)."""
        step, micro_step = place
        seed, positions = self.settings.seed, self.batch_plan.positions(step, self.rank, micro_step)
        indices, epochs = sample_indices(seed, *positions, len(self.data))
        stored = self.data.batch(indices)
        draws = draw(seed, step, stored.sample_ids, epochs, self.data.shape, self.num_train_timesteps)
        latents = stored.std.astype(np.float32)
        latents *= draws.posterior_noise
        latents += stored.mean
        latents *= np.float32(self.scaling_factor)
        return LatentsBatch(
            torch.from_numpy(latents),
            torch.from_numpy(draws.noise),
            torch.from_numpy(draws.timesteps),
            drop_prompts(stored.prompts, draws.dropout, self.settings.prompt_dropout_prob),
        )


@dataclass(frozen=True)
class ImagesLoader:
    """Images of `rows`, the train split, with a step's posterior noise."""

    data: "ImageDataset"
    rows: np.ndarray
    settings: TrainSettings
    batch_plan: BatchPlan
    rank: int
    latent_channels: int
    downsampling: int

    def __call__(self, place: tuple[int, int]) -> ImagesBatch:
        """The batch at (step, micro_step)."""
        step, micro_step = place
        seed, positions = self.settings.seed, self.batch_plan.positions(step, self.rank, micro_step)
        indices, epochs = sample_indices(seed, *positions, len(self.rows))
        examples = [self.data[int(row)] for row in self.rows[indices]]
        images = np.stack([example.image for example in examples])
        sample_ids = np.array([example.sample_id for example in examples])
        height, width = images.shape[1:]
        shape = (self.latent_channels, height // self.downsampling, width // self.downsampling)
        draws = draw(seed, step, sample_ids, epochs, shape, num_train_timesteps=1)
        return ImagesBatch(torch.from_numpy(to_pixel_values(images)), torch.from_numpy(draws.posterior_noise))


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
