"""The classifier on toy radiographs: what it learns from, what it does with blur, and what it refuses."""

import numpy as np
import pytest
import torch

from radiffuse.config import EvaluateSettings
from radiffuse.data.shards import ImageDataset
from radiffuse.errors import DataError
from radiffuse.evaluate.classifier import (
    MAX_SIDE_PX,
    Classifier,
    augment,
    blur,
    blur_images,
    judge_images,
    load_labelled,
    reduce_image,
    to_pixel_values,
    train_classifier,
)
from radiffuse.evaluate.real_images import load_real
from tests.evaluate.cohort import EFFUSION, SIZE_PX, write_cohort
from tests.tiny import PROMPTS

SETTINGS = EvaluateSettings(classifier_epochs=6, classifier_batch_size=16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    folder = write_cohort(tmp_path_factory.mktemp("cohort"), {"validation": 96, "test": 48})
    return ImageDataset(sorted(folder.glob("*.arrow")))


@pytest.fixture(scope="module")
def classifier(dataset: ImageDataset) -> Classifier:
    return train_classifier(load_labelled(dataset, "validation", EFFUSION), SETTINGS)


def test_it_recognises_held_out_images_sharp_and_blurred(dataset: ImageDataset, classifier: Classifier) -> None:
    real = load_real(dataset, EFFUSION)
    for images in (real.clean.images, real.blurred()):
        assert (judge_images(classifier, images).is_positive == real.clean.is_positive).mean() >= 0.9


def test_the_same_seed_trains_the_same_classifier(dataset: ImageDataset) -> None:
    data = load_labelled(dataset, "validation", EFFUSION)
    settings = SETTINGS.model_copy(update={"classifier_epochs": 1})
    answers = [judge_images(train_classifier(data, settings), data.images).probabilities for _ in range(2)]
    np.testing.assert_array_equal(*answers)


def test_a_judgement_is_a_probability_for_each_image(classifier: Classifier) -> None:
    judgement = judge_images(classifier, np.zeros((3, SIZE_PX, SIZE_PX), np.uint8))
    assert judgement.probabilities.shape == (3,)
    assert ((judgement.probabilities >= 0) & (judgement.probabilities <= 1)).all()


def test_it_has_a_quarter_of_a_million_weights() -> None:
    assert 200_000 < sum(parameter.numel() for parameter in Classifier().parameters()) < 300_000


def test_too_few_images_of_a_class_are_refused(dataset: ImageDataset) -> None:
    data = load_labelled(dataset, "validation", "Pneumothorax")
    with pytest.raises(DataError, match=r"needs 8 validation images with Pleural Effusion .* found 0 and 96"):
        train_classifier(data, SETTINGS)


def test_an_empty_split_is_refused(dataset: ImageDataset) -> None:
    with pytest.raises(DataError, match="no labelled image in split 'train'"):
        load_labelled(dataset, "train", EFFUSION)


def test_too_few_test_images_are_refused(dataset: ImageDataset) -> None:
    with pytest.raises(DataError, match=r"judging needs 4 test images with Edema .* found 0"):
        load_real(dataset, "Edema")


def test_test_images_are_normal_or_positive_or_set_apart(dataset: ImageDataset) -> None:
    real = load_real(dataset, EFFUSION)
    assert (len(real.clean), len(real.others)) == (42, 6)
    assert not real.others.is_positive.any()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_reference_images_have_the_share_of_positives_asked_for(dataset: ImageDataset, share: float) -> None:
    real = load_real(dataset, EFFUSION)
    chosen = real.clean.is_positive[real.reference(share, seed=0)]
    assert len(chosen) >= 16
    assert chosen.mean() == pytest.approx(share, abs=0.03)


def test_real_images_of_a_prompt_have_that_prompt_or_its_findings(dataset: ImageDataset) -> None:
    real = load_real(dataset, EFFUSION)
    assert {example.prompt for example in real.matching((PROMPTS[1], (EFFUSION,)), 5)} == {PROMPTS[1]}
    assert all(EFFUSION in example.pathologies for example in real.matching(("another wording", (EFFUSION,)), 5))
    assert real.matching(("unseen", ("Edema",)), 5) == []


def test_large_images_are_reduced_before_they_are_judged() -> None:
    assert reduce_image(np.zeros((512, 512), np.uint8)).shape == (MAX_SIDE_PX, MAX_SIDE_PX)
    assert reduce_image(np.zeros((96, 96), np.uint8)).shape == (96, 96)


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (4, 48, 48)).astype(np.uint8)
    soft = blur_images(sharp, 4)
    assert soft.std() < sharp.std() / 3
    assert soft.mean() == pytest.approx(sharp.mean(), abs=2)


def test_a_factor_of_one_blurs_nothing() -> None:
    image = torch.rand(1, 1, 8, 8)
    assert blur(image, 1.0) is image


def test_augmentation_keeps_the_order_of_a_batch() -> None:
    levels = np.linspace(0, 255, 7).astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None], (7, 48, 48)).copy()
    changed = augment(to_pixel_values(images), torch.Generator().manual_seed(0))
    assert changed.shape == (7, 1, 48, 48)
    np.testing.assert_allclose(changed.mean(dim=(1, 2, 3)), levels / 127.5 - 1, atol=0.25)
