"""Figures of merit against hand-computed cases and what must always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.evaluate.image_metrics import (
    confusion,
    frechet_distance,
    mean_ms_ssim,
    ms_ssim_window,
    psnr,
    rmse,
    ssim,
    to_grey,
    wilson_interval,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_wilson_interval_of_nine_in_ten_is_the_published_one() -> None:
    assert wilson_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)


@given(st.integers(1, 2000), st.data())
def test_wilson_interval_holds_the_share_and_stays_a_share(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_nothing_tried_leaves_everything_possible() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_frechet_distance_of_shifted_gaussians_is_the_square_of_the_shift() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    assert frechet_distance(features, features + np.array([3.0, 0, 4.0])) == pytest.approx(25, rel=1e-9)


def test_frechet_distance_of_scaled_gaussians_is_the_square_of_the_difference_of_their_spreads() -> None:
    features = np.random.default_rng(0).normal(size=(100, 1))
    features = (features - features.mean()) / features.std(ddof=1)
    assert frechet_distance(features, 3 * features) == pytest.approx(4, rel=1e-9)


def test_frechet_distance_agrees_with_the_matrix_root_of_scipy() -> None:
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(1)
    first, second = generator.normal(size=(80, 5)), generator.normal(size=(90, 5)) @ generator.normal(size=(5, 5))
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_fewer_images_than_features_is_zero_to_themselves_and_symmetric() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 5, 64))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))


def test_rmse_and_psnr_of_a_constant_error() -> None:
    black = np.zeros((2, 8, 8), np.uint8)
    errors = rmse(black, black + 51)
    np.testing.assert_allclose(errors, 0.2)
    np.testing.assert_allclose(psnr(errors), 13.979, atol=1e-3)


def test_equal_images_have_a_finite_psnr_and_an_ssim_of_one() -> None:
    images = noise(2, 16, 16)
    assert np.isfinite(psnr(rmse(images, images))).all()
    np.testing.assert_allclose(ssim(images, images), 1)


def test_ssim_falls_with_noise() -> None:
    flat = np.full((1, 32, 32), 128, np.uint8)
    assert ssim(flat, noise(1, 32, 32))[0] < 0.2


@pytest.mark.parametrize(("side", "window"), [(512, 11), (161, 11), (160, 9), (96, 5), (64, 3), (32, None)])
def test_ms_ssim_takes_the_largest_window_that_fits(side: int, window: int | None) -> None:
    assert ms_ssim_window(side) == window


def test_the_same_image_again_and_again_has_an_ms_ssim_of_one_and_noise_nearly_none() -> None:
    image = noise(1, 64, 64)
    assert mean_ms_ssim(np.repeat(image, 3, axis=0), 20) == pytest.approx(1, abs=1e-5)
    assert mean_ms_ssim(noise(4, 64, 64), 20) < 0.2


def test_one_image_or_images_too_small_have_no_ms_ssim() -> None:
    assert mean_ms_ssim(noise(1, 64, 64), 20) is None
    assert mean_ms_ssim(noise(3, 32, 32), 20) is None


def test_confusion_counts_every_image_once() -> None:
    truth = np.array([True, True, True, False, False])
    said = np.array([True, True, False, False, True])
    counts = {"true_positive": 2, "false_negative": 1, "false_positive": 1, "true_negative": 1}
    assert confusion(truth, said) == counts


def test_grey_of_grey_is_itself() -> None:
    grey = noise(8, 8)
    np.testing.assert_array_equal(to_grey([np.stack([grey] * 3, axis=-1)])[0], grey)
