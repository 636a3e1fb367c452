"""The maths: against diffusers' own scheduler, against closed forms, and under random draws."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from radiffuse.diffusion import (
    add_noise,
    draw,
    drop_prompts,
    kl_from_standard_normal,
    mean_square_error,
    min_snr_weight,
    reconstruction_losses,
    target_of,
)
from radiffuse.errors import ConfigError

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
ALPHAS_CUMPROD = SCHEDULER.alphas_cumprod
timesteps_lists = st.lists(st.integers(0, 999), min_size=1, max_size=5)
seeds = st.integers(0, 2**63 - 1)


def _latents_and_noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, count, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


@given(timesteps_lists, st.integers(0, 100))
def test_noise_is_added_as_diffusers_adds_it(timesteps: list[int], seed: int) -> None:
    latents, noise = _latents_and_noise(len(timesteps), seed)
    steps = torch.tensor(timesteps)
    expected = SCHEDULER.add_noise(latents, noise, steps)
    torch.testing.assert_close(add_noise(latents, noise, steps, ALPHAS_CUMPROD), expected)


@given(timesteps_lists, st.integers(0, 100))
def test_velocity_is_diffusers_velocity(timesteps: list[int], seed: int) -> None:
    latents, noise = _latents_and_noise(len(timesteps), seed)
    steps = torch.tensor(timesteps)
    expected = SCHEDULER.get_velocity(latents, noise, steps)
    torch.testing.assert_close(target_of("v_prediction", latents, noise, steps, ALPHAS_CUMPROD), expected)


@given(timesteps_lists)
def test_a_noisy_latent_and_its_velocity_give_the_latent_back(timesteps: list[int]) -> None:
    latents, noise = _latents_and_noise(len(timesteps))
    steps = torch.tensor(timesteps)
    noisy = add_noise(latents, noise, steps, ALPHAS_CUMPROD)
    velocity = target_of("v_prediction", latents, noise, steps, ALPHAS_CUMPROD)
    alpha_bar = ALPHAS_CUMPROD[steps].view(-1, 1, 1, 1)
    torch.testing.assert_close(alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * velocity, latents)


def test_another_prediction_type_is_refused_by_name() -> None:
    latents, noise = _latents_and_noise(1)
    with pytest.raises(ConfigError, match="prediction_type 'sample'; trained are epsilon, v_prediction"):
        target_of("sample", latents, noise, torch.tensor([0]), ALPHAS_CUMPROD)


@given(timesteps_lists, st.floats(0.1, 20))
def test_min_snr_weights_have_their_closed_form(timesteps: list[int], snr_gamma: float) -> None:
    steps = torch.tensor(timesteps)
    alpha_bar = ALPHAS_CUMPROD[steps].double()
    snr = alpha_bar / (1 - alpha_bar)
    clipped = snr.clamp(max=snr_gamma)
    for prediction_type, expected in (("epsilon", clipped / snr), ("v_prediction", clipped / (snr + 1))):
        weight = min_snr_weight(prediction_type, steps, ALPHAS_CUMPROD, snr_gamma)
        torch.testing.assert_close(weight.double(), expected, rtol=1e-4, atol=1e-6)
        assert bool((weight >= 0).all() and (weight <= 1).all())


def test_min_snr_weight_is_finite_where_nothing_of_the_signal_is_left() -> None:
    alphas_cumprod = torch.tensor([1.0, 0.5, 0.0])
    steps = torch.arange(3)
    assert min_snr_weight("epsilon", steps, alphas_cumprod, 0.5).tolist() == [0, 0.5, 1]
    assert min_snr_weight("v_prediction", steps[1:], alphas_cumprod, 0.5).tolist() == [0.25, 0]


@settings(max_examples=30)
@given(seeds, st.integers(0, 10**6), st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.data())
def test_what_a_sample_meets_does_not_depend_on_its_neighbours(
    seed: int, step: int, sample_ids: list[int], data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(0, len(sample_ids) - 1))
    ids, epochs = np.array(sample_ids), np.arange(len(sample_ids))
    together = draw(seed, step, ids, epochs, (4, 2, 2), 1000)
    alone = draw(seed, step, ids[chosen : chosen + 1], epochs[chosen : chosen + 1], (4, 2, 2), 1000)
    for name in ("timesteps", "dropout", "posterior_noise", "noise"):
        np.testing.assert_array_equal(getattr(together, name)[chosen], getattr(alone, name)[0])


def test_seed_step_sample_and_epoch_each_change_every_draw() -> None:
    reference = draw(1, 2, np.array([3]), np.array([4]), (4, 2, 2), 10**9)
    for seed, step, sample_id, epoch in ((9, 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9)):
        other = draw(seed, step, np.array([sample_id]), np.array([epoch]), (4, 2, 2), 10**9)
        assert other.timesteps != reference.timesteps
        assert other.dropout != reference.dropout
        assert not np.isclose(other.noise, reference.noise).any()
        assert not np.isclose(other.posterior_noise, other.noise).any()


def test_draws_have_the_distributions_they_claim() -> None:
    count = 4000
    draws = draw(0, 0, np.arange(count), np.zeros(count, np.int64), (4,), 10)
    assert np.bincount(draws.timesteps, minlength=10).min() > 330
    assert abs(draws.noise.mean()) < 0.03
    assert abs(draws.noise.std() - 1) < 0.03
    assert abs(np.corrcoef(draws.noise.ravel(), draws.posterior_noise.ravel())[0, 1]) < 0.03
    assert abs(draws.dropout.mean() - 0.5) < 0.02


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=8))
def test_no_prompt_is_dropped_at_probability_0_and_every_one_at_1(dropout: list[float]) -> None:
    prompts = [f"prompt {number}" for number in range(len(dropout))]
    assert drop_prompts(prompts, np.array(dropout), 0.0) == prompts
    assert drop_prompts(prompts, np.array(dropout), 1.0) == [""] * len(prompts)


def test_prompts_are_dropped_where_the_draw_is_below_the_probability() -> None:
    assert drop_prompts(["a", "b", "c"], np.array([0.05, 0.1, 0.9]), 0.1) == ["", "b", "c"]


def test_the_loss_is_fp32_and_per_sample_even_for_bf16_predictions() -> None:
    prediction, target = torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([[1.0, 1, 1], [2, 0, 0]])
    losses = mean_square_error(prediction, target)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, torch.tensor([1, 4 / 3]))


def test_kl_is_zero_for_the_standard_normal_and_half_a_square_for_a_shift() -> None:
    mean = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    torch.testing.assert_close(kl_from_standard_normal(mean, torch.zeros(2, 2)), torch.tensor([0.0, 2.0]))


def test_a_shifted_reconstruction_costs_nothing_in_the_difference_term() -> None:
    pixel_values = torch.randn(2, 3, 5, 5)
    shifted = pixel_values + torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)
    torch.testing.assert_close(reconstruction_losses(shifted, pixel_values), torch.tensor([0.0, 0.5 + 0.25]))


def test_an_edge_lost_costs_twice_its_height_more() -> None:
    edge = torch.zeros(1, 3, 4, 4)
    edge[..., 2:] = 1  # mean difference along x: one step of 1 in three
    flat = torch.full_like(edge, 0.5)
    torch.testing.assert_close(reconstruction_losses(flat, edge), torch.tensor([0.5 + 0.25 + 1 / 3]))
