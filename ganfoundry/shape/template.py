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
from ganfoundry.render.icosphere import equirectangular_uv, icosphere

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
        Texture coordinates; the first V rows are the vertices', more follow where they have several: at the seam and
        the poles.
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
def sphere_template(level: int) -> Template:
    """The icosphere of a level as a template.

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
        raise InputError(f"a template of level {level} cannot be made; give 1 to {MAX_LEVEL}")
    vertices, faces = icosphere(level)
    uv, face_uv = equirectangular_uv(vertices, faces)
    uv_vertex = np.arange(len(uv))  # rows beyond the vertices are named by faces
    uv_vertex[face_uv.numpy().ravel()] = faces.numpy().ravel()
    points = vertices.numpy()
    return Template(points, faces.numpy(), uv.numpy(), face_uv.numpy(), uv_vertex, _mirrored(points.astype(np.float64)))


def _unique_edges(faces: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Edges (E, 2), and for the faces' edges ab, then bc, then ca (3 F,) the row of each."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, inverse = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
    return edges, inverse.reshape(-1)


def _mirrored(vertices: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of the mirror image of every vertex."""

    def keys(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return np.lexsort(np.round(points, 5).T + 0.0)  # + 0.0: no negative zeros

    order, mirrored = keys(vertices), keys(vertices * [-1.0, 1.0, 1.0])
    result = np.empty(len(vertices), np.int64)
    result[mirrored] = order
    return result
