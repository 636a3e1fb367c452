"""How much of a radiograph survives the VAE: figures and pictures of held-out images and what came back."""

import numpy as np

from radiffuse.evaluate.features import GreyImages
from radiffuse.evaluate.image_metrics import psnr, rmse, ssim
from radiffuse.evaluate.pictures import Picture, Reconstruction, embed
from radiffuse.evaluate.report import VaeReconstruction

DIFFERENCE_GAIN = 4


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
