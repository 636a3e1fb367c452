"""Held-out real images: what samples are compared with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radiffuse.data.shards import Example, ImageDataset
from radiffuse.errors import DataError
from radiffuse.evaluate.classifier import LabelledImages, blur_images, load_labelled
from radiffuse.evaluate.sample_set import PromptKey

MIN_PER_CLASS = 4  # two halves of each, and a covariance of either
BLUR_FACTORS = (2, 3, 4, 5, 6)

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RealImages:
    """The test split: `clean` images are normal or show the pathology, `others` show something else only."""

    dataset: ImageDataset
    clean: LabelledImages
    others: LabelledImages

    def blurred(self) -> npt.NDArray[np.uint8]:
        """The clean images, down 2 to 6 times in turn and up again."""
        blurred = np.empty_like(self.clean.images)
        for start, factor in enumerate(BLUR_FACTORS):
            every = slice(start, None, len(BLUR_FACTORS))
            blurred[every] = blur_images(self.clean.images[every], factor)
        return blurred

    def matching(self, key: PromptKey, count: int) -> list[Example]:
        """Up to `count` test examples of the prompt itself or, where there is none, of exactly its pathologies."""
        prompt, pathologies = key
        rows = self.dataset.indices("test")
        prompts, truths = self.dataset.column("prompt"), self.dataset.column("pathologies")
        same_prompt = [row for row in rows if prompts[row] == prompt]
        same_truth = [row for row in rows if set(truths[row]) == set(pathologies)]
        return [self.dataset[int(row)] for row in (same_prompt if same_prompt else same_truth)[:count]]

    def reference(self, positive_share: float, seed: int) -> Places:
        """Places of as many clean images as there are with that share of positives, in random order."""
        generator = np.random.default_rng(seed)
        positives = generator.permutation(np.flatnonzero(self.clean.is_positive))
        negatives = generator.permutation(np.flatnonzero(~self.clean.is_positive))
        total = min(
            len(positives) / positive_share if positive_share > 0 else np.inf,
            len(negatives) / (1 - positive_share) if positive_share < 1 else np.inf,
        )
        wanted = round(total * positive_share)
        return np.concatenate([positives[:wanted], negatives[: round(total) - wanted]])


def load_real(dataset: ImageDataset, pathology: str) -> RealImages:
    """The labelled test images. Raises DataError when there are too few normal ones or too few with the pathology."""
    labelled = load_labelled(dataset, "test", pathology)
    is_clean = labelled.is_positive | labelled.is_normal
    clean = labelled.select(is_clean)
    positives = int(clean.is_positive.sum())
    if min(positives, len(clean) - positives) < MIN_PER_CLASS:
        raise DataError(
            f"judging needs {MIN_PER_CLASS} test images with {pathology} and as many normal ones, found {positives} "
            f"and {len(clean) - positives}; give ingest.splits.test a larger share"
        )
    return RealImages(dataset, clean, labelled.select(~is_clean))
