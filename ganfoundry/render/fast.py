"""The renderer on a CPU: autograd functions around the kernels, with the results and gradients of the references."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ganfoundry.render import kernels, kernels_shading
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import NEAR_PLANE


class Surface(NamedTuple):
    """What geometry gives: the fragments, depth (N, size, size) and face index (N, size, size)."""

    fragments: FragmentList
    depth: Tensor
    face: Tensor


class _Pieces(NamedTuple):
    """Pieces of silhouettes inside one pixel each; see `kernels.cut`."""

    image: Any
    edge: Any
    pixel: Any
    along: Any
    middle: Any
    normal: Any
    share: Any


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _cut(screen: Any, topology: Topology, sides: Any, size: int) -> tuple[_Pieces, Any]:
    """Pieces of all silhouettes, and the nearest face beside every edge (N, E)."""
    faces, edges, face_edges = _topology_arrays(topology)
    owner = np.empty(sides.shape, np.int32)
    room = np.empty(sides.shape[1])
    bound = kernels.silhouette_owners(screen, faces, edges, face_edges, sides, size, owner, room)
    whole = _Pieces(
        *(np.empty(bound, np.int32) for _ in range(3)),
        np.empty(bound),
        np.empty((bound, 3)),
        np.empty((bound, 2)),
        np.empty(bound),
    )
    count = kernels.cut(screen, edges, sides, owner, size, *whole)
    return _Pieces(*(x[:count] for x in whole)), owner


def _topology_arrays(topology: Topology) -> tuple[Any, Any, Any]:
    return topology.faces.numpy(), topology.edges.numpy(), topology.face_edges.numpy()


class _EdgeSurface(torch.autograd.Function):
    """Fragments at pixel centres, and at silhouettes if wanted."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, topology: Topology, size: int, borders: bool) -> tuple[Tensor, ...]:
        faces, edges, face_edges = _topology_arrays(topology)
        p = _array(points)
        n, dtype = len(p), p.dtype
        screen = np.empty(p.shape)
        kernels.screen_of(p, NEAR_PLANE, screen)
        face_map = np.empty((n, size, size), np.int32)
        sides = np.zeros((n, edges.shape[1]), np.uint8)
        count = kernels.visible(screen, faces, face_edges, face_map, np.empty((size, size)), sides)
        pieces, room = None, 0
        if borders:
            pieces, owner = _cut(screen, topology, sides, size)
            room = len(pieces.image)
        total = count + 2 * room
        image, pixel, face = (np.empty(total, np.int32) for _ in range(3))
        barycentric, weight = np.empty((total, 3), dtype), np.ones(total, dtype)
        depth = np.zeros((n, size, size), dtype)
        kernels.centres(screen, faces, face_map, image, pixel, face, barycentric, depth)
        source = np.empty(2 * room, np.int32)
        if pieces is not None:
            inverse, hit = np.empty(room), np.empty(room, np.int32)
            head, link = np.empty((size, size), np.int32), np.empty(room, np.int32)
            rows = np.empty((size, (size + 7) // 8), np.uint8)
            kernels.hits(
                screen, faces, face_edges, size, pieces.image, pieces.edge, pieces.pixel, pieces.middle,
                head, link, rows, inverse, hit,
            )  # fmt: skip
            used = kernels.border_fragments(
                screen, faces, edges, pieces.image, pieces.edge, pieces.pixel, pieces.along, pieces.middle,
                pieces.share, owner, inverse, hit,
                image[count:], pixel[count:], face[count:], barycentric[count:], weight[count:], source,
            )  # fmt: skip
            total, source = count + used, source[:used]
        ctx.state = screen, dtype, faces, edges, size, pieces, source, count
        whole = (image[:total], pixel[:total], face[:total], barycentric[:total], weight[:total], depth, face_map)
        ctx.indices = whole[:3]
        out = tuple(torch.from_numpy(x) for x in whole)
        ctx.mark_non_differentiable(*out[:3], out[6])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        screen, dtype, faces, edges, size, pieces, source, count = ctx.state
        image, pixel, face = ctx.indices
        out = np.zeros(screen.shape, dtype)
        of_weights, of_weight, of_depth = grads[3:6]
        if of_weights is not None or of_depth is not None:
            weights = np.zeros((count, 3), dtype) if of_weights is None else _array(of_weights)
            depth = np.zeros((len(screen), size, size), dtype) if of_depth is None else _array(of_depth)
            kernels.centres_backward(
                screen, faces, size, image[:count], pixel[:count], face[:count], weights, depth, out
            )
        if of_weight is not None and pieces is not None:
            kernels.borders_backward(
                edges, pieces.image, pieces.edge, pieces.along, pieces.normal, source, _array(of_weight)[count:], out
            )
        return torch.from_numpy(out), None, None, None


def surface(points: Tensor, topology: Topology, size: int, *, borders: bool) -> Surface:
    """Fragments of points (N, V, 3), float32 or float64, with those at silhouettes if `borders`."""
    *lists, depth, face = _EdgeSurface.apply(points, topology, size, borders)
    return Surface(FragmentList(*lists, int((face >= 0).sum())), depth, face)


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fragments: tuple[Tensor, Tensor, Tensor],
        images: tuple[int, int],
        faces: tuple[Tensor, Tensor],
        barycentric: Tensor,
        weight: Tensor,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        n, size = images
        arrays = [_array(x) for x in (*fragments, barycentric, weight)]
        attributes, uv, texture = (_array(x) for x in values)
        inputs = (*arrays, attributes, faces[0].numpy(), uv, faces[1].numpy(), texture.reshape(-1), texture.shape)
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
        shapes = (attributes.shape, uv.shape, texture_shape)
        of_values = [
            np.zeros((n if wanted else 0, *shape[1:]), weight.dtype)
            for shape, wanted in zip(shapes, ctx.needs_input_grad[5:], strict=True)
        ]
        of_weights, of_weight = np.empty_like(barycentric), np.empty_like(weight)
        kernels_shading.shade_backward(
            *ctx.inputs, *given, of_weights, of_weight, of_values[0], of_values[1], of_values[2].reshape(-1)
        )
        back = []
        for shape, grad in zip(shapes, of_values, strict=True):
            tensor = torch.from_numpy(grad)
            back.append((tensor if shape[0] == n else tensor.sum(0, keepdim=True)) if len(grad) else None)
        return None, None, None, torch.from_numpy(of_weights), torch.from_numpy(of_weight), *back


def shade(
    fragments: FragmentList,
    num_images: int,
    size: int,
    *,
    attributes: tuple[Tensor, Tensor] | None,
    uv: tuple[Tensor, Tensor] | None,
    texture: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mask (N, size, size) and maps (N, C, size, size) of attributes and texture; as `shading_reference.shade`."""
    weight = fragments.weight
    no_faces = torch.zeros((1, 0, 3), dtype=torch.int32)
    faces = (no_faces if attributes is None else attributes[1], no_faces if uv is None else uv[1])
    mask, seen, looked_up = _Shade.apply(
        (fragments.image, fragments.pixel, fragments.face),
        (num_images, size),
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
    """Points (N, V, 3) of vertices (1 or N, V, 3); as `Cameras.project`."""
    kind = vertices.dtype
    values = (cameras.rotation, cameras.position, cameras.focal, cameras.centre)
    return _Project.apply(size, vertices, *(x.to(kind) for x in values))
