"""The learning rate's closed form, the averaged weights, and AdamW."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.config import TrainSettings
from radiffuse.optimization import Ema, learning_rate, make_optimizer, set_learning_rate

schedules = st.sampled_from(["constant", "cosine", "linear"])


@given(schedules, st.integers(1, 200), st.integers(0, 100))
def test_the_rate_rises_to_its_peak_and_never_above(schedule: str, steps: int, warmup: int) -> None:
    settings = TrainSettings(learning_rate=0.1, lr_schedule=schedule, lr_warmup_steps=warmup, max_train_steps=steps)
    rates = [learning_rate(step, settings) for step in range(steps)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert steps <= warmup or math.isclose(max(rates), 0.1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5 * (1 + math.cos(math.pi / 2)))],
)
def test_half_way_after_the_warm_up_each_schedule_is_where_its_formula_says(schedule: str, expected: float) -> None:
    settings = TrainSettings(learning_rate=1.0, lr_schedule=schedule, lr_warmup_steps=10, max_train_steps=110)
    assert learning_rate(60, settings) == pytest.approx(expected)


def test_the_first_step_of_a_warm_up_is_not_wasted_at_rate_0() -> None:
    settings = TrainSettings(learning_rate=1.0, lr_warmup_steps=4, max_train_steps=10)
    assert [learning_rate(step, settings) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_average_follows_its_recursion() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    ema, expected = Ema([weight], decay=0.5), 1.0
    for step in range(20):
        weight.data.fill_(float(step))
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert ema.averages[0].item() == pytest.approx(expected, rel=1e-6)


def test_averages_stand_in_for_weights_only_while_the_context_lasts() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    ema = Ema([weight], decay=0.9)
    ema.averages[0].fill_(7.0)
    with ema.in_place():
        assert weight.item() == 7.0
    assert (weight.item(), ema.averages[0].item()) == (3.0, 7.0)


def test_the_rate_that_was_set_is_the_one_the_optimizer_uses() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer([weight], TrainSettings(weight_decay=0, lr_warmup_steps=0))
    set_learning_rate(optimizer, 0.25)
    weight.grad = torch.tensor([5.0])
    optimizer.step()
    assert weight.item() == pytest.approx(0.75)  # Adam's first step is the rate, whatever the gradient


def test_weight_decay_shrinks_a_weight_without_a_gradient_by_its_share_of_the_rate() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer([weight], TrainSettings(learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))
