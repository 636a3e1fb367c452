"""Pictures for the page: PNG in data URIs, so that report.html needs no other file."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

# Twice the 144 CSS pixels they are shown at, for dense screens; larger ones would only make the file heavy.
MAX_EMBEDDED_PX = 288


@dataclass(frozen=True)
class Picture:
    """An image with the words for those who cannot see it, and a short caption."""

    source: str
    alt: str
    caption: str = ""
    is_as_asked: bool | None = None


@dataclass(frozen=True)
class PromptPictures:
    """One prompt's rows: label ('real', 'before', 'after') and pictures."""

    prompt: str
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]


@dataclass(frozen=True)
class Reconstruction:
    """A held-out image, what the VAE makes of it, and four times their difference."""

    original: Picture
    reconstruction: Picture
    difference: Picture


@dataclass(frozen=True)
class Pictures:
    """All that the page shows; is_same_noise: samples before and after were drawn from equal seeds."""

    prompts: tuple[PromptPictures, ...]
    reconstructions: tuple[Reconstruction, ...]
    is_same_noise: bool


def embed(image: npt.NDArray[np.uint8]) -> str:
    """Data URI of an image (H, W) or (H, W, 3) uint8."""
    picture = Image.fromarray(image)
    if picture.width > MAX_EMBEDDED_PX:
        picture = picture.resize((MAX_EMBEDDED_PX, MAX_EMBEDDED_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
