"""How much of a radiograph survives the VAE: held-out images through it and back."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from radiffuse.evaluate.image_metrics import psnr, rmse, ssim
from radiffuse.evaluate.pictures import Picture, Reconstruction, embed
from radiffuse.evaluate.report import VaeReconstruction
from radiffuse.models import load_models
from radiffuse.progress import track

# About 1 GB of activations at any size: the VAE's first stage has 128 channels of fp32 per pixel.
PIXELS_PER_BATCH = 2**18
DIFFERENCE_GAIN = 4

GreyImages = npt.NDArray[np.uint8]


@torch.no_grad()
def reconstruct(model_path: Path, images: GreyImages) -> GreyImages:
    """Grey images (N, H, W) uint8 through the VAE of the pipeline in `model_path` and back, by the posterior's mean."""
    vae = load_models(model_path, ("vae",)).vae
    assert vae is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae.to(device)
    size = max(1, PIXELS_PER_BATCH // images[0].size)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    outputs = []
    for batch in track(batches, label="reconstruct", unit="batches"):
        grey = torch.from_numpy(batch).to(device).float().div(127.5).sub(1).unsqueeze(1)
        decoded = vae.decode(vae.encode(grey.expand(-1, 3, -1, -1)).latent_dist.mode()).sample
        levels = (decoded.mean(dim=1) + 1) * 127.5
        outputs.append(levels.round().clamp(0, 255).to(torch.uint8).cpu().numpy())
    return np.concatenate(outputs)


def summarise_reconstruction(originals: GreyImages, decoded: GreyImages, was_trained: bool) -> VaeReconstruction:
    """Means over images of RMSE, PSNR and SSIM."""
    errors = rmse(originals, decoded)
    return VaeReconstruction(
        images=len(originals),
        rmse=float(errors.mean()),
        psnr_db=float(psnr(errors).mean()),
        ssim=float(ssim(originals, decoded).mean()),
        was_trained=was_trained,
    )


def show_reconstructions(originals: GreyImages, decoded: GreyImages, count: int) -> tuple[Reconstruction, ...]:
    """The first `count` triples for the page."""
    shown = []
    for number, (original, output) in enumerate(zip(originals[:count], decoded[:count], strict=True), start=1):
        difference = np.abs(original.astype(np.int16) - output) * DIFFERENCE_GAIN
        shown.append(
            Reconstruction(
                Picture(embed(original), f"held-out radiograph {number}", "original"),
                Picture(embed(output), f"radiograph {number} after the VAE", "reconstruction"),
                Picture(
                    embed(difference.clip(0, 255).astype(np.uint8)),
                    f"absolute difference of radiograph {number} and its reconstruction, times {DIFFERENCE_GAIN}",
                    f"difference × {DIFFERENCE_GAIN}",
                ),
            )
        )
    return tuple(shown)
