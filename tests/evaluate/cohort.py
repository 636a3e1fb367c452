"""Toy radiographs for the judge: a dark box of lungs whose floor is bright where there is an effusion."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from radiffuse.data.shards import ShardWriter
from tests.tiny import PROMPTS

SIZE_PX = 48
EFFUSION = "Pleural Effusion"
# Of every eight images: four normal, three with an effusion, one with something else.
KINDS = ("normal", "effusion", "normal", "effusion", "normal", "effusion", "normal", "other")


def toy_image(number: int, has_effusion: bool, has_line: bool = False) -> np.ndarray:
    """(SIZE_PX, SIZE_PX) uint8, the same for the same number."""
    generator = np.random.default_rng(number)
    image = np.full((SIZE_PX, SIZE_PX), 150.0)
    top = 6 + int(generator.integers(0, 4))
    image[top:40, 8:22] = image[top:40, 26:40] = 60
    if has_effusion:
        side = slice(8, 22) if number % 4 < 2 else slice(26, 40)
        image[40 - int(generator.integers(12, 20)) : 40, side] = 190
    if has_line:
        image[10:12, :] = 250
    return (image + generator.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def write_cohort(folder: Path, per_split: dict[str, int]) -> Path:
    """A dataset's shards with that many images in each split."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    with ShardWriter(folder, images_per_shard=200) as writer:
        for split, count in per_split.items():
            for place in range(count):
                writer.write(cohort_row(number, KINDS[place % len(KINDS)], split))
                number += 1
    return folder


def cohort_row(number: int, kind: str, split: str) -> dict[str, object]:
    """One image of the shards; kind is one of KINDS."""
    has_effusion = kind == "effusion"
    encoded = io.BytesIO()
    Image.fromarray(toy_image(number, has_effusion, kind == "other")).save(encoded, "PNG")
    return {
        "image": encoded.getvalue(),
        "prompt": PROMPTS[1] if has_effusion else PROMPTS[0],
        "split": split,
        "is_few_shot": False,
        "view_position": "PA",
        "subject": number,
        "pathologies": [EFFUSION] if has_effusion else ["Fracture"] if kind == "other" else [],
        "no_finding": kind == "normal",
    }
