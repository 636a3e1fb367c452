"""Grey images through a model's VAE: back to pixels, and to the features of the Fréchet distance."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from radiffuse.models import load_models
from radiffuse.progress import track

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

GRID = 4
EXTRACTOR = f"base model's VAE, posterior means averaged over a {GRID}x{GRID} grid"
# About 1 GB of activations at any size: the VAE's first stage has 128 channels of fp32 per pixel.
PIXELS_PER_BATCH = 2**18

GreyImages = npt.NDArray[np.uint8]


def load_vae(model_path: Path) -> "AutoencoderKL":
    """The VAE of the pipeline in that folder, on the accelerator where there is one."""
    vae = load_models(model_path, ("vae",)).vae
    assert vae is not None
    return vae.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@torch.no_grad()
def embed_images(vae: "AutoencoderKL", images: GreyImages) -> npt.NDArray[np.float64]:
    """Features (N, latent channels x GRID x GRID) of grey images (N, H, W): what is where, coarsely.

    The weights are the same in every report on one base model and have seen none of what is compared. A classifier's
    own features will not do: they hold what tells its classes apart, so noise can look like disease and lie closer to
    the real images than a good sample does. Naeem et al. 2020 (arXiv:2002.09797) argue likewise for an embedding that
    was not trained on the task.
    """
    features = [
        functional.adaptive_avg_pool2d(vae.encode(batch).latent_dist.mode(), GRID).flatten(1).double().cpu()
        for batch in _batches(vae, images, "embed")
    ]
    return torch.cat(features).numpy()


@torch.no_grad()
def reconstruct(vae: "AutoencoderKL", images: GreyImages) -> GreyImages:
    """Grey images (N, H, W) uint8 through the VAE and back, by the posterior's mean."""
    outputs = []
    for batch in _batches(vae, images, "reconstruct"):
        decoded = vae.decode(vae.encode(batch).latent_dist.mode()).sample
        levels = (decoded.mean(dim=1) + 1) * 127.5
        outputs.append(levels.round().clamp(0, 255).to(torch.uint8).cpu().numpy())
    return np.concatenate(outputs)


def _batches(vae: "AutoencoderKL", images: GreyImages, label: str) -> Iterator[torch.Tensor]:
    """(B, 3, H, W) float32 in [-1, 1] on the VAE's device."""
    size = max(1, PIXELS_PER_BATCH // images[0].size)
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    for part in track(parts, label=label, unit="batches"):
        grey = torch.from_numpy(part).to(vae.device).float().div(127.5).sub(1).unsqueeze(1)
        yield grey.expand(-1, 3, -1, -1)
