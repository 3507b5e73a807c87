"""Polygons against a naive oracle: every pixel's centre, one by one."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.polygons import as_points, fill, trace


def inside(polygon: list[tuple[float, float]], x: float, y: float) -> bool:
    """Even-odd rule: edges whose half-open span of rows holds y and that cross strictly left of x, or at it."""
    odd = False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y0 <= y < y1 and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            odd = not odd
    return odd


halves = st.integers(-4, 24).map(lambda value: value / 2)  # many corners exactly on rows and columns of centres
corners = st.lists(st.tuples(halves, halves) | st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=9)


@given(corners)
@settings(max_examples=150, deadline=None)
def test_filling_is_the_even_odd_rule_at_pixel_centres(polygon):
    """Self-intersecting ones and those that leave the image too."""
    expected = [[inside(polygon, column + 0.5, row + 0.5) for column in range(8)] for row in range(7)]
    np.testing.assert_array_equal(fill([polygon], 7, 8), expected)


@given(corners, st.integers(0, 8))
@settings(max_examples=50, deadline=None)
def test_neighbours_share_no_pixel_and_leave_none(polygon, cut):
    """A polygon filled whole is what its two parts, left and right of a line, cover together, once."""
    whole = fill([polygon], 7, 8)
    strips = [fill([[(x0, -9), (x1, -9), (x1, 99), (x0, 99)]], 7, 8) for x0, x1 in ((-9, cut + 0.5), (cut + 0.5, 99))]
    assert not (strips[0] & strips[1]).any()
    assert (strips[0] | strips[1]).all()
    np.testing.assert_array_equal((whole & strips[0]) ^ (whole & strips[1]), whole)


def test_an_outline_by_hand():
    """A ring of 3 x 3 with a hole: clockwise outline, a bridge at x = 1 from the hole's top up to the edge."""
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (polygon,) = trace(ring)
    assert fill([polygon], 3, 3).sum() == 8
    corners = {tuple(point) for point in polygon.tolist()}
    assert {(0, 0), (3, 0), (3, 3), (0, 3), (1, 1), (2, 1), (2, 2), (1, 2), (1, 0)} == corners


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    assert sorted(map(len, trace(np.eye(2, dtype=bool)))) == [4, 4]
    assert trace(np.zeros((3, 3), bool)) == []


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2], [3, 4]], "abc", None, [[1, 2], [3]], [[[1, 2]]], {"x": 1}])
def test_what_is_no_polygon(points):
    with pytest.raises(InputError, match="point"):
        fill([points], 4, 4)


def test_the_limit_of_coordinates():
    assert as_points([[1e6, -1e6]]).tolist() == [[1e6, -1e6]]
    for value in (1.1e6, float("inf"), float("nan")):
        with pytest.raises(InputError, match="coordinate"):
            as_points([[0, value]])
