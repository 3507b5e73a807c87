import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pages.refine import refine

MERGE = np.array([0, 1, 1, 2, 2, 2], np.uint8)
SMALL = (6, 7)


@given(arrays(np.uint8, SMALL, elements=st.integers(0, 2)), arrays(np.uint8, SMALL, elements=st.integers(0, 5)))
def test_it_refines_and_takes_the_nearest_part_of_the_class(coarse, near):
    fine = refine(coarse, near, MERGE)
    np.testing.assert_array_equal(MERGE[fine], coarse)
    for (row, column), label in np.ndenumerate(coarse):
        rows, columns = np.nonzero(MERGE[near] == label)
        if not len(rows):
            assert fine[row, column] == {0: 0, 1: 1, 2: 3}[label]
            continue
        distances = (rows - row) ** 2 + (columns - column) ** 2
        assert fine[row, column] in near[rows, columns][distances == distances.min()]


def test_what_agrees_stays():
    near = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    np.testing.assert_array_equal(refine(MERGE[near], near, MERGE), near)
