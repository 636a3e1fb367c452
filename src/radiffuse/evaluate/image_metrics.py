"""Figures of merit for images. SSIM is scikit-image's and MS-SSIM pytorch-msssim's, as in RoentGen's evaluation."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]
GreyImages = npt.NDArray[np.uint8]

# pytorch-msssim halves an image four times; its window must still fit then.
MS_SSIM_REDUCTION = 16
MS_SSIM_WINDOWS = (11, 9, 7, 5, 3)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 % by default (Wilson 1927); (0, 1) when nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def frechet_distance(first: Floats, second: Floats) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, D) and (M, D); Heusel et al. 2017, eq. 6.

    The trace of the root of the product of the covariances is taken from the singular values of the product of their
    symmetric roots: real and never negative, also where there are fewer images than features.
    """
    difference = first.mean(axis=0) - second.mean(axis=0)
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second)]
    roots = [_symmetric_root(covariance) for covariance in covariances]
    cross = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    return max(0.0, float(difference @ difference + sum(map(np.trace, covariances)) - 2 * cross))


def _symmetric_root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def rmse(first: GreyImages, second: GreyImages) -> Floats:
    """Root mean square error of each pair of images (N, H, W), as a share of full scale: 0 to 1."""
    squares = (first.astype(np.float64) - second) ** 2
    errors: Floats = np.sqrt(squares.mean(axis=(1, 2))) / 255
    return errors


def psnr(errors: Floats) -> Floats:
    """Peak signal to noise ratio in dB from RMSE on a scale of 1. Equal 8-bit images count as 1/2 grey level apart."""
    decibels: Floats = -20 * np.log10(np.maximum(errors, 0.5 / 255))
    return decibels


def ssim(first: GreyImages, second: GreyImages) -> Floats:
    """Structural similarity of each pair of images (N, H, W), Gaussian window of sd 1.5 (Wang et al. 2004)."""
    from skimage.metrics import structural_similarity

    pairs = zip(first, second, strict=True)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return np.array([structural_similarity(one, other, **options) for one, other in pairs])


def ms_ssim_window(side_px: int) -> int | None:
    """Largest window that fits five scales of an image, 11 from 161 px on; None below 33 px."""
    return next((window for window in MS_SSIM_WINDOWS if side_px > (window - 1) * MS_SSIM_REDUCTION), None)


def mean_ms_ssim(images: GreyImages, max_images: int) -> float | None:
    """Mean multi-scale SSIM of all pairs of images (N, H, W): 1 where all are the same, lower for more diversity.

    The first `max_images` are compared; None for fewer than two images, or images too small for five scales.
    """
    from pytorch_msssim import ms_ssim

    window = ms_ssim_window(images.shape[-1])
    if window is None or min(len(images), max_images) < 2:
        return None
    scaled = torch.from_numpy(images[:max_images]).float().unsqueeze(1) / 255
    pairs = torch.tensor(list(itertools.combinations(range(len(scaled)), 2)))
    similarities = [
        ms_ssim(scaled[part[:, 0]], scaled[part[:, 1]], data_range=1.0, size_average=False, win_size=window)
        for part in torch.split(pairs, 64)
    ]
    return float(torch.cat(similarities).mean())


def confusion(is_positive: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Counts of true and false positives and negatives."""
    return {
        "true_positive": int((is_positive & predicted).sum()),
        "false_negative": int((is_positive & ~predicted).sum()),
        "false_positive": int((~is_positive & predicted).sum()),
        "true_negative": int((~is_positive & ~predicted).sum()),
    }


def to_grey(images: Sequence[npt.NDArray[np.uint8]]) -> GreyImages:
    """Luminance (N, H, W) uint8 of colour images (H, W, 3), ITU-R 601 as PIL's mode L."""
    weights = np.array([0.299, 0.587, 0.114])
    return np.stack([np.round(image @ weights).astype(np.uint8) for image in images])
