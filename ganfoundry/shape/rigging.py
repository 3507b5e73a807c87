"""Where the wheels of a car are, read off what is painted on it: hubs, radius and width of four wheels that can turn.

A network paints wheels on the sides of a closed surface. `find_wheels` looks for two heaps of them along the car, one
an axle, and takes the four wheels to be equal, symmetric about the plane x = 0, and to stand on the ground. Keypoints
named after the wheels count where they agree with the paint. What is not plausible is not rigged, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]

KEYPOINTS = ("front_wheel_left", "front_wheel_right", "rear_wheel_left", "rear_wheel_right")
_SIDE = 0.6  # of the half width: what lies nearer to the middle is no wheel seen from the side
_LEAST_SHARE = 0.15  # of the wheels' area that each axle has, and each side of it
_LEAST_AREA = 0.002  # of the square of the length
_BASE = (0.38, 0.78)  # wheelbase over length; road cars have .52 to .68
_RADIUS = (0.062, 0.09)  # wheel radius over length; paint that is smeared further does not make larger wheels
_ARCH = 1.14  # radius of the painted disc over the wheel's: the class has the arch around the wheel in it
_WIDTH = 0.66  # of a wheel over its radius


@dataclass(frozen=True)
class Wheels:
    """Four equal wheels, symmetric about x = 0; all in the unit of the mesh.

    Attributes
    ----------
    front, rear : float
        z of the axles.
    height : float
        y of the hubs.
    outer : float
        |x| of the wheels' outer faces.
    radius, width : float
    """

    front: float
    rear: float
    height: float
    outer: float
    radius: float
    width: float

    @property
    def hubs(self) -> dict[str, tuple[float, float, float]]:
        """Name -> centre of the wheel, the point that it turns and steers about; left is +X."""
        x = self.outer - self.width / 2
        return {
            f"{axle}_{side}": (sign * x, self.height, z)
            for axle, z in (("front", self.front), ("rear", self.rear))
            for side, sign in (("left", 1.0), ("right", -1.0))
        }


def find_wheels(
    points: Points, areas: Points, vertices: Points, keypoints: Mapping[str, Points] | None = None
) -> tuple[Wheels | None, str]:
    """Find the wheels of a car.

    Parameters
    ----------
    points : ndarray, (M, 3)
        Surface points on which a wheel is painted; +Z is the front, +Y up.
    areas : ndarray, (M,)
        The surface that each stands for.
    vertices : ndarray, (V, 3)
        The whole mesh.
    keypoints : mapping, optional
        Name -> place (3,); those of `KEYPOINTS` are the wheels' hubs.

    Returns
    -------
    wheels : Wheels or None
    reason : str
        Why there are none; empty if there are.
    """
    low, high = vertices.min(0), vertices.max(0)
    length, half = float(high[2] - low[2]), float(np.abs(vertices[:, 0]).max())
    lateral = (np.abs(points[:, 0]) > _SIDE * half) & (points[:, 1] < (low[1] + high[1]) / 2)
    points, areas = points[lateral], areas[lateral]
    if float(areas.sum()) < _LEAST_AREA * length**2:
        return None, "hardly any wheel is painted on the sides"
    front = _front_rows(points[:, 2], areas)
    axles = []
    for rows in (front, ~front):
        sides = [float(areas[rows & (sign * points[:, 0] > 0)].sum()) for sign in (1, -1)]
        if min(sides) < _LEAST_SHARE * float(areas.sum()) / 2:
            return None, "fewer than four wheels are painted"
        axles.append(_Axle.of(points[rows], areas[rows]))
    places = [_agreed(axle, keypoints or {}, name) for axle, name in zip(axles, ("front", "rear"), strict=True)]
    base = (places[0] - places[1]) / length
    if not _BASE[0] <= base <= _BASE[1]:
        return None, f"the axles are {base:.2f} of the length apart"
    radius = length * float(np.clip(np.mean([axle.radius for axle in axles]) / _ARCH / length, *_RADIUS))
    ground = float(np.mean([axle.bottom for axle in axles]))
    outer = float(np.mean([axle.outer for axle in axles]))
    return Wheels(places[0], places[1], ground + radius, outer, radius, _WIDTH * radius), ""


@dataclass(frozen=True)
class _Axle:
    """The wheels painted at one end of a car, both sides together."""

    z: float
    bottom: float
    outer: float
    radius: float

    @classmethod
    def of(cls, points: Points, areas: Points) -> _Axle:
        z = weighted_quantile(points[:, 2], areas, 0.5)
        near = np.abs(points[:, 2] - z) < 2.5 * weighted_quantile(np.abs(points[:, 2] - z), areas, 0.5)
        points, areas = points[near], areas[near]  # without the paint that lies far from both
        # The middle 80 % of a disc's area, seen along its axis, is 1.37 radii long.
        ends = [weighted_quantile(points[:, 2], areas, share) for share in (0.1, 0.9)]
        return cls(
            (ends[0] + ends[1]) / 2,
            weighted_quantile(points[:, 1], areas, 0.02),
            weighted_quantile(np.abs(points[:, 0]), areas, 0.97),
            (ends[1] - ends[0]) / 1.37,
        )


def _front_rows(z: Points, areas: Points) -> npt.NDArray[np.bool_]:
    """Which points belong to the heap in front: two means along z."""
    centres = np.array([z.min(), z.max()], float)
    for _ in range(20):
        front = np.abs(z - centres[1]) < np.abs(z - centres[0])
        if front.all() or not front.any():
            break
        moved = np.array([np.average(z[rows], weights=areas[rows]) for rows in (~front, front)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.asarray(front, bool)


def _agreed(axle: _Axle, keypoints: Mapping[str, Points], name: str) -> float:
    """Where an axle is along z: the paint's, or its mean with the keypoints' where these lie within a radius of it."""
    places = [float(keypoints[label][2]) for label in KEYPOINTS if label.startswith(name) and label in keypoints]
    if len(places) == 2 and all(abs(place - axle.z) < axle.radius for place in places):
        return (axle.z + float(np.mean(places))) / 2
    return axle.z


def weighted_quantile(values: Points, weights: Points, share: float) -> float:
    """The value below which a share of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(total, share * total[-1]), len(values) - 1)])
