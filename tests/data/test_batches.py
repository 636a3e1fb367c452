"""From a step's number to a batch: cut equally, drawn from the posterior, whoever loads it."""

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.config import TrainSettings
from radiffuse.data.batches import batch_loader
from radiffuse.data.latents import open_latents
from radiffuse.data.prefetch import prefetch
from radiffuse.errors import ConfigError, DataError
from radiffuse.models import read_part_config
from radiffuse.storage import Store
from radiffuse.train_plan import plan_batches, plan_training
from tests.training import Inputs, inputs, plan_run

__all__ = ["inputs"]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 100))
def test_processes_and_micro_steps_cover_a_step_once(processes: int, micro: int, accumulation: int, step: int) -> None:
    plan = plan_batches(processes * micro * accumulation, micro, processes)
    places = itertools.product(range(processes), range(plan.micro_steps))
    positions = [plan.positions(step, rank, micro_step) for rank, micro_step in places]
    covered = [position for start, stop in positions for position in range(start, stop)]
    assert covered == list(range(step * plan.total_batch_size, (step + 1) * plan.total_batch_size))


def test_a_share_smaller_than_the_largest_micro_batch_is_one_micro_step() -> None:
    plan = plan_batches(total_batch_size=8, train_batch_size=32, processes=2)
    assert (plan.micro_batch_size, plan.micro_steps, plan.share) == (4, 1, 4)


def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="10 does not divide over 4 processes; nearest total_batch_size that does: 8"):
        plan_run(inputs, total_batch_size=10, nproc_per_node=4)
    with pytest.raises(ConfigError, match=r"train_batch_size 4; sizes that do: \[1, 2, 3\]"):
        plan_run(inputs, total_batch_size=12, train_batch_size=4, nproc_per_node=2)


def test_data_of_the_wrong_kind_is_refused_with_what_makes_the_right_one(inputs: Inputs) -> None:
    small = TrainSettings(total_batch_size=4)
    with pytest.raises(ConfigError, match=r"trains on latents, not on the dataset .*; make them with `radiffuse enc"):
        plan_training("x", inputs.images, inputs.model, small, 1)
    with pytest.raises(ConfigError, match="vae trains on dataset, not on the latents"):
        plan_training("x", inputs.latents, inputs.model, small.model_copy(update={"method": "vae"}), 1)


def test_latents_of_another_vae_are_refused(inputs: Inputs) -> None:
    foreign = {"model": "s3://models/other/0", "vae": "0123456789abcdef"}
    latents = inputs.latents.model_copy(update={"inputs": foreign})
    with pytest.raises(ConfigError, match="were encoded by the VAE of s3://models/other/0, which is not that of"):
        plan_run(inputs, data=latents)
    own = {"model": "s3://models/other/0", "vae": inputs.model.fingerprint("vae/")}
    plan_run(inputs, data=inputs.latents.model_copy(update={"inputs": own}))


def test_the_address_depends_on_what_is_learnt_not_on_how(inputs: Inputs) -> None:
    def digest(**settings: object) -> str:
        return plan_run(inputs, name="x", **settings).digest

    watched = {"log_every_steps": 3, "checkpoint_every_steps": 9, "checkpoints_kept": 5, "metrics_port": 9000}
    assert digest() == digest(nproc_per_node=2, train_batch_size=1, dataloader_workers=2, **watched)
    assert len({digest(), digest(learning_rate=2e-3), digest(seed=1), digest(ema_decay=0.9), digest(method="vae")}) == 5


@pytest.mark.usefixtures("store_environment")
def test_latents_are_posterior_draws_times_the_scaling_factor(store: Store, inputs: Inputs) -> None:
    plan = plan_run(inputs, total_batch_size=64, train_batch_size=64, prompt_dropout_prob=0.5)
    data, model = store.fetch_cached(plan.data), store.fetch_cached(plan.model)
    load = batch_loader(plan, plan_batches(64, 64, 1), 0, data, model)
    scaling_factor = read_part_config(model, "vae")["scaling_factor"]
    batch = torch.cat([load((step, 0)).latents for step in range(40)])
    stored = open_latents(data).batch(np.arange(12))
    mean, std = stored.mean.astype(float), stored.std.astype(float)
    expected = scaling_factor * np.sqrt((np.square(mean) + np.square(std)).mean())
    assert batch.square().mean().sqrt().item() == pytest.approx(expected, rel=0.03)
    dropped = [prompt == "" for step in range(10) for prompt in load((step, 0)).prompts]
    assert 0.4 < np.mean(dropped) < 0.6


@pytest.mark.usefixtures("store_environment")
def test_two_visits_to_a_sample_within_one_step_meet_different_noise(store: Store, inputs: Inputs) -> None:
    plan = plan_run(inputs, total_batch_size=24, train_batch_size=24)  # twelve latents, so each comes twice
    load = batch_loader(plan, plan_batches(24, 24, 1), 0, store.fetch_cached(plan.data), store.fetch_cached(plan.model))
    assert len({tuple(noise.flatten().tolist()) for noise in load((0, 0)).noise}) == 24


@pytest.mark.usefixtures("store_environment")
def test_images_come_from_the_train_split_with_noise_in_the_latents_shape(store: Store, inputs: Inputs) -> None:
    plan = plan_run(inputs, method="vae")
    data, model = store.fetch_cached(plan.data), store.fetch_cached(plan.model)
    batch = batch_loader(plan, plan_batches(4, 4, 1), 0, data, model)((0, 0))
    assert batch.pixel_values.shape == (4, 3, 32, 32)
    assert batch.posterior_noise.shape == (4, 4, 4, 4)
    assert batch.pixel_values.min() >= -1
    assert batch.pixel_values.max() <= 1


@pytest.mark.usefixtures("store_environment")
def test_a_model_without_a_readable_configuration_is_named(store: Store, inputs: Inputs, tmp_path) -> None:
    plan = plan_run(inputs)
    with pytest.raises(DataError, match=r"vae of the model at .* has no readable config\.json"):
        batch_loader(plan, plan_batches(4, 4, 1), 0, store.fetch_cached(plan.data), tmp_path)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loading_ahead_keeps_the_order(workers: int) -> None:
    assert list(prefetch(lambda item: item * item, range(50), workers)) == [item * item for item in range(50)]


def test_loading_ahead_is_bounded_and_endless_streams_are_allowed() -> None:
    started: list[int] = []
    stream = prefetch(lambda item: started.append(item) or item, itertools.count(), workers=1)
    assert next(stream) == 0
    stream.close()
    assert len(started) <= 4


def test_what_a_loader_thread_raises_arrives_where_the_batch_was_due() -> None:
    def load(item: int) -> int:
        if item == 2:
            raise DataError("image 2 is truncated")
        return item

    def consume(stream: Iterator[int]) -> list[int]:
        return [next(stream), next(stream)]

    stream = prefetch(load, range(5), workers=2)
    assert consume(stream) == [0, 1]
    with pytest.raises(DataError, match="image 2 is truncated"):
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader") and thread.daemon]
