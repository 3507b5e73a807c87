"""The renderer's geometry in plain PyTorch: what the kernels are checked against, and what runs on a GPU.

Decisions (which face, which edge) are made without gradients in float64; values are then computed from the points of
the winners, so that autograd differentiates them. `points` are (N, V, 3): x, y in pixels, depth in metres.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import NEAR_PLANE

CHUNK = 1 << 22
"""Pairs of a face and a pixel or point that are looked at together; bounds the memory."""


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of 2D vectors (..., 2): positive where b is clockwise from a in the image (y down)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def gather_faces(values: Tensor, faces: Tensor) -> Tensor:
    """Values (N, F, 3, C) at the corners of faces (1 or N, F, 3) of values (N, V, C)."""
    n, count = values.shape[0], faces.shape[1]
    index = faces.expand(n, -1, -1).reshape(n, -1, 1).long().expand(-1, -1, values.shape[2])
    return values.gather(1, index).view(n, count, 3, values.shape[2])


def drawn(triangles: Tensor) -> Tensor:
    """Which triangles (..., 3, 3) are drawn: those with an area and no corner nearer than the near plane."""
    xy = triangles[..., :2]
    area = cross(xy[..., 1, :] - xy[..., 0, :], xy[..., 2, :] - xy[..., 0, :])
    return (triangles[..., 2] >= NEAR_PLANE).all(-1) & (area != 0.0)


def screen_weights(triangles: Tensor, xy: Tensor) -> Tensor:
    """Barycentric weights (..., 3) in the image of points (..., 2) in triangles (..., 3, 3)."""
    a, b, c = triangles[..., :2].unbind(-2)
    area = cross(b - a, c - a)
    wa = cross(b - xy, c - xy) / area
    wb = cross(c - xy, a - xy) / area
    return torch.stack([wa, wb, 1.0 - wa - wb], -1)


def perspective(weights: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct weights (..., 3) and depth (...): 1 / z is linear in the image, z is not."""
    scaled = weights / depths
    z = 1.0 / scaled.sum(-1)
    return scaled * z[..., None], z


def candidates(triangles: Tensor, size: int, grow: float = 0.0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Chunks of the pixel centres in the boxes, grown by some pixels, of drawn triangles (N, F, 3, 3).

    Yields the triangle (K,) as image * F + face, the pixel (K,) as image * size^2 + y * size + x, its centre (K, 2).
    """
    count = triangles.shape[1]
    flat = triangles.flatten(0, 1)
    low = (flat[..., :2].amin(1) - grow - 0.5).ceil().clamp(0, size).long()
    high = (flat[..., :2].amax(1) + grow - 0.5).floor().clamp(-1, size - 1).long()
    extent = (high - low + 1).clamp(min=0) * drawn(flat)[:, None]
    area = extent.prod(1)
    ends = area.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, CHUNK):
        position = torch.arange(start, min(start + CHUNK, total), device=flat.device)
        owner = torch.searchsorted(ends, position, right=True)
        offset = position - (ends - area)[owner]
        x = low[owner, 0] + offset % extent[owner, 0]
        y = low[owner, 1] + offset // extent[owner, 0]
        yield owner, (owner // count * size + y) * size + x, torch.stack([x, y], -1) + 0.5


@torch.no_grad()
def visible_faces(points: Tensor, topology: Topology, size: int) -> Tensor:
    """Index of the nearest face at every pixel centre, int32 (N, size, size), -1 where there is none.

    Of faces at the same depth the one with the lower index is taken.
    """
    triangles = gather_faces(points.double(), topology.faces)
    n, count = triangles.shape[:2]
    flat = triangles.flatten(0, 1)
    nearest = torch.full((n * size * size,), torch.inf, dtype=torch.float64, device=points.device)
    face = torch.full((n * size * size,), count, dtype=torch.int64, device=points.device)
    for decide_face in (False, True):
        for owner, pixel, centre in candidates(triangles, size):
            weights = screen_weights(flat[owner], centre)
            inside = (weights >= 0.0).all(-1)
            owner, pixel = owner[inside], pixel[inside]
            depth = perspective(weights[inside], flat[owner, :, 2])[1]
            if decide_face:
                won = depth == nearest[pixel]
                face.scatter_reduce_(0, pixel[won], owner[won] % count, "amin")
            else:
                nearest.scatter_reduce_(0, pixel, depth, "amin")
    return torch.where(face < count, face, -1).view(n, size, size).int()


def centre_fragments(points: Tensor, topology: Topology, face_map: Tensor) -> FragmentList:
    """One fragment for every covered pixel centre of a face map (N, size, size)."""
    size = face_map.shape[-1]
    image, y, x = torch.nonzero(face_map >= 0, as_tuple=True)
    face = face_map[image, y, x]
    triangles = fragment_values(points, topology.faces, image, face)
    xy = torch.stack([x, y], -1).to(points.dtype) + 0.5
    barycentric, _ = perspective(screen_weights(triangles, xy), triangles[..., 2])
    whole = barycentric.new_ones(len(image))
    return FragmentList(image.int(), (y * size + x).int(), face, barycentric, whole, len(image))


def fragment_values(values: Tensor, faces: Tensor, image: Tensor, face: Tensor) -> Tensor:
    """Values (K, 3, C) at the corners of K fragments, of values (1 or N, V, C)."""
    corners = faces[image.long() if len(faces) > 1 else 0, face.long()].long()
    return values[(image.long() if len(values) > 1 else torch.zeros_like(image, dtype=torch.int64))[:, None], corners]
