"""The renderer on a CPU: autograd functions around the kernels, with the results and gradients of the references."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ganfoundry.render import kernels, kernels_edges, kernels_shading, kernels_soft
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import NEAR_PLANE


class Surface(NamedTuple):
    """What geometry gives: fragments, depth, face index and, if "soft", the fading mask outside (N, size, size)."""

    fragments: FragmentList
    depth: Tensor
    face: Tensor
    halo: Tensor | None


class _Pieces(NamedTuple):
    """Pieces of silhouettes inside one pixel each; see `kernels_edges.cut`."""

    image: Any
    edge: Any
    pixel: Any
    along: Any
    middle: Any
    normal: Any
    share: Any


_scratches = threading.local()


def _scratch(*shape: int, dtype: str = "float64") -> Any:
    """Room for a kernel, kept for the next call: fresh memory costs as much as the kernels of a small image."""
    kept = _scratches.__dict__
    if (shape, dtype) not in kept:
        kept[shape, dtype] = np.empty(shape, dtype)
    return kept[shape, dtype]


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _cut(screen: Any, topology: Topology, sides: Any, size: int) -> tuple[_Pieces, Any]:
    """Pieces of all silhouettes, and the nearest face beside every edge (N, E)."""
    faces, edges, face_edges = _topology_arrays(topology)
    owner = np.empty(sides.shape, np.int32)
    room = np.empty(sides.shape[1])
    bound = kernels_edges.silhouette_owners(screen, faces, edges, face_edges, sides, size, owner, room)
    whole = _Pieces(
        *(np.empty(bound, np.int32) for _ in range(3)),
        np.empty(bound),
        np.empty((bound, 3)),
        np.empty((bound, 2)),
        np.empty(bound),
    )
    count = kernels_edges.cut(screen, edges, sides, owner, size, *whole)
    return _Pieces(*(x[:count] for x in whole)), owner


def _topology_arrays(topology: Topology) -> tuple[Any, Any, Any]:
    return topology.faces.numpy(), topology.edges.numpy(), topology.face_edges.numpy()


def _borders(
    screen: Any, topology: Topology, boxes: Any, pieces: _Pieces, owner: Any, size: int, lists: list[Any]
) -> Any:
    """Write the border fragments to the lists; the piece that each comes from, see `kernels_edges.border_fragments`."""
    faces, edges, _ = _topology_arrays(topology)
    room = len(pieces.image)
    alone = topology.open_edges.numpy()[pieces.image if len(faces) > 1 else 0, pieces.edge]
    inverse, source = np.empty((room, 2)), np.empty(2 * room, np.int32)
    link, hit, inner = (np.empty(room, np.int32) for _ in range(3))
    head, blocks = _scratch(size, size, dtype="int32"), _scratch(size // 4 + 2, size // 4 + 2, dtype="int32")
    kernels_edges.hits(
        screen, faces, boxes, size, pieces.image, pieces.middle, pieces.normal, alone,
        head, link, blocks, inverse, hit, inner,
    )  # fmt: skip
    used = kernels_edges.border_fragments(
        screen, faces, edges, pieces.image, pieces.edge, pieces.pixel, pieces.along, pieces.middle,
        pieces.share, owner, inverse, hit, inner, *lists, source,
    )  # fmt: skip
    return source[:used]


class _Surface(torch.autograd.Function):
    """Fragments, depth, faces and halo of points; appends the number of fragments at pixel centres to `counts`."""

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, topology: Topology, size: int, silhouette: str, reach: float, counts: list[int]
    ) -> tuple[Tensor, ...]:
        faces, edges, face_edges = _topology_arrays(topology)
        p = _array(points)
        n, dtype = len(p), p.dtype
        screen, face_map = np.empty(p.shape), np.empty((n, size, size), np.int32)
        sides = np.zeros((n, edges.shape[1]), np.uint8)
        kernels.screen_of(p, NEAR_PLANE, screen)
        room, blocks = _scratch(size, size), _scratch(size // 4 + 1, size // 4 + 1)
        boxes = np.empty((n, faces.shape[1], 4), np.int32)
        count = kernels.visible(screen, faces, face_edges, face_map, room, blocks, sides, boxes)

        pieces = layer = owner = None
        extra = 0
        if silhouette == "edge":
            pieces, owner = _cut(screen, topology, sides, size)
            extra = 2 * len(pieces.image)
        depth = np.zeros((n, size, size), dtype)
        lists = _lists(count + extra, dtype)
        kernels.centres(screen, faces, face_map, *lists[:4], depth)
        if silhouette == "margin":
            layer = np.empty((n, size, size), np.int32)
            extra = kernels_soft.margins(screen, faces, depth, reach, layer, room)
            lists = [np.concatenate([x, y]) for x, y in zip(lists, _lists(extra, dtype), strict=True)]
        tail = [x[count:] for x in lists]
        source = under = nearest = None
        halo = np.zeros((0, size, size), dtype)
        if pieces is not None:
            source = _borders(screen, topology, boxes, pieces, owner, size, tail)
            lists = [x[: count + len(source)] for x in lists]
        elif layer is not None:
            under = np.empty(extra, np.int32)
            kernels_soft.margin_fragments(screen, faces, face_map, layer, reach, count, *lists, under)
        elif silhouette == "soft":
            nearest, halo = np.empty((n, size, size), np.int32), np.empty((n, size, size), dtype)
            kernels_soft.fade(screen, edges, sides, face_map, reach, nearest, halo)
        ctx.state = screen, dtype, topology, face_map, reach, count, lists[:3], pieces, source, under, nearest, halo
        out = tuple(torch.from_numpy(x) for x in (*lists, depth, face_map, halo))
        ctx.mark_non_differentiable(*out[:3], out[6])
        ctx.set_materialize_grads(False)
        counts.append(count)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        screen, dtype, topology, face_map, reach, count, lists, pieces, source, under, nearest, halo = ctx.state
        faces, edges, _ = _topology_arrays(topology)
        out = np.zeros(screen.shape, dtype)
        total, size = len(lists[0]), face_map.shape[1]

        def given(grad: Tensor | None, *shape: int) -> Any:
            return np.zeros(shape, dtype) if grad is None else _array(grad)

        if grads[3] is not None or grads[5] is not None:
            weights, of_depth = given(grads[3], total, 3), given(grads[5], len(screen), size, size)
            kernels.centres_backward(screen, faces, face_map, weights, of_depth, out)
        if source is not None and grads[4] is not None:
            of_weight = _array(grads[4])[count:]
            kernels_edges.borders_backward(
                edges, pieces.image, pieces.edge, pieces.along, pieces.normal, source, of_weight, out
            )
        if under is not None and (grads[3] is not None or grads[4] is not None):
            weights, of_weight = given(grads[3], total, 3), given(grads[4], total)
            kernels_soft.margins_backward(screen, faces, size, reach, count, *lists, under, weights, of_weight, out)
        if nearest is not None and grads[7] is not None:
            kernels_soft.fade_backward(screen, edges, nearest, reach, halo, _array(grads[7]), out)
        return torch.from_numpy(out), None, None, None, None, None


def _lists(count: int, dtype: Any) -> list[Any]:
    """Room for a fragment list: image, pixel, face, barycentrics, weight (1)."""
    return [*(np.empty(count, np.int32) for _ in range(3)), np.empty((count, 3), dtype), np.ones(count, dtype)]


def surface(points: Tensor, topology: Topology, size: int, silhouette: str, reach: float) -> Surface:
    """Fragments of points (N, V, 3), float32 or float64, in one of the silhouette modes."""
    counts: list[int] = []
    *lists, depth, face, halo = _Surface.apply(points, topology, size, silhouette, float(reach), counts)
    return Surface(FragmentList(*lists, counts[0]), depth, face, halo if len(halo) else None)


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fragments: tuple[Tensor, Tensor, Tensor],
        images: tuple[int, int],
        wrap: bool,
        faces: tuple[Tensor, Tensor],
        barycentric: Tensor,
        weight: Tensor,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        n, size = images
        arrays = [_array(x) for x in (*fragments, barycentric, weight)]
        attributes, uv, texture = (_array(x) for x in values)
        inputs = (
            *arrays,
            attributes,
            faces[0].numpy(),
            uv,
            faces[1].numpy(),
            texture.reshape(-1),
            (*texture.shape, wrap),
        )
        dtype = arrays[3].dtype
        channels = (attributes.shape[2], texture.shape[1])
        mask = np.zeros((n, size * size), dtype)
        seen, looked_up = (np.zeros(n * c * size * size, dtype) for c in channels)
        kernels_shading.shade(*inputs, mask, seen, looked_up)
        ctx.inputs, ctx.shapes = inputs, [(n, size * size)] + [(n * c * size * size,) for c in channels]
        ctx.set_materialize_grads(False)
        return (
            torch.from_numpy(mask).view(n, size, size),
            torch.from_numpy(seen).view(n, channels[0], size, size),
            torch.from_numpy(looked_up).view(n, channels[1], size, size),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        barycentric, weight, attributes, _, uv, _, _, texture_shape = ctx.inputs[3:]
        given = [
            np.zeros(shape, weight.dtype) if g is None else _array(g).reshape(shape)
            for g, shape in zip(grads, ctx.shapes, strict=True)
        ]
        n = ctx.shapes[0][0]
        # One gradient for each image, summed up afterwards if the images share the value.
        shapes = (attributes.shape, uv.shape, texture_shape[:4])
        of_values = [
            np.zeros((n if wanted else 0, *shape[1:]), weight.dtype)
            for shape, wanted in zip(shapes, ctx.needs_input_grad[6:], strict=True)
        ]
        of_weights, of_weight = np.empty_like(barycentric), np.empty_like(weight)
        kernels_shading.shade_backward(
            *ctx.inputs, *given, of_weights, of_weight, of_values[0], of_values[1], of_values[2].reshape(-1)
        )
        back = []
        for shape, grad in zip(shapes, of_values, strict=True):
            tensor = torch.from_numpy(grad)
            back.append((tensor if shape[0] == n else tensor.sum(0, keepdim=True)) if len(grad) else None)
        return None, None, None, None, torch.from_numpy(of_weights), torch.from_numpy(of_weight), *back


def shade(
    fragments: FragmentList,
    num_images: int,
    size: int,
    *,
    attributes: tuple[Tensor, Tensor] | None,
    uv: tuple[Tensor, Tensor] | None,
    texture: Tensor | None,
    wrap: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mask (N, size, size) and maps (N, C, size, size) of attributes and texture; as `shading_reference.shade`."""
    weight = fragments.weight
    no_faces = torch.zeros((1, 0, 3), dtype=torch.int32)
    faces = (no_faces if attributes is None else attributes[1], no_faces if uv is None else uv[1])
    mask, seen, looked_up = _Shade.apply(
        (fragments.image, fragments.pixel, fragments.face),
        (num_images, size),
        wrap,
        faces,
        fragments.barycentric,
        weight,
        weight.new_zeros(1, 0, 0) if attributes is None else attributes[0],
        weight.new_zeros(1, 0, 2) if uv is None else uv[0],
        weight.new_zeros(1, 0, 1, 1) if texture is None else texture,
    )
    return mask, None if attributes is None else seen, None if texture is None else looked_up


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, size: int, *inputs: Tensor) -> Tensor:
        arrays = [_array(x) for x in inputs]
        vertices, rotation = arrays[:2]
        points = np.empty((max(len(vertices), len(rotation)), *vertices.shape[1:]), vertices.dtype)
        kernels.project(*arrays, size, points)
        ctx.inputs, ctx.size = arrays, size
        return torch.from_numpy(points)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        n = len(grad)
        out = [np.empty((n, *x.shape[1:]), x.dtype) for x in ctx.inputs]
        kernels.project_backward(*ctx.inputs[:4], ctx.size, _array(grad), *out)
        tensors = (torch.from_numpy(x) for x in out)
        pairs = zip(tensors, ctx.inputs, strict=True)
        return None, *(t if len(x) == n else t.sum(0, keepdim=True) for t, x in pairs)


def project(vertices: Tensor, cameras: Cameras, size: int) -> Tensor:
    """Points (N, V, 3) of vertices (1 or N, V, 3); as `Cameras.project`, all of one precision."""
    values = (cameras.rotation, cameras.position, cameras.focal, cameras.centre)
    return _Project.apply(size, vertices, *values)
