"""Edges of triangle meshes: which vertices they join and which faces share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ganfoundry.errors import InputError


@dataclass(frozen=True, eq=False)
class Topology:
    """Faces and edges of one mesh, or of a batch of meshes with as many faces each.

    Attributes
    ----------
    faces : Tensor, int32 (M, F, 3)
        Vertex indices; M is 1 for a mesh shared by all images, else their number.
    edges : Tensor, int32 (M, E, 2)
        Vertex indices, the smaller first; meshes with fewer edges than E repeat (0, 0) at the end.
    face_edges : Tensor, int32 (M, F, 3)
        Index of the edge opposite to each corner of each face.
    open_edges : Tensor, bool (M, E)
        Whether only one face has the edge: borders, and all edges of faces that share no vertices.
    num_vertices : int
        Vertices that the faces may name.
    """

    faces: Tensor
    edges: Tensor
    face_edges: Tensor
    open_edges: Tensor
    num_vertices: int

    @classmethod
    def of(cls, faces: Tensor, num_vertices: int) -> Self:
        """Find the edges of faces (F, 3) or (M, F, 3).

        A face that names a vertex twice is never drawn: use one to pad meshes of a batch to the same number.

        Raises
        ------
        InputError
            If a face names a vertex outside 0..num_vertices - 1.
        """
        if faces.ndim == 2:
            faces = faces[None]
        if faces.ndim != 3 or faces.shape[2] != 3 or faces.is_floating_point():
            raise InputError(f"faces are {tuple(faces.shape)} {faces.dtype}; give whole numbers (F, 3) or (N, F, 3)")
        if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= num_vertices):
            raise InputError(
                f"a face names a vertex outside 0..{num_vertices - 1}; check the faces against the vertices"
            )
        faces = faces.detach().to(torch.int64)
        found = [_edges(item, num_vertices) for item in faces]
        edges = torch.nn.utils.rnn.pad_sequence([edge for edge, _ in found], batch_first=True)
        face_edges = torch.stack([index for _, index in found])
        counts = torch.zeros(edges.shape[:2], dtype=torch.int64, device=faces.device)
        index = face_edges.flatten(1)
        counts.scatter_add_(1, index, torch.ones_like(index))
        return cls(faces.int(), edges.int(), face_edges.int(), counts == 1, num_vertices)

    def to(self, device: torch.device) -> Topology:
        """The same on another device."""
        if self.faces.device == device:
            return self
        faces, edges, face_edges = self.faces.to(device), self.edges.to(device), self.face_edges.to(device)
        return Topology(faces, edges, face_edges, self.open_edges.to(device), self.num_vertices)


def _edges(faces: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    pairs = torch.stack([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]], 1)
    low, high = pairs.amin(-1), pairs.amax(-1)
    key, index = torch.unique(low * num_vertices + high, return_inverse=True)
    return torch.stack([key // max(num_vertices, 1), key % max(num_vertices, 1)], -1), index
