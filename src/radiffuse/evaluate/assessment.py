"""From evidence to figures and pictures: the content of a report."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from radiffuse.code_version import code_version
from radiffuse.config import EvaluateSettings
from radiffuse.evaluate.classifier import judge_images, reduce_image
from radiffuse.evaluate.evidence import MS_SSIM_IMAGES, Evidence, JudgedImages, JudgedSamples, gather_evidence
from radiffuse.evaluate.features import EXTRACTOR
from radiffuse.evaluate.image_metrics import (
    confusion,
    frechet_distance,
    mean_ms_ssim,
    ms_ssim_window,
    to_grey,
    wilson_interval,
)
from radiffuse.evaluate.lineage import trace_lineage
from radiffuse.evaluate.numbers import percent
from radiffuse.evaluate.pictures import Picture, Pictures, PromptPictures, embed
from radiffuse.evaluate.reconstruction import show_reconstructions, summarise_reconstruction
from radiffuse.evaluate.report import (
    Accuracy,
    AccuracyDetails,
    BeforeAfterReal,
    ClassifierSummary,
    Confusion,
    FrechetDistance,
    PromptResult,
    Report,
    TrainingPoint,
)
from radiffuse.evaluate.sample_set import PromptKey
from radiffuse.manifest import Manifest

if TYPE_CHECKING:
    from radiffuse.storage import Store

MAX_TRAINING_POINTS = 400
PROMPTS_SHOWN = 6

LIMITS = (
    # Ingest cannot tell a simulated cohort by its layout, so every report says it.
    "If the cohort was made by radiffuse simulate, every simulated patient shares one CT: the classifier's accuracy "
    "says nothing about generalising to people.",
    "The classifier is small and knows this dataset alone. It says whether a picture shows the finding in the way "
    "these radiographs do, not whether a radiologist would take the picture for real.",
    "The Fréchet distance is measured on few images and in coarse features of the base model's VAE, which hold where "
    "things are and not how sharp they are: compare it with its floor, and with reports on the same cohort and base.",
    "A generated picture is not a patient. Nothing here is fit for diagnosis.",
)


def assess(
    store: "Store",
    run_name: str,
    roots: dict[str, Manifest],
    settings: EvaluateSettings,
) -> tuple[Report, Pictures]:
    """Judge the samples; `roots` are the manifests of dataset, before, after and, if given, external."""
    with all_cores():
        evidence = gather_evidence(
            store, roots["dataset"], roots["before"], roots["after"], settings, roots.get("external")
        )
        report = build_report(store, run_name, roots, evidence)
        return report, build_pictures(evidence)


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Let torch use every core this process may run on; judging has the machine to itself."""
    previous = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def build_report(store: "Store", run_name: str, roots: dict[str, Manifest], evidence: Evidence) -> Report:
    """The figures."""
    accuracy = _accuracy_details(evidence)
    was_trained = evidence.model.settings.get("method") == "vae"
    return Report(
        name=run_name,
        pathology=evidence.settings.pathology,
        num_samples=len(evidence.after.samples),
        num_samples_before=len(evidence.before.samples),
        effusion_accuracy=BeforeAfterReal(
            before=accuracy.before.accuracy, after=accuracy.after.accuracy, real=accuracy.real.accuracy
        ),
        accuracy=accuracy,
        frechet_distance=_frechet(evidence),
        prompts=tuple(_prompt_result(evidence, key) for key in evidence.prompts()),
        ms_ssim_window_px=ms_ssim_window(evidence.originals.shape[-1]),
        vae=summarise_reconstruction(evidence.originals, evidence.decoded, was_trained),
        classifier=_summarise_classifier(evidence),
        training=read_training(evidence.model_path / "metrics.jsonl"),
        limits=LIMITS,
        settings=evidence.settings.model_dump(mode="json"),
        code_version=code_version(),
        provenance=trace_lineage(store, roots),
    )


def measure_accuracy(is_positive: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> Accuracy:
    """Share of answers that are the truth, with its interval."""
    correct, total = int((is_positive == predicted).sum()), len(is_positive)
    return Accuracy(
        correct=correct,
        total=total,
        accuracy=correct / total,
        interval_95=wilson_interval(correct, total),
        confusion=Confusion(**confusion(is_positive, predicted)),
    )


def _accuracy(judged: JudgedImages) -> Accuracy:
    return measure_accuracy(judged.is_positive, judged.judgement.is_positive)


def _accuracy_details(evidence: Evidence) -> AccuracyDetails:
    return AccuracyDetails(
        before=_accuracy(evidence.before),
        after=_accuracy(evidence.after),
        real=_accuracy(evidence.real_clean),
        real_blurred=_accuracy(evidence.real_blurred),
        real_other_findings=None if evidence.real_others is None else _accuracy(evidence.real_others),
        external=None if evidence.external is None else _accuracy(evidence.external),
    )


def _frechet(evidence: Evidence) -> FrechetDistance:
    """Distances to real images with the samples' own share of positives: another mixture is another distribution."""
    before, after = evidence.embedded.before, evidence.embedded.after
    reference = evidence.real.reference(float(evidence.after.is_positive.mean()), evidence.settings.seed)
    real = evidence.embedded.real[reference]
    return FrechetDistance(
        before=frechet_distance(real, before),
        after=frechet_distance(real, after),
        after_same_number=frechet_distance(real, after[: len(before)]),
        # Positives come first, so every second image leaves both halves the same mixture.
        floor=frechet_distance(real[::2], real[1::2]),
        extractor=EXTRACTOR,
        dimensions=real.shape[1],
        reference_images=len(reference),
    )


def _prompt_result(evidence: Evidence, key: PromptKey) -> PromptResult:
    real = [example.image for example in evidence.real.matching(key, MS_SSIM_IMAGES)]
    return PromptResult(
        prompt=key[0],
        pathologies=key[1],
        before=_prompt_accuracy(evidence.before, key),
        after=_prompt_accuracy(evidence.after, key),
        ms_ssim_before=mean_ms_ssim(evidence.before.samples.grey(key), MS_SSIM_IMAGES),
        ms_ssim_after=mean_ms_ssim(evidence.after.samples.grey(key), MS_SSIM_IMAGES),
        ms_ssim_real=mean_ms_ssim(np.stack(real), MS_SSIM_IMAGES) if real else None,
    )


def _prompt_accuracy(judged: JudgedSamples, key: PromptKey) -> Accuracy | None:
    mask = judged.samples.of(key)
    return measure_accuracy(judged.is_positive[mask], judged.judgement.is_positive[mask]) if mask.any() else None


def _summarise_classifier(evidence: Evidence) -> ClassifierSummary:
    return ClassifierSummary(
        parameters=sum(parameter.numel() for parameter in evidence.classifier.parameters()),
        train_images=len(evidence.training_images),
        train_positives=int(evidence.training_images.is_positive.sum()),
        epochs=evidence.settings.classifier_epochs,
        input_px=evidence.training_images.images.shape[-1],
    )


def read_training(path: Path) -> tuple[TrainingPoint, ...]:
    """Logged steps of a model's metrics.jsonl, thinned to MAX_TRAINING_POINTS; none when the file is not there."""
    if not path.is_file():
        return ()
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    every = max(1, -(-len(records) // MAX_TRAINING_POINTS))
    return tuple(
        TrainingPoint(step=record["step"], loss=record["loss"], images_per_second=record["images_per_second"])
        for record in records[::every]
    )


def build_pictures(evidence: Evidence) -> Pictures:
    """The page's images: real, before and after per prompt, and the VAE's reconstructions."""
    prompts = tuple(_show_prompt(evidence, key) for key in evidence.prompts()[:PROMPTS_SHOWN])
    count = evidence.settings.samples_per_prompt_shown
    reconstructions = show_reconstructions(evidence.originals, evidence.decoded, count)
    return Pictures(prompts, reconstructions, _seeds(evidence.before, count) == _seeds(evidence.after, count))


def _seeds(judged: JudgedSamples, count: int) -> dict[PromptKey, list[int]]:
    return {key: [sample.image_seed for sample in kept[:count]] for key, kept in judged.samples.kept.items()}


def _show_prompt(evidence: Evidence, key: PromptKey) -> PromptPictures:
    shown = evidence.settings.samples_per_prompt_shown
    real = [example.image for example in evidence.real.matching(key, shown)]
    rows = (
        ("real", _show(evidence, key, real, "real, held out")),
        ("before", _show(evidence, key, _shown_samples(evidence.before, key, shown), "drawn before adaptation")),
        ("after", _show(evidence, key, _shown_samples(evidence.after, key, shown), "drawn after adaptation")),
    )
    return PromptPictures(key[0], rows)


def _shown_samples(judged: JudgedSamples, key: PromptKey, count: int) -> list[npt.NDArray[np.uint8]]:
    return [sample.image for sample in judged.samples.kept.get(key, ())[:count]]


def _show(evidence: Evidence, key: PromptKey, images: list[npt.NDArray[np.uint8]], origin: str) -> tuple[Picture, ...]:
    """Pictures with the classifier's answer, and whether it is what the prompt asks for."""
    if not images:
        return ()
    finding = evidence.settings.pathology.lower()
    grey = np.stack([reduce_image(image if image.ndim == 2 else to_grey([image])[0]) for image in images])
    judgement = judge_images(evidence.classifier, grey)
    pictures = []
    for number, (image, probability) in enumerate(zip(images, judgement.probabilities, strict=True), start=1):
        answer = percent(round(float(probability), 2))
        is_as_asked = bool(probability >= 0.5) == (evidence.settings.pathology in key[1])
        alt = f"image {number}, {origin}; the classifier says {finding} {answer}"
        pictures.append(Picture(embed(image), alt, answer, is_as_asked))
    return tuple(pictures)
