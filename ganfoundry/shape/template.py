"""The icosphere that every predicted mesh is a deformation of: one topology, one texture layout, for all objects.

Because vertex i and texel (u, v) mean the same place on every object, parts, keypoints and textures carry over from one
to the next without any matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError

MAX_LEVEL = 6  # 81,920 faces


@dataclass(frozen=True, eq=False)
class Template:
    """A unit sphere of triangles with texture coordinates, symmetric about the plane x = 0.

    Texture coordinates are equirectangular: u grows from the back (0) over the object's right side (-X, 0.25), its
    front (+Z, 0.5) and its left side (+X, 0.75) to the back again (1); v from the top (+Y, 0) to the bottom (1), as in
    glTF, where (0, 0) is the upper left corner of the texture. Faces across the seam at the back have u beyond 1, so
    textures repeat in u.

    Attributes
    ----------
    vertices : ndarray, float32 (V, 3)
        On the unit sphere.
    faces : ndarray, int64 (F, 3)
        Vertex indices, counter-clockwise seen from outside.
    uv : ndarray, float32 (U, 2)
        Texture coordinates; U > V, because vertices on the seam and at the poles have several.
    face_uv : ndarray, int64 (F, 3)
        Rows of `uv` of the faces' corners.
    uv_vertex : ndarray, int64 (U,)
        The vertex that each row of `uv` belongs to.
    mirror : ndarray, int64 (V,)
        The vertex at (-x, y, z) of each vertex (x, y, z).
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int64]
    uv: npt.NDArray[np.float32]
    face_uv: npt.NDArray[np.int64]
    uv_vertex: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.int64]

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """Pairs of neighbouring vertices, each once, smaller index first, (E, 2)."""
        return _unique_edges(self.faces)[0]

    @property
    def edge_faces(self) -> npt.NDArray[np.int64]:
        """The two faces at each row of `edges`, (E, 2)."""
        _, inverse = _unique_edges(self.faces)
        order = np.argsort(inverse, kind="stable")
        owners: npt.NDArray[np.int64] = order % len(self.faces)  # inverse lists the faces' first edges, then the second
        return owners.reshape(-1, 2)


@lru_cache(maxsize=8)
def icosphere(level: int) -> Template:
    """An icosahedron whose faces are split in four `level` times.

    Parameters
    ----------
    level : int, 1 to 6
        Level 3 has 642 vertices and 1,280 faces, level 4 2,562 and 5,120.

    Raises
    ------
    InputError
        If the level is outside 1 to 6. (At level 0 no vertex lies on the poles.)
    """
    if not 1 <= level <= MAX_LEVEL:
        raise InputError(f"an icosphere of level {level} cannot be made; give 1 to {MAX_LEVEL}")
    vertices, faces = _icosahedron()
    for _ in range(level):
        vertices, faces = _split(vertices, faces)
    uv, face_uv, uv_vertex = _texture_coordinates(vertices, faces)
    return Template(vertices.astype(np.float32), faces, uv, face_uv, uv_vertex, _mirrored(vertices))


def _icosahedron() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Twelve vertices (0, +-1, +-phi) and their cyclic permutations, twenty faces turned outwards."""
    phi = (1 + 5**0.5) / 2
    corners = [(0.0, a, b * phi) for a in (-1, 1) for b in (-1, 1)]
    vertices = np.array([np.roll(c, shift) for shift in range(3) for c in corners]) / (1 + phi * phi) ** 0.5
    distance = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
    near = np.isclose(distance, distance[distance > 1e-9].min())
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] and near[j, k] and near[i, k]
    ]
    triangles = np.array(faces)
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    inwards = (np.cross(b - a, c - a) * (a + b + c)).sum(1) < 0
    triangles[inwards] = triangles[inwards][:, [0, 2, 1]]
    return vertices, triangles


def _split(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Cut each face in four at its edges' middles, which are moved onto the sphere."""
    edges, inverse = _unique_edges(faces)
    middles = vertices[edges].sum(1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    ab, bc, ca = len(vertices) + inverse.reshape(3, -1)
    a, b, c = faces.T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate([vertices, middles]), np.concatenate([np.stack(part, 1) for part in parts])


def _unique_edges(faces: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Edges (E, 2), and for the faces' edges ab, then bc, then ca (3 F,) the row of each."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, inverse = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
    return edges, inverse.reshape(-1)


def _texture_coordinates(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Equirectangular (u, v) at the faces' corners, joined where vertex and coordinates are the same."""
    u = np.arctan2(vertices[:, 0], vertices[:, 2]) / (2 * np.pi) + 0.5
    u[np.isclose(u, 1)] = 0.0  # the seam itself has u = 0; its faces to the left get 1 below
    v = np.arccos(np.clip(vertices[:, 1], -1, 1)) / np.pi
    corner_u, pole = u[faces], np.hypot(vertices[:, 0], vertices[:, 2])[faces] < 1e-9
    known = np.where(pole, np.nan, corner_u)
    # A face across the seam reaches from near 1 to near 0: its small values move up by one turn.
    known = known + (np.nanmax(known, 1, keepdims=True) - known > 0.5)
    # A pole has every u: in each of its faces the middle of the other two corners' is the least distorted.
    corner_u = np.where(pole, np.nanmean(known, 1, keepdims=True), known)
    corners = np.stack([faces.ravel(), np.round(corner_u.ravel() * 2**30)], 1).astype(np.int64)
    unique, first, inverse = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    uv = np.stack([corner_u.ravel()[first], v[unique[:, 0]]], 1)
    return uv.astype(np.float32), inverse.reshape(faces.shape), unique[:, 0]


def _mirrored(vertices: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of the mirror image of every vertex."""

    def keys(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return np.lexsort(np.round(points, 9).T + 0.0)  # + 0.0: no negative zeros

    order, mirrored = keys(vertices), keys(vertices * [-1.0, 1.0, 1.0])
    result = np.empty(len(vertices), np.int64)
    result[mirrored] = order
    return result
