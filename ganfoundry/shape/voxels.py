"""Solid voxels of meshes that need not be watertight, and their overlap.

A voxel is inside when surfaces block all six rays along the axes from its centre. Inside a watertight body they always
do; hollows that no axis ray leaves (a closed wheel well) count as inside too. Winding numbers are exact on watertight
bodies but fail on models put together from open pieces: above a cabin's missing floor they fall under one half, and
beneath a body without a bottom they stay above. The rays treat both kinds alike.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError


@numba.njit(cache=True)
def _column_extents(triangles, low, size, low_out, high_out):  # type: ignore[no-untyped-def]
    """First and last crossing of the rays along axis 2 through the centres of a square grid of axes 0 and 1."""
    side = low_out.shape[0]
    for t in range(triangles.shape[0]):
        ax, ay, az = (triangles[t, 0, 0] - low[0]) / size, (triangles[t, 0, 1] - low[1]) / size, triangles[t, 0, 2]
        bx, by, bz = (triangles[t, 1, 0] - low[0]) / size, (triangles[t, 1, 1] - low[1]) / size, triangles[t, 1, 2]
        cx, cy, cz = (triangles[t, 2, 0] - low[0]) / size, (triangles[t, 2, 1] - low[1]) / size, triangles[t, 2, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue  # seen edge on: its neighbours hold the same crossings
        first_x, last_x = max(0, int(np.floor(min(ax, bx, cx)))), min(side - 1, int(np.floor(max(ax, bx, cx))))
        first_y, last_y = max(0, int(np.floor(min(ay, by, cy)))), min(side - 1, int(np.floor(max(ay, by, cy))))
        for i in range(first_x, last_x + 1):
            for j in range(first_y, last_y + 1):
                x, y = i + 0.5, j + 0.5
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                wc = 1.0 - wa - wb
                if wa >= -1e-9 and wb >= -1e-9 and wc >= -1e-9:
                    z = wa * az + wb * bz + wc * cz
                    low_out[i, j] = min(low_out[i, j], z)
                    high_out[i, j] = max(high_out[i, j], z)


def solid_voxels(
    vertices: npt.NDArray[np.floating],
    faces: npt.NDArray[np.integer],
    bounds: npt.NDArray[np.floating],
    resolution: int = 64,
) -> npt.NDArray[np.bool_]:
    """Which voxels of a cube lie inside a mesh.

    Parameters
    ----------
    vertices : ndarray, float (V, 3)
    faces : ndarray, int (F, 3)
    bounds : ndarray, float (2, 3)
        Corners of the box that is divided; see `common_cube`.
    resolution : int
        Voxels along each axis.

    Returns
    -------
    ndarray, bool (resolution, resolution, resolution)
        Indexed by x, y, z.

    Raises
    ------
    InputError
        If a vertex is not finite, or the box is no cube.
    """
    points = np.asarray(vertices, np.float64)
    low, high = np.asarray(bounds, np.float64)
    size = (high - low) / resolution
    if not np.isfinite(points).all():
        raise InputError("the mesh has vertices that are not finite numbers; its fitting diverged")
    if not (size > 0).all() or not np.allclose(size, size[0]):
        raise InputError(f"voxels are cut from a cube, not from {(high - low).tolist()}; use common_cube")
    triangles = points[np.asarray(faces)]
    inside = np.ones((resolution,) * 3, bool)
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        first = np.full((resolution, resolution), np.inf)
        last = np.full((resolution, resolution), -np.inf)
        ordered = np.ascontiguousarray(triangles[:, :, [*others, axis]])
        _column_extents(ordered, low[others], size[0], first, last)
        centres = low[axis] + (np.arange(resolution) + 0.5) * size[axis]
        between = (first[..., None] <= centres) & (centres <= last[..., None])
        inside &= np.moveaxis(between, 2, axis)
    return inside


def common_cube(*meshes: npt.NDArray[np.floating], margin: float = 0.02) -> npt.NDArray[np.float64]:
    """Smallest cube around the vertices (V, 3) of several meshes, with a margin as a share of its side; (2, 3)."""
    low = np.min([m.min(0) for m in meshes], 0).astype(np.float64)
    high = np.max([m.max(0) for m in meshes], 0).astype(np.float64)
    half = (high - low).max() / 2 * (1 + 2 * margin)
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half])


def voxel_iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two sets of voxels; 1 when both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
