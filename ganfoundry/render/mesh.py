"""Triangle mesh whose faces carry part ids, with angle-limited smooth normals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError


@numba.njit(cache=True)
def _smooth_normals(faces, normals, units, starts, incident, limit, out):  # type: ignore[no-untyped-def]
    for f in range(faces.shape[0]):
        for corner in range(3):
            vertex = faces[f, corner]
            x = y = z = 0.0
            for position in range(starts[vertex], starts[vertex + 1]):
                g = incident[position]
                dot = units[f, 0] * units[g, 0] + units[f, 1] * units[g, 1] + units[f, 2] * units[g, 2]
                if dot >= limit:
                    x += normals[g, 0]
                    y += normals[g, 1]
                    z += normals[g, 2]
            length = math.sqrt(x * x + y * y + z * z)
            if length > 0.0:
                out[f, corner, 0] = x / length
                out[f, corner, 1] = y / length
                out[f, corner, 2] = z / length


def corner_normals(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int32], crease: float = 40.0
) -> npt.NDArray[np.float64]:
    """Normals at the corners of the faces: smooth over a surface, broken at its creases.

    A corner's normal is the area-weighted mean of the normals of the faces that share its vertex and lie within the
    crease angle of its own face.

    Parameters
    ----------
    vertices : ndarray, float64 (V, 3)
        Metres.
    faces : ndarray, int32 (F, 3)
        Vertex indices, counter-clockwise seen from outside.
    crease : float
        Largest angle in degrees between two faces that are shaded as one surface.

    Returns
    -------
    ndarray, float64 (F, 3, 3)
        Unit normals; 0 at faces without area.
    """
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    units = normals / np.where(lengths > 0.0, lengths, 1.0)
    flat = faces.ravel()
    incident = np.argsort(flat, kind="stable") // 3
    starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=len(vertices)))])
    out = np.zeros((len(faces), 3, 3))
    _smooth_normals(faces, normals, units, starts, incident, math.cos(math.radians(crease)), out)
    return out


@dataclass(frozen=True, eq=False)
class LabelledMesh:
    """Triangles with a part id, a material id and smooth normals.

    Attributes
    ----------
    vertices : ndarray, float64 (V, 3)
        Object frame, metres.
    faces : ndarray, int32 (F, 3)
        Vertex indices, counter-clockwise seen from outside.
    face_parts : ndarray, uint8 (F,)
        Part ids of the world's schema.
    face_materials : ndarray, uint8 (F,)
        Material ids of the world that made the mesh.
    corner_normals : ndarray, float64 (F, 3, 3)
        Unit normals at the faces' corners, see `corner_normals`.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int32]
    face_parts: npt.NDArray[np.uint8]
    face_materials: npt.NDArray[np.uint8]
    corner_normals: npt.NDArray[np.float64]

    @property
    def vertex_normals(self) -> npt.NDArray[np.float64]:
        """Mean of the corner normals at every vertex, unit, (V, 3); 0 at vertices without faces."""
        total = np.zeros_like(self.vertices)
        np.add.at(total, self.faces.ravel(), self.corner_normals.reshape(-1, 3))
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        return total / np.where(lengths > 0.0, lengths, 1.0)

    @property
    def bounds(self) -> npt.NDArray[np.float64]:
        """Smallest and largest coordinates, (2, 3), metres."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    def part(self, part_id: int) -> LabelledMesh:
        """The faces of one part, with all vertices kept."""
        keep = self.face_parts == part_id
        return LabelledMesh(
            self.vertices, self.faces[keep], self.face_parts[keep], self.face_materials[keep], self.corner_normals[keep]
        )


class MeshBuilder:
    """Collects patches of labelled triangles and turns them into one mesh."""

    def __init__(self) -> None:
        self._vertices: list[npt.NDArray[np.float64]] = []
        self._faces: list[npt.NDArray[np.int64]] = []
        self._parts: list[npt.NDArray[np.uint8]] = []
        self._materials: list[npt.NDArray[np.uint8]] = []
        self._count = 0

    def add(
        self,
        vertices: npt.ArrayLike,
        faces: npt.ArrayLike,
        parts: npt.ArrayLike,
        materials: npt.ArrayLike,
    ) -> None:
        """Add triangles.

        Parameters
        ----------
        vertices : array_like, (V, 3)
            Metres.
        faces : array_like of int, (F, 3)
            Indices into these vertices.
        parts, materials : array_like of int, (F,) or scalar
            Ids.
        """
        points = np.asarray(vertices, dtype=np.float64)
        triangles = np.asarray(faces, dtype=np.int64)
        if triangles.size and (triangles.min() < 0 or triangles.max() >= len(points)):
            raise InputError(f"a face names a vertex outside 0..{len(points) - 1}; check the faces")
        self._vertices.append(points)
        self._faces.append(triangles + self._count)
        self._parts.append(np.broadcast_to(np.asarray(parts, dtype=np.uint8), len(triangles)))
        self._materials.append(np.broadcast_to(np.asarray(materials, dtype=np.uint8), len(triangles)))
        self._count += len(points)

    def add_quads(
        self, vertices: npt.ArrayLike, quads: npt.ArrayLike, parts: npt.ArrayLike, materials: npt.ArrayLike
    ) -> None:
        """Add quadrilaterals (Q, 4) with ids (Q,) or scalar, each cut into two triangles."""
        q = np.asarray(quads, dtype=np.int64)
        triangles = np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]])
        ids = [np.tile(np.broadcast_to(np.asarray(i, dtype=np.uint8), len(q)), 2) for i in (parts, materials)]
        self.add(vertices, triangles, ids[0], ids[1])

    def build(self, offset: npt.ArrayLike = (0.0, 0.0, 0.0), crease: float = 40.0) -> LabelledMesh:
        """Make the mesh, with `offset` (3,) added to all vertices; faces without area are dropped."""
        vertices = np.concatenate(self._vertices) + np.asarray(offset, dtype=np.float64)
        faces = np.concatenate(self._faces).astype(np.int32)
        a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
        solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-10
        faces = np.ascontiguousarray(faces[solid])
        return LabelledMesh(
            vertices,
            faces,
            np.concatenate(self._parts)[solid],
            np.concatenate(self._materials)[solid],
            corner_normals(vertices, faces, crease),
        )
