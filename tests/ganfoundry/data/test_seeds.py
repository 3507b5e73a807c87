import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.data import seeds

GOLDEN = (1317536309490288386, 5938305061938674112, [199861006, 302759271, 2198413017])


def test_golden_values_hold_the_format():
    assert seeds.sample_integer(0, seeds.CONTENT, 0) == GOLDEN[0]
    assert seeds.sample_integer(7, seeds.WORLD, 123456) == GOLDEN[1]
    assert seeds.sample_rng(7, seeds.NOISE, 5).integers(0, 1 << 32, 3).tolist() == GOLDEN[2]


def test_definition_is_numpys():
    expected = np.random.SeedSequence(11, spawn_key=(seeds.VIEW, 4)).generate_state(4)
    assert np.array_equal(seeds.sample_seed(11, seeds.VIEW, 4).generate_state(4), expected)


@given(st.integers(0, 2**40), st.integers(0, 6), st.integers(0, 2**40))
def test_neighbours_differ_and_repeat(root, stream, index):
    first = seeds.sample_integer(root, stream, index)
    assert first == seeds.sample_integer(root, stream, index)
    assert 0 <= first < 2**63
    assert first != seeds.sample_integer(root, stream, index + 1)
    assert first != seeds.sample_integer(root, stream + 1, index)
    assert first != seeds.sample_integer(root + 1, stream, index)


def test_ten_thousand_seeds_are_distinct():
    assert len({seeds.sample_integer(0, seeds.CONTENT, i) for i in range(10_000)}) == 10_000


@pytest.mark.parametrize("arguments", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_negative_is_refused(arguments):
    with pytest.raises(ValueError, match="non-negative"):
        seeds.sample_seed(*arguments)


def test_same_in_another_process():
    code = "from ganfoundry.data import seeds; print(seeds.sample_rng(3, seeds.CONTENT, 9).standard_normal())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(printed) == seeds.sample_rng(3, seeds.CONTENT, 9).standard_normal()
