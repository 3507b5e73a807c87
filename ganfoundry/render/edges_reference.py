"""Exact coverage at silhouettes, in plain PyTorch.

An edge of the mesh is a silhouette where all its drawn faces lie on the same side of it in the image. Such edges are
cut at the borders of the pixels; each piece beside whose middle no nearer face lies changes what its pixel shows: the
surface inside the edge gains a share w of the pixel, what lies right outside loses it.

Value. A pixel shows what lies at its centre c, times one. Of the area that a boundary piece pq bounds, the pixel has
the triangle c p q; its centre stands for the wedge of the pixel between the rays cp and cq. So w is the signed area of
the triangle less that of the wedge, and the sum over a closed outline is covered area minus covered centre, exactly.

Derivative. A boundary that moves by v sweeps the area of v . n over its length: dw = |pq| n . dm, m the middle of pq.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.kernels_edges import OUTSIDE, SAME_DEPTH
from ganfoundry.render.reference import CHUNK, cross, drawn, gather_faces, perspective, screen_weights
from ganfoundry.render.topology import Topology


@torch.no_grad()
def silhouettes(points: Tensor, topology: Topology) -> tuple[Tensor, Tensor, Tensor]:
    """Silhouette edges of all images, for float64 points.

    Returns
    -------
    pairs : Tensor, int64 (K, 2)
        Image and edge.
    owners, sides : Tensor, (N, E)
        Of every edge the nearest face right beside it, -1 for none, and for silhouettes the side on which its faces
        lie: +1 or -1, the sign of `cross(edge, towards the face)`.
    """
    n, count = points.shape[0], topology.edges.shape[1]
    triangles = gather_faces(points, topology.faces)
    faces = topology.faces.expand(n, -1, -1).long()
    face_edges = topology.face_edges.expand(n, -1, -1).long()
    ends = topology.edges.expand(n, -1, -1).long()[torch.arange(n, device=points.device)[:, None, None], face_edges]
    rows = torch.arange(n, device=points.device)[:, None, None]
    a, b = points[rows, ends[..., 0]], points[rows, ends[..., 1]]  # (N, F, 3, 3), by the opposite corner
    along, toward = (b - a)[..., :2], (triangles - a)[..., :2]
    side = cross(along, toward)
    exists = drawn(triangles)[..., None] & (side != 0.0)
    # 1 / z is linear over a face: how fast it grows from the edge inwards tells which of two faces is the nearer.
    length = along.norm(dim=-1)
    share = (along * toward).sum(-1) / (length * length)
    foot = (1.0 - share) / a[..., 2] + share / b[..., 2]
    slope = (1.0 / triangles[..., 2] - foot) * length / side.abs()
    slope = torch.where(exists, slope, -torch.inf).flatten(1)
    sign, index = side.sign().flatten(1), face_edges.flatten(1)
    zero = points.new_zeros(n, count)
    left = zero.scatter_reduce(1, index, (exists.flatten(1) & (sign > 0)).to(points.dtype), "amax")
    right = zero.scatter_reduce(1, index, (exists.flatten(1) & (sign < 0)).to(points.dtype), "amax")
    steepest = torch.full_like(zero, -torch.inf).scatter_reduce(1, index, slope, "amax")
    number = torch.arange(faces.shape[1], device=points.device).repeat_interleave(3).expand(n, -1)
    best = exists.flatten(1) & (slope == steepest.gather(1, index))
    none = torch.full((n, count), faces.shape[1], device=points.device)
    owner = none.scatter_reduce(1, index, torch.where(best, number, faces.shape[1]), "amin")
    image, edge = torch.nonzero(left != right, as_tuple=True)
    return torch.stack([image, edge], 1), torch.where(owner < faces.shape[1], owner, -1), left - right


def _clip(start: Tensor, step: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Part (t0, t1) of segments start + t step, 0 <= t <= 1, inside the image; t0 >= t1 where there is none."""
    t0, t1 = start.new_zeros(len(start)), start.new_ones(len(start))
    for k in range(2):
        still = step[:, k] == 0.0
        outside = still & ((start[:, k] < 0.0) | (start[:, k] > size))
        first, last = -start[:, k] / step[:, k], (size - start[:, k]) / step[:, k]
        t0 = torch.where(still, t0, torch.maximum(t0, torch.minimum(first, last)))
        t1 = torch.where(still, t1, torch.minimum(t1, torch.maximum(first, last)))
        t1 = torch.where(outside, t0, t1)
    return t0, t1


def _cut(start: Tensor, step: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut segments at the borders of the pixels: segment (S,), first and last parameter (S,) of every piece."""
    t0, t1 = _clip(start, step, size)
    alive = torch.nonzero(t0 < t1)[:, 0]
    start, step, t0, t1 = start[alive], step[alive], t0[alive], t1[alive]
    owner, cuts = [torch.arange(len(alive), device=start.device)] * 2, [t0, t1]
    for k in range(2):
        low = torch.minimum(start[:, k] + t0 * step[:, k], start[:, k] + t1 * step[:, k])
        high = torch.maximum(start[:, k] + t0 * step[:, k], start[:, k] + t1 * step[:, k])
        count = (high.ceil() - low.floor() - 1.0).clamp(min=0.0).long()
        who = torch.repeat_interleave(owner[0], count)
        nth = torch.arange(len(who), device=start.device) - (count.cumsum(0) - count)[who]
        line = low.floor()[who] + 1.0 + nth
        owner.append(who)
        cuts.append(((line - start[who, k]) / step[who, k]).clamp(t0[who], t1[who]))
    who, t = torch.cat(owner), torch.cat(cuts)
    order = t.argsort(stable=True)
    order = order[who[order].argsort(stable=True)]
    who, t = who[order], t[order]
    piece = torch.nonzero((who[1:] == who[:-1]) & (t[1:] > t[:-1]))[:, 0]
    return alive[who[piece]], t[piece], t[piece + 1]


@torch.no_grad()
def first_hit(points: Tensor, topology: Topology, image: Tensor, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest face over image points (S, 2): depth (S,), face (S,), weights (S, 3).

    Depth is infinite and the face -1 where there is none.
    """
    triangles = gather_faces(points, topology.faces)
    depth = xy.new_full((len(xy),), torch.inf)
    face = torch.full((len(xy),), -1, device=xy.device)
    weights = xy.new_zeros(len(xy), 3)
    if not triangles.shape[1]:
        return depth, face, weights
    for rows in torch.arange(len(xy), device=xy.device).split(max(1, CHUNK // triangles.shape[1])):
        around = triangles[image[rows]]  # (s, F, 3, 3)
        w = screen_weights(around, xy[rows, None])
        covers = (w >= 0.0).all(-1) & drawn(around)
        z = torch.where(covers, perspective(w, around[..., 2])[1], torch.inf)
        depth[rows], nearest = z.min(1)
        face[rows] = torch.where(depth[rows] < torch.inf, nearest, -1)
        picked = torch.arange(len(rows), device=xy.device), nearest
        weights[rows] = perspective(w[picked], around[picked][..., 2])[0]
    return depth, face, weights


def _border_position(offset: Tensor) -> Tensor:
    """Where the ray from a pixel's centre through an offset (..., 2) leaves the pixel: 0..4 along its border."""
    x, y = offset.unbind(-1)
    across = x.abs() >= y.abs()
    position = torch.where(across, 0.5 * y / x, 1.0 - 0.5 * x / y)
    return position + 2.0 * (torch.where(across, x, y) < 0.0)


def border_fragments(points: Tensor, topology: Topology, size: int) -> FragmentList:
    """What silhouettes add to the pixels that they cross and take away from them."""
    exact = points.detach().double()
    pairs, owners, sides = silhouettes(exact, topology)
    image, edge = pairs.unbind(1)
    ends = topology.edges[image if len(topology.edges) > 1 else 0, edge].long()
    a, b = exact[image, ends[:, 0]], exact[image, ends[:, 1]]
    which, t0, t1 = _cut(a[:, :2], (b - a)[:, :2], size)
    image, edge, ends, a, b = image[which], edge[which], ends[which], a[which], b[which]
    face, side = owners[image, edge], sides[image, edge]
    t = 0.5 * (t0 + t1)
    inverse = (1.0 - t) / a[:, 2] + t / b[:, 2]
    middle = torch.lerp(a, b, t[:, None])[:, :2]
    along = (b - a)[:, :2]
    outward = torch.stack([along[:, 1], -along[:, 0]], -1) * (side / along.norm(dim=-1))[:, None]
    depth, behind, behind_weights = first_hit(exact, topology, image, middle + OUTSIDE * outward)
    # The face of the edge is hidden by what is nearer, and by what touches it and has a lower index.
    gap = (depth * inverse - 1.0) / SAME_DEPTH
    seen = (gap > 1.0) | ((gap >= -1.0) & (behind > face))
    # Of faces that touch along an edge but do not share it only the nearest one right inside is seen.
    alone = torch.nonzero(topology.open_edges[image if len(topology.faces) > 1 else 0, edge])[:, 0]
    _, inner, _ = first_hit(exact, topology, image[alone], (middle - OUTSIDE * outward)[alone])
    seen[alone] &= (inner == face[alone]) | (inner < 0)
    keep = torch.nonzero(seen)[:, 0]
    image, ends, face, side, t, t0, t1 = (x[keep] for x in (image, ends, face, side, t, t0, t1))
    middle, behind, behind_weights, a, b = (x[keep] for x in (middle, behind, behind_weights, a, b))

    corner = middle.floor().clamp(0, size - 1)
    p = torch.lerp(a, b, t0[:, None])[:, :2] - corner - 0.5
    q = torch.lerp(a, b, t1[:, None])[:, :2] - corner - 0.5
    turn = _border_position(q) - _border_position(p)
    turn = turn - 4.0 * (turn / 4.0).round()
    value = side * (0.5 * cross(p, q) - 0.25 * turn)
    normal = side[:, None] * torch.stack([q[:, 1] - p[:, 1], p[:, 0] - q[:, 0]], -1)  # outward, as long as the piece
    moving = torch.lerp(points[image, ends[:, 0], :2], points[image, ends[:, 1], :2], t[:, None].to(points.dtype))
    sweep = (normal.to(points.dtype) * (moving - moving.detach())).sum(-1)
    weight = value.nan_to_num().to(points.dtype) + sweep

    edge_weights = torch.stack([(1.0 - t) / a[:, 2], t / b[:, 2]], -1)
    edge_weights = edge_weights / edge_weights.sum(-1, keepdim=True)
    corners = topology.faces[image if len(topology.faces) > 1 else 0, face].long()
    on_edge = (corners[:, :, None] == ends[:, None, :]).to(edge_weights.dtype)
    weights = (on_edge * edge_weights[:, None]).sum(-1)
    pixel = (corner[:, 1] * size + corner[:, 0]).long()
    back = torch.nonzero(behind >= 0)[:, 0]
    return FragmentList(
        torch.cat([image, image[back]]).int(),
        torch.cat([pixel, pixel[back]]).int(),
        torch.cat([face, behind[back]]).int(),
        torch.cat([weights, behind_weights[back]]).to(points.dtype),
        torch.cat([weight, -weight[back]]),
        0,
    )
