"""Spheres of nearly equal triangles, and their UV coordinates: templates for shapes that are deformed spheres."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.render.topology import Topology


def icosphere(level: int) -> tuple[Tensor, Tensor]:
    """Icosahedron whose faces are cut into four `level` times, on the unit sphere.

    Returns
    -------
    vertices : Tensor, float32 (V, 3)
        10 * 4^level + 2 unit vectors.
    faces : Tensor, int64 (F, 3)
        20 * 4^level faces, counter-clockwise seen from outside: 1,280 at level 3, 5,120 at level 4.
    """
    if not 0 <= level <= 8:
        raise InputError(f"an icosphere of level {level} cannot be made; choose 0 to 8")
    g = (1.0 + math.sqrt(5.0)) / 2.0
    corners: list[tuple[float, float, float]]
    corners = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g), (0, -1, -g), (0, 1, -g)]
    corners += [(g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    vertices = torch.tensor(corners, dtype=torch.float64)
    vertices = vertices / vertices.norm(dim=1, keepdim=True)
    faces = torch.tensor(_FACES)
    for _ in range(level):
        topology = Topology.of(faces, len(vertices))
        middle = vertices[topology.edges[0].long()].mean(1)
        opposite = topology.face_edges[0].long() + len(vertices)
        vertices = torch.cat([vertices, middle / middle.norm(dim=1, keepdim=True)])
        (a, b, c), (bc, ca, ab) = faces.unbind(1), opposite.unbind(1)
        corners_of = ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))
        faces = torch.cat([torch.stack(corner, 1) for corner in corners_of])
    return vertices.float(), faces


def equirectangular_uv(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """UV coordinates of points around the origin: u is the azimuth, v the angle from +Y.

    The front (+Z) is at u = 0.5, +X to the right of it at u = 0.75, +Y at v = 0. Faces across the seam (the back) have
    rows of their own with u > 1, so that nothing is interpolated the long way round: render with `wrap_u`.

    Returns
    -------
    uv : Tensor, float32 (T, 2)
        The first V rows belong to the vertices.
    uv_faces : Tensor, int64 (F, 3)
        Rows at the corners of the faces.
    """
    x, y, z = (vertices / vertices.norm(dim=1, keepdim=True)).double().unbind(1)
    u = (torch.atan2(x, z) / (2.0 * math.pi) + 0.5) % 1.0
    v = torch.acos(y.clamp(-1.0, 1.0)) / math.pi
    corner_u = u[faces]
    pole = (x * x + z * z < 1e-12)[faces]
    across = (torch.where(pole, 0.5, corner_u).amax(1) - torch.where(pole, 0.5, corner_u).amin(1) > 0.5)[:, None]
    corner_u = torch.where(across & (corner_u < 0.5), corner_u + 1.0, corner_u)
    # A pole has no azimuth: each of its faces takes the mean of its other corners.
    others = (torch.where(pole, 0.0, corner_u).sum(1) / (~pole).sum(1))[:, None]
    corner_u = torch.where(pole, others, corner_u)
    moved = (corner_u != u[faces]).flatten()
    rows = torch.arange(len(vertices), len(vertices) + int(moved.sum()))
    uv_faces = faces.flatten().clone()
    uv_faces[moved] = rows
    extra = torch.stack([corner_u.flatten()[moved], v[faces].flatten()[moved]], 1)
    return torch.cat([torch.stack([u, v], 1), extra]).float(), uv_faces.view(-1, 3)


_FACES = [
    (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6),
    (7, 1, 8),
    (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1),
]  # fmt: skip
