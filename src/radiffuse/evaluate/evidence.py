"""What the judge has seen: real images, samples, the classifier's answers, the VAE's reconstructions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radiffuse.config import EvaluateSettings
from radiffuse.data.shards import ImageDataset, open_dataset
from radiffuse.errors import DataError
from radiffuse.evaluate.classifier import (
    Classifier,
    Judgement,
    LabelledImages,
    judge_images,
    load_labelled,
    train_classifier,
)
from radiffuse.evaluate.features import embed_images, load_vae, reconstruct
from radiffuse.evaluate.real_images import RealImages, load_real
from radiffuse.evaluate.sample_set import PromptKey, SampleSet, load_samples
from radiffuse.manifest import Manifest

if TYPE_CHECKING:
    from radiffuse.storage import Store

MS_SSIM_IMAGES = 20  # of one prompt: 190 pairs


@dataclass(frozen=True)
class JudgedImages:
    """Images' truths, or what their prompts asked for, (N,), and the classifier's answers."""

    is_positive: npt.NDArray[np.bool_]
    judgement: Judgement


@dataclass(frozen=True)
class JudgedSamples(JudgedImages):
    """Samples and the classifier's answers."""

    samples: SampleSet


@dataclass(frozen=True)
class Embedded:
    """Features (N, dimensions) in which distributions are compared, of clean real images and of the samples."""

    real: npt.NDArray[np.float64]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Everything that figures and pictures are made from."""

    settings: EvaluateSettings
    classifier: Classifier
    training_images: LabelledImages
    real: RealImages
    real_clean: JudgedImages
    real_blurred: JudgedImages
    real_others: JudgedImages | None
    external: JudgedImages | None
    before: JudgedSamples
    after: JudgedSamples
    embedded: Embedded
    model: Manifest
    model_path: Path
    originals: npt.NDArray[np.uint8]
    decoded: npt.NDArray[np.uint8]

    def prompts(self) -> tuple[PromptKey, ...]:
        """Every prompt that was drawn from, in order."""
        return tuple(dict.fromkeys((*self.after.samples.keys, *self.before.samples.keys)))


def gather_evidence(
    store: "Store",
    dataset: Manifest,
    before: Manifest,
    after: Manifest,
    settings: EvaluateSettings,
    external: Manifest | None,
) -> Evidence:
    """Train the classifier, ask it about everything, and send held-out images through the VAE.

    Raises DataError when a split lacks images of either class, or when the adapted model is not in the store.
    """
    images = open_dataset(store, dataset)
    real = load_real(images, settings.pathology)
    samples = [
        load_samples(store, item, max(MS_SSIM_IMAGES, settings.samples_per_prompt_shown)) for item in (before, after)
    ]
    if min(map(len, samples)) < 2:
        raise DataError(
            f"{len(samples[0])} samples before and {len(samples[1])} after; a spread takes two of each: raise "
            "sample.samples_per_prompt and sample.baseline_samples_per_prompt"
        )
    model = model_of(store, after)
    training_images = load_labelled(images, "validation", settings.pathology)
    classifier = train_classifier(training_images, settings)

    def judge(labelled: LabelledImages, pixels: npt.NDArray[np.uint8]) -> JudgedImages:
        return JudgedImages(labelled.is_positive, judge_images(classifier, pixels))

    judged = [
        JudgedSamples(item.asks_for(settings.pathology), judge_images(classifier, item.images), item)
        for item in samples
    ]
    model_path = store.fetch_cached(model)
    base_vae = load_vae(store.fetch_cached(model_of(store, before)))
    originals = held_out_images(images, settings)
    return Evidence(
        settings=settings,
        classifier=classifier,
        training_images=training_images,
        real=real,
        real_clean=judge(real.clean, real.clean.images),
        real_blurred=judge(real.clean, real.blurred()),
        real_others=judge(real.others, real.others.images) if len(real.others) else None,
        external=_judge_external(store, external, classifier, settings) if external is not None else None,
        before=judged[0],
        after=judged[1],
        embedded=Embedded(
            *(embed_images(base_vae, pixels) for pixels in (real.clean.images, *(item.images for item in samples)))
        ),
        model=model,
        model_path=model_path,
        originals=originals,
        decoded=reconstruct(load_vae(model_path), originals),
    )


def model_of(store: "Store", samples: Manifest) -> Manifest:
    """The model that drew the samples. Raises DataError when the store does not have it."""
    uri = samples.inputs.get("model")
    model = store.find(uri) if uri is not None else None
    if model is None:
        raise DataError(
            f"the samples at {samples.uri} name the model {uri}, which the store does not have; train it again"
        )
    return model


def held_out_images(images: ImageDataset, settings: EvaluateSettings) -> npt.NDArray[np.uint8]:
    """Up to `vae_images` test images at random, (N, H, W) uint8."""
    rows = np.random.default_rng(settings.seed).permutation(images.indices("test"))[: settings.vae_images]
    return np.stack([images[int(row)].image for row in rows])


def _judge_external(
    store: "Store", external: Manifest, classifier: Classifier, settings: EvaluateSettings
) -> JudgedImages:
    labelled = load_labelled(open_dataset(store, external), None, settings.pathology)
    clean = labelled.select(labelled.is_positive | labelled.is_normal)
    if len(clean) == 0:
        raise DataError(
            f"none of the {len(labelled)} images of {external.uri} shows {settings.pathology} or no finding at all; "
            "judge without it, or ingest more of it"
        )
    return JudgedImages(clean.is_positive, judge_images(classifier, clean.images))
