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
from ganfoundry.render.lanes import LANES
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import NEAR_PLANE


class Drawn(NamedTuple):
    """Maps and fragments; see `renderer.Rendering`. Maps of what is not there have no channels."""

    mask: Tensor
    attributes: Tensor
    image: Tensor
    depth: Tensor
    face: Tensor
    fragments: FragmentList


class Task(NamedTuple):
    """What takes no gradients: the mesh, the faces that name attributes and UV coordinates, and how to draw."""

    topology: Topology
    size: int
    silhouette: str
    reach: float
    attribute_faces: Tensor
    uv_faces: Tensor
    wrap: bool


class _Pieces(NamedTuple):
    """Pieces of silhouettes inside one pixel each; see `kernels_edges.cut`."""

    image: Any
    edge: Any
    pixel: Any
    along: Any
    middle: Any
    normal: Any
    share: Any


class _Scratches(threading.local):
    def __init__(self) -> None:
        self.kept: dict[tuple[tuple[int, ...], str], Any] = {}


_scratches = _Scratches()


def _scratch(*shape: int, dtype: str = "float64") -> Any:
    """Room for a kernel, kept for the next call: fresh memory costs as much as the kernels of a small image."""
    kept = _scratches.kept
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
        np.empty(bound, np.int32),
        np.empty(bound, np.int32),
        np.empty(bound, np.int32),
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
    inverse, hit, source = np.empty((2, room)), np.empty((2, room), np.int32), np.empty(2 * room, np.int32)
    blocks = _scratch(size // 4 + 2, size // 4 + 2, dtype="int32")
    kernels_edges.hits(
        screen, faces, boxes, size, pieces.image, pieces.middle, pieces.normal, alone, blocks, inverse, hit
    )
    used = kernels_edges.border_fragments(
        screen, faces, edges, pieces.image, pieces.edge, pieces.pixel, pieces.along, pieces.middle,
        pieces.share, owner, inverse, hit, *lists, source,
    )  # fmt: skip
    return source[:used]


class _Outline(NamedTuple):
    """What a silhouette mode leaves for its gradients; None where it is another mode's."""

    pieces: _Pieces | None = None
    source: Any = None
    layer_under: Any = None
    nearest: Any = None
    halo: Any = None


def _geometry(p: Any, task: Task) -> tuple[Any, Any, Any, list[Any], int, _Outline]:
    """Points on the screen, face map, depth, fragment lists, how many lie at centres, and the outline."""
    topology, size, n, dtype = task.topology, task.size, len(p), p.dtype
    faces, edges, face_edges = _topology_arrays(topology)
    screen, face_map = np.empty(p.shape), np.empty((n, size, size), np.int32)
    sides, boxes = np.zeros((n, edges.shape[1]), np.uint8), np.empty((n, faces.shape[1], 4), np.int32)
    kernels.screen_of(p, NEAR_PLANE, screen)
    room = size * (size + LANES)
    count = kernels.visible(
        screen, faces, face_edges, face_map, _scratch(room), _scratch(room, dtype="int32"),
        _scratch(size // 4 + 1, size // 4 + 1), np.empty((2, faces.shape[1]), np.int32), sides, boxes,
    )  # fmt: skip
    pieces = owner = None
    if task.silhouette == "edge":
        pieces, owner = _cut(screen, topology, sides, size)
    lists, depth = _lists(count + (2 * len(pieces.image) if pieces else 0), dtype), np.empty((n, size, size), dtype)
    kernels.centres(screen, faces, face_map, *lists[:4], depth)
    outline = _Outline()
    if pieces is not None:
        source = _borders(screen, topology, boxes, pieces, owner, size, [x[count:] for x in lists])
        lists = [x[: count + len(source)] for x in lists]
        outline = _Outline(pieces=pieces, source=source)
    elif task.silhouette == "margin":
        layer = np.empty((n, size, size), np.int32)
        extra = kernels_soft.margins(screen, faces, depth, task.reach, layer, _scratch(size, size))
        lists = [np.concatenate([x, y]) for x, y in zip(lists, _lists(extra, dtype), strict=True)]
        outline = _Outline(layer_under=np.empty(extra, np.int32))
        kernels_soft.margin_fragments(screen, faces, face_map, layer, task.reach, count, *lists, outline.layer_under)
    elif task.silhouette == "soft":
        outline = _Outline(nearest=np.empty((n, size, size), np.int32), halo=np.empty((n, size, size), dtype))
        kernels_soft.fade(screen, edges, sides, face_map, task.reach, outline.nearest, outline.halo)
    return screen, face_map, depth, lists, count, outline


def _lists(count: int, dtype: Any) -> list[Any]:
    """Room for a fragment list: image, pixel, face, barycentrics, weight (1)."""
    return [*(np.empty(count, np.int32) for _ in range(3)), np.empty((count, 3), dtype), np.ones(count, dtype)]


class _Draw(torch.autograd.Function):
    """All of `draw`; appends the number of fragments at pixel centres to `counts`."""

    @staticmethod
    def forward(ctx: Any, task: Task, counts: list[int], points: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        screen, face_map, depth, lists, count, outline = _geometry(_array(points), task)
        attributes, uv, texture = (_array(x) for x in values)
        n, size, dtype = len(screen), task.size, depth.dtype
        shape = (*texture.shape, task.wrap)
        inputs = (
            *lists, count, attributes, task.attribute_faces.numpy(), uv, task.uv_faces.numpy(), texture.reshape(-1),
            shape,
        )  # fmt: skip
        channels = attributes.shape[2], texture.shape[1]
        mask = np.empty((n, size * size), dtype)
        seen, looked_up = (np.empty(n * c * size * size, dtype) for c in channels)
        kernels_shading.shade(*inputs, mask, seen, looked_up)
        mask = mask.reshape(n, size, size)
        if outline.halo is not None:
            mask += outline.halo
        ctx.task, ctx.inputs, ctx.screen, ctx.outline = task, inputs, screen, outline
        ctx.shapes = [x.shape for x in (attributes, uv, texture)]
        out = [torch.from_numpy(x) for x in (mask, seen, looked_up, depth, face_map, *lists)]
        out[1:3] = (x.view(n, c, size, size) for x, c in zip(out[1:3], channels, strict=True))
        ctx.mark_non_differentiable(*out[4:8])
        ctx.set_materialize_grads(False)
        counts.append(count)
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        task, screen, (pieces, source, under, nearest, halo) = ctx.task, ctx.screen, ctx.outline
        faces, edges, _ = _topology_arrays(task.topology)
        lists, count, n = ctx.inputs[:5], ctx.inputs[5], len(screen)
        dtype, size = lists[4].dtype, task.size
        of_points = np.zeros(screen.shape)
        # One gradient for each image, summed up afterwards if the images share the value.
        room = [
            (n if asked else 0, *shape[1:]) for shape, asked in zip(ctx.shapes, ctx.needs_input_grad[3:], strict=True)
        ]
        of_values = [np.zeros(room[0], dtype), np.zeros(room[1], dtype), np.empty(room[2], dtype)]
        given = [np.empty(0, dtype) if g is None else _array(g).reshape(-1) for g in grads[:4]]
        fresh = grads[8] is None and grads[9] is None
        of_lists = [
            np.empty_like(x) if fresh else np.zeros_like(x) if g is None else np.array(_array(g))
            for x, g in zip(lists[3:], grads[8:], strict=True)
        ]
        kernels_shading.shade_backward(
            *ctx.inputs,
            screen,
            faces,
            size,
            *given,
            fresh,
            *of_lists,
            of_points,
            *of_values[:2],
            of_values[2].reshape(-1),
        )
        if source is not None:
            kernels_edges.borders_backward(
                edges, pieces.image, pieces.edge, pieces.along, pieces.normal, source, of_lists[1][count:], of_points
            )
        if under is not None:
            kernels_soft.margins_backward(
                screen, faces, size, task.reach, count, *lists[:3], under, *of_lists, of_points
            )
        if nearest is not None and grads[0] is not None:
            kernels_soft.fade_backward(screen, edges, nearest, task.reach, halo, _array(grads[0]), of_points)
        back = []
        for shape, grad in zip(ctx.shapes, of_values, strict=True):
            tensor = torch.from_numpy(grad)
            back.append((tensor if shape[0] == n else tensor.sum(0, keepdim=True)) if len(grad) else None)
        return None, None, torch.from_numpy(of_points.astype(dtype, copy=False)), *back


def draw(
    points: Tensor,
    topology: Topology,
    size: int,
    silhouette: str,
    reach: float,
    *,
    attributes: tuple[Tensor, Tensor] | None,
    uv: tuple[Tensor, Tensor] | None,
    texture: Tensor | None,
    wrap: bool,
) -> Drawn:
    """Draw points (N, V, 3), float32 or float64, in one of the silhouette modes; values as in `shading_reference`."""
    no_faces = torch.zeros((1, 0, 3), dtype=torch.int32)
    attribute_faces, uv_faces = (no_faces if x is None else x[1] for x in (attributes, uv))
    task = Task(topology, size, silhouette, float(reach), attribute_faces, uv_faces, wrap)
    counts: list[int] = []
    mask, seen, looked_up, depth, face, image, pixel, of_face, barycentric, weight = _Draw.apply(
        task,
        counts,
        points,
        points.new_zeros(1, 0, 0) if attributes is None else attributes[0],
        points.new_zeros(1, 0, 2) if uv is None else uv[0],
        points.new_zeros(1, 0, 1, 1) if texture is None else texture,
    )
    fragments = FragmentList(image, pixel, of_face, barycentric, weight, counts[0])
    return Drawn(mask, seen, looked_up, depth, face, fragments)


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
    points: Tensor = _Project.apply(size, vertices, *values)
    return points
