"""Splits by sample: shares met, groups whole, the same whatever the order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.data.splits import assign_splits, mix
from ganfoundry.errors import InputError


@given(st.lists(st.integers(0, 2**63 - 1), min_size=10, max_size=60), st.integers(0, 2**40), st.randoms())
def test_groups_stay_together_in_any_order(groups, seed, random):
    groups = np.array(groups, np.uint64)
    if len(np.unique(groups)) < 10:
        return
    split = assign_splits(groups, 0.2, 0.1, seed)
    for group in np.unique(groups):
        assert len(set(split[groups == group])) == 1
    order = np.array(random.sample(range(len(groups)), len(groups)))
    assert np.array_equal(assign_splits(groups[order], 0.2, 0.1, seed), split[order])


@given(st.integers(20, 300), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 99))
def test_shares_are_met_to_one_group(count, val, test, seed):
    split = assign_splits(np.arange(count), val, test, seed)
    assert np.bincount(split, minlength=3).tolist()[1:] == [round(val * count), round(test * count)]


def test_test_rows_are_taken_from_the_training_rows_only():
    groups = np.arange(200)
    with_test, without = assign_splits(groups, 0.1, 0.2, 3), assign_splits(groups, 0.1, 0.0, 3)
    assert np.array_equal(with_test == 1, without == 1)
    assert (assign_splits(groups, 0.1, 0.0, 4) != without).any()


def test_the_hash_is_one_to_one_and_always_the_same():
    numbers = np.arange(10_000, dtype=np.uint64)
    assert len(np.unique(mix(numbers, 5))) == len(numbers)
    # The finaliser of SplitMix64 on 1 and 2, by the published constants in plain integers.
    mask = (1 << 64) - 1

    def finalise(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    for number in (1, 2, 2**63):
        expected = finalise((finalise(number) + 7 * 0x9E3779B97F4A7C15) & mask)
        assert int(mix(np.array([number], np.uint64), 7)[0]) == expected


@pytest.mark.parametrize(("val", "test"), [(0.6, 0.4), (-0.1, 0.0), (0.04, 0.0), (0.0, 0.04), (0.5, 0.49)])
def test_what_leaves_nothing_is_refused(val, test):
    with pytest.raises(InputError):
        assign_splits(np.arange(10), val, test)
