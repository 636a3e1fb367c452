"""Draws and splits are functions of (seed, key), whatever the order of the table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.config import SplitFractions
from radiffuse.data.draw import PatientSplits, apportion, draw_order, hash_keys
from radiffuse.errors import DataError

keys = st.lists(st.text("ab/01", min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
seeds = st.integers(0, 2**31)


@st.composite
def fractions(draw):
    train = draw(st.integers(1, 98))
    validation = draw(st.integers(0, 99 - train))
    return SplitFractions(train=train / 100, validation=validation / 100, test=(100 - train - validation) / 100)


@given(seeds, keys, st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_the_order_of_the_table(seed, paths, random):
    shuffled = list(paths)
    random.shuffle(shuffled)
    assert [paths[place] for place in draw_order(seed, paths)] == [
        shuffled[place] for place in draw_order(seed, shuffled)
    ]


@given(seeds, keys)
def test_an_image_that_goes_leaves_the_order_of_the_others(seed, paths):
    order = [paths[place] for place in draw_order(seed, paths)]
    kept = paths[1:]
    assert [kept[place] for place in draw_order(seed, kept)] == [path for path in order if path != paths[0]]


def test_another_seed_draws_others():
    paths = [f"image {number}" for number in range(100)]
    assert draw_order(0, paths)[:10].tolist() != draw_order(1, paths)[:10].tolist()


def test_hashes_are_uniform_and_differ_between_purposes():
    names = [str(number) for number in range(4000)]
    shares = hash_keys(7, "draw", names) / 2.0**64
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(shares, hash_keys(7, "split", names).astype(float))[0, 1]) < 0.05


@given(seeds, keys, fractions())
def test_every_patient_is_in_one_split_and_the_shares_are_as_exact_as_whole_patients_allow(seed, subjects, shares):
    wanted = [shares.train, shares.validation, shares.test]
    if len(subjects) < sum(share > 0 for share in wanted):
        with pytest.raises(DataError, match="cannot be shared out"):
            PatientSplits.cut(seed, subjects, shares)
        return
    splits = PatientSplits.cut(seed, [*subjects, *subjects], shares)  # a patient with two images counts once
    found = [splits.split(subject) for subject in subjects]
    counts = [found.count(name) for name in ("train", "validation", "test")]
    assert counts == list(apportion(len(subjects), tuple(wanted)))
    for count, share in zip(counts, wanted, strict=True):
        # Within one patient, or two where a split that had none took one from another.
        assert abs(count - share * len(subjects)) <= 2
        assert (count > 0) == (share > 0)


@given(seeds, keys)
def test_a_patient_keeps_the_split_whoever_else_is_asked_about(seed, subjects):
    splits = PatientSplits.cut(seed, [*subjects, "another", "one more"], SplitFractions())
    assert [splits.split(subject) for subject in reversed(subjects)] == [splits.split(subject) for subject in subjects][
        ::-1
    ]


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (30, (0.8, 0.1, 0.1), (24, 3, 3)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (5, (0.8, 0.1, 0.1), (3, 1, 1)),
        (7, (1.0, 0.0, 0.0), (7, 0, 0)),
        (1000, (0.6, 0.25, 0.15), (600, 250, 150)),
    ],
)
def test_whole_patients_are_shared_out_by_largest_remainder(total, shares, expected):
    assert apportion(total, shares) == expected


def test_too_few_patients_for_the_splits_are_refused():
    with pytest.raises(DataError, match=r"2 patients cannot be shared out over 3 splits; take more images"):
        apportion(2, (0.8, 0.1, 0.1))
