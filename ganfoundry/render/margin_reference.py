"""Soft outlines in plain PyTorch: the margin of Szabo et al. and the fading mask of DIB-R.

Margin (arXiv:1910.00287). A triangle reaches `reach` pixels over its border: there, at distance d from it, it shows its
nearest point with alpha = 1 - d / reach, at a depth scaled by 1 + d / (2 reach). A pixel has two layers: the nearest
triangle over its centre, and the nearest margin in front of that.

Fading (DIB-R, arXiv:1908.01210): outside the mesh, at distance d from it, the mask is exp(-(d / reach)^2). DIB-R
multiplies this over all faces and so counts a border once for every face near it; here the nearest point of the mesh
counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganfoundry.render.edges_reference import silhouettes
from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.kernels_soft import FADED
from ganfoundry.render.reference import (
    CHUNK,
    candidates,
    fragment_values,
    gather_faces,
    perspective,
    screen_weights,
)
from ganfoundry.render.topology import Topology


def nearest_on_segment(a: Tensor, b: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (...) of points (..., 2) from segments ab, and the share (...) of b in the nearest point."""
    along = b - a
    length = (along * along).sum(-1)
    share = ((xy - a) * along).sum(-1) / torch.where(length > 0.0, length, 1.0)
    share = share.clamp(0.0, 1.0)
    return (xy - a - share[..., None] * along).norm(dim=-1), share


def _nearest_on_triangle(triangles: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (K,) and image weights (K, 3) of the nearest border points of triangles (K, 3, 3)."""
    corners = triangles[..., :2]
    distance, share = nearest_on_segment(corners[:, [1, 2, 0]], corners[:, [2, 0, 1]], xy[:, None])
    row, side = torch.arange(len(xy), device=xy.device), distance.argmin(1)
    picked = share[row, side]
    weights = torch.zeros_like(distance)
    weights = weights.index_put((row, (side + 1) % 3), 1.0 - picked)
    weights = weights.index_put((row, (side + 2) % 3), picked)
    return distance[row, side], weights


def margin_fragments(
    points: Tensor, topology: Topology, centres: FragmentList, size: int, reach: float
) -> FragmentList:
    """Both layers: the fragments at pixel centres, with what the margins leave of them, and the margins."""
    owner, pixel = _nearest_margins(points, topology, centres, size, reach)
    image, pixel = pixel // (size * size), pixel % (size * size)
    face = owner % topology.faces.shape[1]
    xy = torch.stack([pixel % size, pixel // size], -1).to(points.dtype) + 0.5
    triangles = fragment_values(points, topology.faces, image, face)
    distance, weights = _nearest_on_triangle(triangles, xy)
    alpha = 1.0 - distance / reach
    over = points.new_zeros(len(points) * size * size).index_put((image * size * size + pixel,), alpha)
    left = 1.0 - over[centres.image.long() * size * size + centres.pixel.long()]
    barycentric, _ = perspective(weights, triangles[..., 2])
    return FragmentList(
        torch.cat([centres.image, image.int()]),
        torch.cat([centres.pixel, pixel.int()]),
        torch.cat([centres.face, face.int()]),
        torch.cat([centres.barycentric, barycentric]),
        torch.cat([centres.weight * left, alpha]),
        centres.num_centres,
    )


@torch.no_grad()
def _nearest_margins(
    points: Tensor, topology: Topology, centres: FragmentList, size: int, reach: float
) -> tuple[Tensor, Tensor]:
    """Triangle (K,) as image * F + face and pixel (K,) of the batch, for all pixels with a margin layer."""
    triangles = gather_faces(points.double(), topology.faces)
    flat = triangles.flatten(0, 1)
    exact = centres._replace(barycentric=centres.barycentric.double())
    corners = fragment_values(points.double(), topology.faces, exact.image, exact.face)
    limit = torch.full((len(points) * size * size,), torch.inf, dtype=torch.float64, device=points.device)
    limit[exact.image.long() * size * size + exact.pixel.long()] = (exact.barycentric * corners[..., 2]).sum(-1)
    nearest, none = limit.clone(), len(flat)
    winner = torch.full(limit.shape, none, dtype=torch.int64, device=points.device)
    for decide_face in (False, True):
        for owner, pixel, centre in candidates(triangles, size, reach):
            outside = (screen_weights(flat[owner], centre) < 0.0).any(-1)
            owner, pixel, centre = owner[outside], pixel[outside], centre[outside]
            distance, weights = _nearest_on_triangle(flat[owner], centre)
            depth = perspective(weights, flat[owner, :, 2])[1] * (1.0 + 0.5 * distance / reach)
            front = (distance > 0.0) & (distance < reach) & (depth < limit[pixel])
            if decide_face:
                front &= depth == nearest[pixel]
                winner.scatter_reduce_(0, pixel[front], owner[front], "amin")
            else:
                nearest.scatter_reduce_(0, pixel[front], depth[front], "amin")
    pixel = torch.nonzero(winner < none)[:, 0]
    return winner[pixel], pixel


def halo(points: Tensor, topology: Topology, face_map: Tensor, reach: float) -> Tensor:
    """Fading mask (N, size, size) at the pixel centres that the mesh leaves free, 0 at the others."""
    pairs, _, _ = silhouettes(points.detach().double(), topology)
    out = torch.zeros_like(face_map, dtype=points.dtype)
    for image in range(len(points)):
        edges = topology.edges[image if len(topology.edges) > 1 else 0].long()[pairs[pairs[:, 0] == image, 1]]
        y, x = torch.nonzero(face_map[image] < 0, as_tuple=True)
        if not len(edges):
            continue
        xy = torch.stack([x, y], -1).to(points.dtype) + 0.5
        ends = points[image, :, :2][edges]
        with torch.no_grad():
            exact, where = ends.double(), xy.double()
            chunks = where.split(max(1, CHUNK // len(edges)))
            found = [nearest_on_segment(exact[:, 0], exact[:, 1], part[:, None])[0].min(1) for part in chunks]
            near = torch.cat([f.values for f in found]) < FADED * reach
            winner = torch.cat([f.indices for f in found])[near]
        distance, _ = nearest_on_segment(ends[winner, 0], ends[winner, 1], xy[near])
        out = out.index_put((torch.full_like(x[near], image), y[near], x[near]), torch.exp(-((distance / reach) ** 2)))
    return out
