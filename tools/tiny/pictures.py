"""Captioned pictures that are not radiographs, on which the laptop base model is pretrained.

Four kinds: emoji over varied backgrounds, crops of photographs, soft shapes whose place, size and brightness the
caption tells, and translucent scenes in which such shapes overlap. None shows anatomy, tissue or any medical image.
"""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

# Pictures of the body's inside and of medicine are left out, so that "not a radiograph" is true by construction.
EXCLUDED_EMOJI = ("x-ray", "lungs", "anatomical heart", "bone", "brain", "skull", "tooth", "stethoscope", "microscope")
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "rocket.jpg", "clock_motion.png", "page.png"),
)
PHOTOGRAPH_WORDS = {"chelsea": "cat", "camera": "man with a camera", "hubble_deep_field": "galaxies"}
SHAPES = ("disc", "ring", "bar", "square", "arc", "cloud")
# A captioned word and the horizontal centre of the shape, as a fraction of the width.
SIDES = {"on the left": (0.28,), "on the right": (0.72,), "in the middle": (0.5,), "on both sides": (0.28, 0.72)}
SIZES = {"small": 0.10, "medium": 0.17, "large": 0.26}
TONES = {"bright": 1.0, "dark": -1.0}


@dataclass(frozen=True)
class Sources:
    """The raw material: emoji with alpha by name, and photographs by the word that captions them."""

    emoji: list[tuple[str, Image.Image]]
    photographs: list[tuple[str, Image.Image]]


def load_sources(emoji_archive: Path, photograph_dir: Path) -> Sources:
    """Emoji from the npm package `emoji-datasource-google` (.tgz), photographs from scikit-image's data folder."""
    with tarfile.open(emoji_archive) as archive:
        table = json.load(archive.extractfile("package/emoji.json"))
        emoji = []
        for entry in table:
            name = (entry["name"] or entry["short_name"]).lower()
            if any(word in name for word in EXCLUDED_EMOJI) or not entry["has_img_google"]:
                continue
            data = archive.extractfile(f"package/img/google/64/{entry['image']}").read()
            emoji.append((name, Image.open(io.BytesIO(data)).convert("RGBA")))
    photographs = []
    for file_name in PHOTOGRAPHS:
        stem = Path(file_name).stem
        image = Image.open(photograph_dir / file_name).convert("RGB")
        photographs.append((PHOTOGRAPH_WORDS.get(stem, stem.replace("_", " ")), image))
    return Sources(emoji, photographs)


def draw_picture(sources: Sources, size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """One RGB picture of size_px squared and its caption."""
    kind = rng.choice(4, p=(0.3, 0.15, 0.3, 0.25))
    draw = (draw_emoji, draw_photograph, draw_shape, draw_scene)[kind]
    return draw(sources, size_px, rng)


def draw_emoji(sources: Sources, size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """One or two copies of an emoji over a background, by place and size."""
    name, emoji = sources.emoji[rng.integers(len(sources.emoji))]
    side = str(rng.choice(list(SIDES)))
    size = str(rng.choice(list(SIZES)))
    image = Image.fromarray(_to_uint8(_background(sources, size_px, rng)))
    diameter = int(size_px * min(0.95, 2.6 * SIZES[size] * rng.uniform(0.9, 1.2)))
    glyph = emoji.resize((diameter, diameter), Image.Resampling.LANCZOS)
    for centre in SIDES[side]:
        x = int(centre * size_px - diameter / 2 + rng.normal(0, 0.03) * size_px)
        y = int(rng.uniform(0.35, 0.65) * size_px - diameter / 2)
        image.paste(glyph, (x, y), glyph)
    return image, f"a photo of a {size} {name} {side}"


def draw_photograph(sources: Sources, size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A random crop of a photograph, sometimes blurred."""
    name, photograph = sources.photographs[rng.integers(len(sources.photographs))]
    side = int(min(photograph.size) * rng.uniform(0.25, 1.0))
    x, y = (int(rng.integers(0, extent - side + 1)) for extent in photograph.size)
    crop = photograph.crop((x, y, x + side, y + side)).resize((size_px, size_px), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
        return crop, f"a photo of a blurred {name}"
    return crop, f"a photo of a {name}"


def draw_shape(sources: Sources, size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A soft shape over a background; the caption tells tone, size, shape and side."""
    shape, side = str(rng.choice(SHAPES)), str(rng.choice(list(SIDES)))
    size, tone = str(rng.choice(list(SIZES))), str(rng.choice(list(TONES)))
    canvas = _background(sources, size_px, rng, contrast=0.5)
    for centre in SIDES[side]:
        mask = _soft_shape(shape, size_px, centre + rng.normal(0, 0.02), rng.uniform(0.4, 0.6), SIZES[size], rng)
        canvas = canvas + TONES[tone] * rng.uniform(0.35, 0.7) * mask[..., None]
    return Image.fromarray(_to_uint8(canvas)), f"a photo of a {size} {tone} {shape} {side}"


def draw_scene(sources: Sources, size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    """Many translucent soft shapes whose densities add up, as glass or smoke would."""
    density = np.zeros((size_px, size_px))
    count = int(rng.integers(4, 24))
    for _ in range(count):
        shape = str(rng.choice(SHAPES))
        radius = rng.uniform(0.05, 0.45)
        density += rng.uniform(-0.5, 1.0) * _soft_shape(shape, size_px, rng.random(), rng.random(), radius, rng)
    density += rng.uniform(0.0, 0.5) * _fractal_noise(size_px, rng.uniform(1.0, 2.5), rng)
    transmitted = np.exp(-rng.uniform(0.8, 2.5) * _rescale(density))
    canvas = _rescale(transmitted if rng.random() < 0.5 else -transmitted) ** rng.uniform(0.6, 1.6)
    canvas = np.repeat(canvas[..., None], 3, axis=2) + rng.normal(0, rng.uniform(0, 0.02), (size_px, size_px, 1))
    amount = "few" if count < 12 else "many"
    return Image.fromarray(_to_uint8(canvas)), f"a photo of {amount} translucent shapes"


def _soft_shape(shape: str, size_px: int, x: float, y: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Occupancy in [0, 1], (size_px, size_px); x, y, radius are fractions of the width."""
    grid = (np.arange(size_px) + 0.5) / size_px
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    dx, dy = grid[None, :] - x, grid[:, None] - y
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / (radius * aspect)
    edge = rng.uniform(0.04, 0.3)
    distance = np.hypot(u, v)
    if shape == "square":
        distance = np.maximum(abs(u), abs(v))
    elif shape == "bar":
        distance = np.maximum(abs(u) / 1.6, abs(v) * 3.0)
    elif shape == "ring":
        distance = abs(distance - 0.8) * 4.0
    elif shape == "arc":
        distance = abs(distance - 0.9) * 6.0 + 2.0 * (v > 0.1)
    elif shape == "cloud":
        distance = distance + 0.35 * _fractal_noise(size_px, 1.6, rng)
    return 1.0 / (1.0 + np.exp(np.clip((distance - 1.0) / edge * 4.0, -30, 30)))


def _background(sources: Sources, size_px: int, rng: np.random.Generator, contrast: float = 1.0) -> np.ndarray:
    """A flat tone, a gradient, fractal noise or a blurred photograph: (size_px, size_px, 3) in about [0, 1]."""
    base = rng.uniform(0.05, 0.95)
    tint = base + rng.normal(0, 0.08, 3)
    kind = rng.choice(4)
    if kind == 0:
        return np.broadcast_to(tint, (size_px, size_px, 3)).copy()
    if kind == 1:
        slope = rng.uniform(-0.6, 0.6, 2) * contrast
        grid = np.linspace(-0.5, 0.5, size_px)
        return tint + (slope[0] * grid[:, None] + slope[1] * grid[None, :])[..., None]
    if kind == 2:
        noise = _fractal_noise(size_px, rng.uniform(1.0, 2.5), rng) * rng.uniform(0.03, 0.2) * contrast
        return tint + noise[..., None]
    image, _ = draw_photograph(sources, size_px, rng)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 4.0)))
    return base + contrast * (np.asarray(image, dtype=float) / 255 - 0.5)


def _fractal_noise(size_px: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with a 1/f**exponent amplitude spectrum, zero mean and unit standard deviation."""
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.normal(size=(size_px, size_px))) / frequency**exponent
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(size_px, size_px))
    return noise / (noise.std() + 1e-9)


def _rescale(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low + 1e-9)


def _to_uint8(canvas: np.ndarray) -> np.ndarray:
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
