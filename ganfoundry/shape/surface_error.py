"""How far one surface is from another: Chamfer distance, F-score, normal consistency, and the similarity in between.

Surfaces are compared by points spread evenly over them. Models of real things have surfaces inside (seats, the back of
a panel) that no picture shows and no deformed sphere has, so `outer_surface` takes only points that can be seen from
somewhere around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.render.zbuffer import rasterise

Points = npt.NDArray[np.floating]

_LOOKS: list[tuple[float, float]] = [
    (azimuth, elevation) for elevation in (-45.0, 0.0, 45.0) for azimuth in range(0, 360, 45)
]
_LOOKS += [(0.0, -85.0), (0.0, 85.0)]
_LOOK_SIZE = 256
_LOOK_FOV = 20.0
_LOOK_TOLERANCE = (
    0.01  # of the diagonal: about a pixel of the looks, so that slanted surfaces hide nothing of themselves
)


class SurfacePoints(NamedTuple):
    """N points on a mesh.

    Attributes
    ----------
    points : ndarray, float64 (N, 3)
    normals : ndarray, float64 (N, 3)
        Unit normals of their faces.
    faces : ndarray, int64 (N,)
    weights : ndarray, float64 (N, 3)
        Barycentric weights of their faces' corners.
    """

    points: npt.NDArray[np.float64]
    normals: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    def take(self, rows: npt.NDArray[np.generic]) -> SurfacePoints:
        """Some of the points."""
        return SurfacePoints(*(values[rows] for values in self))


@dataclass(frozen=True)
class SurfaceError:
    """Distances between two surfaces, as shares of the true mesh's bounding box diagonal.

    Attributes
    ----------
    chamfer : mean distance to the nearest point, averaged over both directions (Chamfer-L1)
    f_score : harmonic mean of precision and recall at `threshold`
    normal_consistency : mean |cos| between the normals at nearest points, both directions
    threshold : of the F-score
    """

    chamfer: float
    f_score: float
    normal_consistency: float
    threshold: float


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + translation.

    Attributes
    ----------
    scale : float
    rotation : ndarray, float64 (3, 3)
    translation : ndarray, float64 (3,)
    """

    scale: float
    rotation: npt.NDArray[np.float64]
    translation: npt.NDArray[np.float64]

    def __call__(self, points: Points) -> npt.NDArray[np.float64]:
        """Map points (N, 3)."""
        return self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.translation


def sample_surface(
    vertices: Points, faces: npt.NDArray[np.integer], count: int, rng: np.random.Generator
) -> SurfacePoints:
    """Points spread evenly over a surface.

    Parameters
    ----------
    vertices : ndarray, float (V, 3)
    faces : ndarray, int (F, 3)
    count : int
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If the mesh has no area.
    """
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    area = np.linalg.norm(cross, axis=1)
    if not np.isfinite(area.sum()) or area.sum() <= 0:
        raise InputError("the mesh has no surface to take points from; it is empty, collapsed or not finite")
    # Low-discrepancy along the cumulated area: fewer clumps than independent draws.
    places = (np.arange(count) + rng.random()) / count
    index = np.searchsorted(np.cumsum(area) / area.sum(), places, side="right").clip(max=len(area) - 1)
    u, v = rng.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    points = a[index] + u * (b - a)[index] + v * (c - a)[index]
    return SurfacePoints(points, cross[index] / area[index, None], index, np.concatenate([1 - u - v, u, v], 1))


def outer_surface(
    vertices: Points, faces: npt.NDArray[np.integer], count: int, rng: np.random.Generator
) -> SurfacePoints:
    """Points spread evenly over what can be seen of a surface from 26 directions, in any order.

    A point counts as seen where nothing is nearer by more than 1 % of the bounding box diagonal.

    Parameters
    ----------
    vertices : ndarray, float (V, 3)
    faces : ndarray, int (F, 3)
    count : int
        Points to return.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If the mesh has no area, or nothing of it is seen.
    """
    vertices, corners = np.asarray(vertices, np.float64), np.asarray(faces, np.int32)
    drawn = 2 * count
    for _ in range(4):
        candidates = sample_surface(vertices, corners, drawn, rng)
        seen = np.flatnonzero(_seen(candidates.points, vertices, corners))
        if len(seen) >= count:
            return candidates.take(rng.permutation(seen)[:count])
        drawn = int(1.2 * drawn * count / max(len(seen), 1)) if len(seen) else 8 * drawn
        drawn = min(drawn, 64 * count)
    raise InputError("nearly nothing of the mesh can be seen from outside; its faces have collapsed")


def _seen(points: npt.NDArray[np.float64], vertices: Points, faces: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which points (N, 3) of a mesh some look from outside sees."""
    used = vertices[np.unique(faces)]
    low, high = used.min(0), used.max(0)
    diagonal = float(np.linalg.norm(high - low))
    middle = 0.5 * (low + high)
    distance = 0.52 * diagonal / np.sin(np.radians(0.5 * _LOOK_FOV))
    seen = np.zeros(len(points), bool)
    scale = 1.0 / diagonal  # the rasteriser's near plane is in metres
    for azimuth, elevation in _LOOKS:
        camera = Camera(azimuth, elevation, distance * scale, _LOOK_FOV, resolution=_LOOK_SIZE)
        depth = rasterise((vertices - middle) * scale, faces, camera).depth
        pixels, far = camera.project((points - middle) * scale)
        column, row = np.clip(pixels.astype(np.int64), 0, _LOOK_SIZE - 1).T
        nearest = depth[row, column]
        seen |= (nearest == 0) | (far <= nearest + _LOOK_TOLERANCE)
    return seen


def diagonal_of(vertices: Points, faces: npt.NDArray[np.integer]) -> float:
    """Diagonal of the bounding box of the vertices that a mesh uses."""
    return float(np.linalg.norm(np.ptp(np.asarray(vertices)[np.unique(faces)], axis=0)))


def surface_error(
    predicted: SurfacePoints, true: SurfacePoints, diagonal: float, *, threshold: float = 0.02
) -> SurfaceError:
    """Compare two surfaces in the same frame by points on them.

    Parameters
    ----------
    predicted, true : SurfacePoints
        About as many of each; distances smaller than the points' spacing mean nothing.
    diagonal : float
        Of the true mesh's bounding box, see `diagonal_of`: the unit of distances.
    threshold : float
        Distance at which a point counts as found, in that unit.
    """
    forth, forth_index = cKDTree(true.points).query(predicted.points)
    back, back_index = cKDTree(predicted.points).query(true.points)
    precision, recall = (float((d / diagonal <= threshold).mean()) for d in (forth, back))
    cosine = np.concatenate(
        [
            np.abs((predicted.normals * true.normals[forth_index]).sum(1)),
            np.abs((true.normals * predicted.normals[back_index]).sum(1)),
        ]
    )
    return SurfaceError(
        chamfer=float(forth.mean() + back.mean()) / 2 / diagonal,
        f_score=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        normal_consistency=float(cosine.mean()),
        threshold=threshold,
    )


def best_similarity(source: Points, target: Points) -> Similarity:
    """Similarity that maps corresponding points on each other with least squares (Umeyama 1991, eq. 40-42).

    Parameters
    ----------
    source, target : ndarray, float (N, 3)

    Raises
    ------
    InputError
        If there are fewer than three points, or they coincide.
    """
    x, y = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if len(x) != len(y) or len(x) < 3:
        raise InputError(f"a similarity needs three or more pairs of points, not {len(x)} and {len(y)}")
    x_mean, y_mean = x.mean(0), y.mean(0)
    spread = ((x - x_mean) ** 2).sum(1).mean()
    if not spread > 0:
        raise InputError("the points to align coincide; there is nothing to align")
    u, d, vt = np.linalg.svd((y - y_mean).T @ (x - x_mean) / len(x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u * sign @ vt
    scale = float((d * sign).sum() / spread)
    return Similarity(scale, rotation, y_mean - scale * rotation @ x_mean)


def align_surfaces(
    sources: Sequence[Points], targets: Sequence[Points], *, iterations: int = 50, tolerance: float = 1e-7
) -> Similarity:
    """One similarity for all pairs of surfaces: iterative closest points, both directions, over all pairs at once.

    A reconstruction from images knows its scale, and the frame of its cameras, only up to one similarity. It belongs
    to the method and not to a mesh: it is found on training pairs and then kept.

    Parameters
    ----------
    sources, targets : sequences of ndarray, float (N, 3)
        Points on the surfaces, see `sample_surface`; roughly aligned already (within about 45 degrees).
    iterations : int
        Most that are made.
    tolerance : float
        Relative improvement of the mean squared distance at which it stops.

    Raises
    ------
    InputError
        If the numbers of sources and targets differ or are 0.
    """
    if len(sources) != len(targets) or not sources:
        raise InputError(f"{len(sources)} surfaces cannot be aligned with {len(targets)}; give pairs")
    trees = [cKDTree(t) for t in targets]
    result = _box_similarity(sources, targets)
    before = np.inf
    for _ in range(iterations):
        moved = [result(s) for s in sources]
        pairs: list[tuple[Points, Points]] = []
        for source, now, target, tree in zip(sources, moved, targets, trees, strict=True):
            pairs.append((source, target[tree.query(now)[1]]))
            pairs.append((source[cKDTree(now).query(target)[1]], target))
        x, y = (np.concatenate([pair[i] for pair in pairs]) for i in range(2))
        result = best_similarity(x, y)
        error = float(((result(x) - y) ** 2).sum(1).mean())
        if before - error <= tolerance * error:
            break
        before = error
    return result


def _box_similarity(sources: Sequence[Points], targets: Sequence[Points]) -> Similarity:
    """Start: mean centres and mean spreads on each other, no rotation."""
    centre = [np.mean([np.mean(p, 0) for p in group], 0) for group in (sources, targets)]
    spread = [np.mean([np.var(p, axis=0).sum() ** 0.5 for p in group]) for group in (sources, targets)]
    scale = float(spread[1] / spread[0])
    return Similarity(scale, np.eye(3), centre[1] - scale * centre[0])
