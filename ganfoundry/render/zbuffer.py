"""Z-buffer rasteriser of the worlds: for every pixel centre the nearest triangle, its barycentrics and its depth.

The differentiable renderer has its own (`kernels.visible`): it takes centres on an edge with a tolerance and steps
along rows, so it rounds differently; images of the worlds are the same to the byte as long as this one stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ganfoundry.render.camera import Camera

NEAR_PLANE = 0.05
"""Triangles with a corner nearer than this (metres) are left out; scenes keep their objects well in front of it."""


class Fragments(NamedTuple):
    """What a rasteriser found at the pixel centres.

    Attributes
    ----------
    face : ndarray, int32 (H, W)
        Index of the nearest triangle, -1 where there is none.
    barycentric : ndarray, float64 (H, W, 3)
        Perspective-correct weights of its three corners, 0 where there is none.
    depth : ndarray, float64 (H, W)
        Metres along the viewing axis, 0 where there is none.
    """

    face: npt.NDArray[np.int32]
    barycentric: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]


@numba.njit(cache=True)
def _rasterise(pixels, depths, faces, near, face_map, bary_map, depth_map):  # type: ignore[no-untyped-def]
    height, width = face_map.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb, zc = depths[a], depths[b], depths[c]
        if za < near or zb < near or zc < near:
            continue
        ax, ay = pixels[a, 0], pixels[a, 1]
        bx, by = pixels[b, 0], pixels[b, 1]
        cx, cy = pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        # A pixel x belongs to the box when its centre x + 0.5 lies between the extremes.
        x_first = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x_last = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y_first = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y_last = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(y_first, y_last + 1):
            py = y + 0.5
            for x in range(x_first, x_last + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area
                wb = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area
                wc = 1.0 - wa - wb
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                # 1/z is linear in the image, z is not: weights are divided by z and normalised again.
                qa, qb, qc = wa / za, wb / zb, wc / zc
                z = 1.0 / (qa + qb + qc)
                if face_map[y, x] < 0 or z < depth_map[y, x]:
                    face_map[y, x] = f
                    depth_map[y, x] = z
                    bary_map[y, x, 0] = qa * z
                    bary_map[y, x, 1] = qb * z
                    bary_map[y, x, 2] = qc * z


@numba.njit(cache=True)
def _occluder_depths(points, pixels, depths, faces, near, nearest):  # type: ignore[no-untyped-def]
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb, zc = depths[a], depths[b], depths[c]
        if za < near or zb < near or zc < near:
            continue
        ax, ay = pixels[a, 0], pixels[a, 1]
        bx, by = pixels[b, 0], pixels[b, 1]
        cx, cy = pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        left, right = min(ax, bx, cx), max(ax, bx, cx)
        top, bottom = min(ay, by, cy), max(ay, by, cy)
        for k in range(points.shape[0]):
            px, py = points[k, 0], points[k, 1]
            # Written so that a point that is not a number is covered by nothing.
            if not (left <= px <= right and top <= py <= bottom):
                continue
            wa = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area
            wb = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area
            wc = 1.0 - wa - wb
            if wa < 0.0 or wb < 0.0 or wc < 0.0:
                continue
            z = 1.0 / (wa / za + wb / zb + wc / zc)
            if z < nearest[k]:
                nearest[k] = z


def rasterise(vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int32], camera: Camera) -> Fragments:
    """Rasterise triangles at the pixel centres of a camera.

    A centre exactly on an edge belongs to both triangles and the nearer (then the earlier) one wins. Both sides of a
    triangle are drawn.

    Parameters
    ----------
    vertices : ndarray, float64 (V, 3)
        World points, metres.
    faces : ndarray, int32 (F, 3)
        Vertex indices.
    camera : Camera
        Gives the view and the image size.

    Returns
    -------
    Fragments
        Face ids, perspective-correct barycentrics and depths.
    """
    pixels, depths = camera.project(vertices)
    return rasterise_points(pixels, depths, faces, camera.resolution)


def rasterise_points(
    pixels: npt.NDArray[np.float64], depths: npt.NDArray[np.float64], faces: npt.NDArray[np.int32], size: int
) -> Fragments:
    """As `rasterise`, for points that are projected already: pixels (V, 2), depths (V,), an image side in pixels."""
    face_map = np.full((size, size), -1, dtype=np.int32)
    bary_map = np.zeros((size, size, 3), dtype=np.float64)
    depth_map = np.zeros((size, size), dtype=np.float64)
    if len(faces):
        _rasterise(pixels, depths, faces, NEAR_PLANE, face_map, bary_map, depth_map)
    return Fragments(face_map, bary_map, depth_map)


def occluder_depth(
    points: npt.NDArray[np.float64], vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int32], camera: Camera
) -> npt.NDArray[np.float64]:
    """Depth of the nearest triangle over exact image points, not only over pixel centres.

    Parameters
    ----------
    points : ndarray, float64 (K, 2)
        Pixel coordinates.
    vertices, faces, camera
        As in `rasterise`.

    Returns
    -------
    ndarray, float64 (K,)
        Metres along the viewing axis, infinity where nothing covers the point.
    """
    nearest = np.full(len(points), np.inf)
    if len(points) and len(faces):
        pixels, depths = camera.project(vertices)
        _occluder_depths(np.ascontiguousarray(points), pixels, depths, faces, NEAR_PLANE, nearest)
    return nearest
