"""The order of samples: every epoch a permutation, any position without the ones before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.data.order import sample_indices

sizes = st.integers(1, 500)
seeds = st.integers(0, 2**63 - 1)


@given(seeds, sizes, st.integers(0, 10**9))
def test_every_epoch_is_a_permutation(seed: int, num_samples: int, epoch: int) -> None:
    indices, epochs = sample_indices(seed, epoch * num_samples, (epoch + 1) * num_samples, num_samples)
    assert sorted(indices.tolist()) == list(range(num_samples))
    assert set(epochs.tolist()) == {epoch}


@given(seeds, sizes, st.integers(0, 10**12), st.integers(1, 100), st.data())
def test_any_position_is_the_same_read_alone_or_in_a_range(
    seed: int, num_samples: int, start: int, count: int, data: st.DataObject
) -> None:
    offset = data.draw(st.integers(0, count - 1))
    together = sample_indices(seed, start, start + count, num_samples)
    alone = sample_indices(seed, start + offset, start + offset + 1, num_samples)
    assert [values[offset] for values in together] == [values[0] for values in alone]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(sample_indices(seed, 100 * epoch, 100 * (epoch + 1), 100)[0].tolist())

    assert len({order(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


def test_every_sample_is_equally_likely_at_every_place_of_a_small_dataset() -> None:
    for num_samples in (3, 5, 10):
        epochs = 4000
        indices, _ = sample_indices(7, 0, epochs * num_samples, num_samples)
        places = indices.reshape(epochs, num_samples)
        counts = np.stack([np.bincount(column, minlength=num_samples) for column in places.T])
        chi_square = np.square(counts - epochs / num_samples).sum() / (epochs / num_samples)
        freedom = (num_samples - 1) ** 2
        assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_neighbours_in_the_stream_are_not_neighbours_in_the_dataset() -> None:
    indices, _ = sample_indices(1, 0, 10_000, 10_000)
    assert abs(np.corrcoef(indices[:-1], indices[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(indices, np.arange(10_000))[0, 1]) < 0.03
