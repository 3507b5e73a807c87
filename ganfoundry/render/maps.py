"""Maps of what lies at the pixel centres of a rendering: normals, UV coordinates, anything at the corners of faces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.render.reference import gather_faces
from ganfoundry.render.renderer import Rendering
from ganfoundry.render.shading_reference import interpolate, splat
from ganfoundry.render.topology import Topology


def centre_map(rendering: Rendering, values: Tensor, faces: Tensor) -> Tensor:
    """Values at the pixel centres, (N, C, size, size), 0 where there is no mesh; no silhouette mode touches them.

    Parameters
    ----------
    rendering : Rendering
        N images.
    values : Tensor, (N, T, C) or (T, C)
        Rows that the corners of the faces take.
    faces : int Tensor, (N, F, 3) or (F, 3)
        Rows at the corners of the faces: the mesh's own faces, or `uv_faces`.
    """
    values, faces = (x if x.ndim == 3 else x[None] for x in (values, faces))
    centres = rendering.fragments.centres
    return splat(centres, interpolate(centres, values, faces), len(rendering.mask), rendering.mask.shape[-1])


def vertex_normals(vertices: Tensor, topology: Topology) -> Tensor:
    """Unit normals (N, V, 3) of vertices (N, V, 3) or (V, 3): means of the faces' normals by area, 0 without faces."""
    vertices = vertices if vertices.ndim == 3 else vertices[None]
    a, b, c = gather_faces(vertices, topology.faces).unbind(2)
    of_faces = torch.linalg.cross(b - a, c - a).repeat_interleave(3, 1)
    index = topology.faces.expand(len(vertices), -1, -1).flatten(1).long()[..., None].expand(-1, -1, 3)
    return F.normalize(torch.zeros_like(vertices).scatter_add(1, index, of_faces), dim=-1)


def normal_map(rendering: Rendering, vertices: Tensor, topology: Topology) -> Tensor:
    """Smooth unit normals in the frame of the vertices (N, 3, size, size), 0 where there is no mesh."""
    return F.normalize(centre_map(rendering, vertex_normals(vertices, topology), topology.faces), dim=1)
