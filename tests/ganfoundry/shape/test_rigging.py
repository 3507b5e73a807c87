"""Wheels found where they are painted, by discs of known places; and reasons where they are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.shape.rigging import KEYPOINTS, find_wheels, weighted_quantile

LENGTH, HALF, LOW = 4.4, 0.9, -0.7
BODY = np.array([[x, y, z] for x in (-HALF, HALF) for y in (LOW, 0.8) for z in (-LENGTH / 2, LENGTH / 2)])


def discs(places, *, radius=0.35, sides=(1, -1), rng=None):
    """Points spread evenly over discs on both sides of a car, and their areas; places are (y, z)."""
    grid = np.linspace(-radius, radius, 25)
    y, z = (axis.ravel() for axis in np.meshgrid(grid, grid))
    keep = np.hypot(y, z) < radius
    rows = [
        np.stack([np.full(keep.sum(), side * HALF), y[keep] + height, z[keep] + axle], 1)
        for side in sides
        for height, axle in places
    ]
    points = np.concatenate(rows)
    return points, np.full(len(points), (grid[1] - grid[0]) ** 2)


@settings(max_examples=40, deadline=None)
@given(front=st.floats(1.0, 1.6), rear=st.floats(-1.6, -1.0), radius=st.floats(0.34, 0.42), seed=st.integers(0, 99))
def test_hubs_radius_and_ground_are_those_of_the_discs(front: float, rear: float, radius: float, seed: int) -> None:
    """The painted disc is 1.14 times the wheel; a tenth of the paint lies anywhere."""
    points, areas = discs([(LOW + radius, front), (LOW + radius, rear)], radius=radius)
    rng = np.random.default_rng(seed)
    stray = rng.choice(len(points), len(points) // 10, replace=False)
    points[stray, 2] = rng.uniform(-1.8, 1.8, len(stray))
    wheels, reason = find_wheels(points, areas, BODY)
    assert wheels is not None, reason
    assert abs(wheels.front - front) < 0.06
    assert abs(wheels.rear - rear) < 0.06
    assert abs(wheels.radius - np.clip(radius / 1.14, 0.062 * LENGTH, 0.09 * LENGTH)) < 0.05
    assert abs(wheels.height - wheels.radius - LOW) < 0.06
    assert wheels.outer == pytest.approx(HALF)
    hubs = wheels.hubs
    assert list(hubs) == ["front_left", "front_right", "rear_left", "rear_right"]
    assert hubs["front_left"] == pytest.approx((HALF - wheels.width / 2, wheels.height, wheels.front))
    assert hubs["rear_right"] == pytest.approx((-HALF + wheels.width / 2, wheels.height, wheels.rear))


def test_what_is_no_car_is_not_rigged_and_the_reason_is_told() -> None:
    both = [(-0.35, 1.3), (-0.35, -1.3)]
    assert find_wheels(*discs(both[:1]), BODY)[1].startswith("the axles are 0.0")
    assert find_wheels(*discs(both, sides=(1,)), BODY)[1] == "fewer than four wheels are painted"
    assert find_wheels(*discs([(-0.35, 0.3), (-0.35, -0.3)]), BODY)[1].startswith("the axles are 0.1")
    assert find_wheels(*discs([(0.6, 1.3), (0.6, -1.3)]), BODY)[1] == "hardly any wheel is painted on the sides"
    points, areas = discs(both)
    assert find_wheels(points * [0.3, 1, 1], areas, BODY)[1] == "hardly any wheel is painted on the sides"
    assert find_wheels(points[:0], areas[:0], BODY)[0] is None
    lone = (points[:, 2] > 0) | (points[:, 0] > 0)  # three wheels
    assert find_wheels(points[lone], areas[lone], BODY)[1] == "fewer than four wheels are painted"


def test_keypoints_count_where_they_agree() -> None:
    points, areas = discs([(-0.35, 1.3), (-0.35, -1.3)])
    near = {name: np.array([0.8, -0.3, 1.4 if name.startswith("front") else -1.3]) for name in KEYPOINTS}
    far = {name: np.zeros(3) for name in KEYPOINTS}
    plain, _ = find_wheels(points, areas, BODY)
    moved, _ = find_wheels(points, areas, BODY, near)
    assert plain is not None
    assert moved is not None
    assert moved.front == pytest.approx((plain.front + 1.4) / 2)
    assert find_wheels(points, areas, BODY, far)[0] == plain


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 4)), min_size=1, max_size=30), st.floats(0, 1))
def test_a_weighted_quantile_is_that_of_repeated_values(rows: list[tuple[float, int]], share: float) -> None:
    values, counts = np.array([v for v, _ in rows]), np.array([n for _, n in rows])
    repeated = np.sort(np.repeat(values, counts))
    expected = repeated[min(max(int(np.ceil(share * len(repeated) - 1e-9)) - 1, 0), len(repeated) - 1)]
    assert weighted_quantile(values, counts.astype(float), share) == expected
