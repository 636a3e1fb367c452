"""Generated images as the judge takes them: what the classifier sees of all, and some in full."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radiffuse.data.sample_shards import Sample, read_samples
from radiffuse.errors import DataError
from radiffuse.evaluate.classifier import reduce_image
from radiffuse.evaluate.image_metrics import to_grey
from radiffuse.manifest import Manifest

if TYPE_CHECKING:
    from radiffuse.storage import Store

PromptKey = tuple[str, tuple[str, ...]]  # the prompt and the pathologies it asks for


@dataclass(frozen=True)
class SampleSet:
    """Samples of one model, in order of sample_id.

    images: (N, h, w) uint8, grey, as the classifier takes them; keys: each one's prompt;
    kept: the first samples of every prompt, in full.
    """

    images: npt.NDArray[np.uint8]
    keys: tuple[PromptKey, ...]
    kept: dict[PromptKey, tuple[Sample, ...]]

    def __len__(self) -> int:
        return len(self.keys)

    def asks_for(self, pathology: str) -> npt.NDArray[np.bool_]:
        """(N,): whether the prompt asks for the pathology."""
        return np.array([pathology in pathologies for _, pathologies in self.keys])

    def of(self, key: PromptKey) -> npt.NDArray[np.bool_]:
        """(N,): mask of one prompt's samples."""
        return np.array([other == key for other in self.keys])

    def grey(self, key: PromptKey) -> npt.NDArray[np.uint8]:
        """The kept samples of one prompt, (n, H, W) uint8; n may be 0."""
        kept = self.kept.get(key, ())
        return to_grey([sample.image for sample in kept]) if kept else np.empty((0, 1, 1), np.uint8)


def load_samples(store: "Store", manifest: Manifest, kept_per_prompt: int) -> SampleSet:
    """Fetch and read the samples of a manifest. Raises DataError when there are none."""
    directory = store.fetch_cached(manifest)
    names = sorted(stored.name for stored in manifest.objects if stored.name.endswith(".arrow"))
    return read_sample_set([directory / name for name in names], kept_per_prompt)


def read_sample_set(paths: Sequence[Path], kept_per_prompt: int) -> SampleSet:
    """Read shards of samples. Raises DataError when they hold none."""
    images, keys = [], []
    kept: dict[PromptKey, list[Sample]] = {}
    for sample in read_samples(paths):
        key = (sample.prompt, sample.pathologies)
        images.append(reduce_image(to_grey([sample.image])[0]))
        keys.append(key)
        of_prompt = kept.setdefault(key, [])
        if len(of_prompt) < kept_per_prompt:
            of_prompt.append(sample)
    if not keys:
        raise DataError(f"no sample in {len(paths)} shards; draw some with `radiffuse sample`")
    return SampleSet(np.stack(images), tuple(keys), {key: tuple(samples) for key, samples in kept.items()})
