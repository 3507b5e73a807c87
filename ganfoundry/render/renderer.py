"""Differentiable rendering of triangle meshes: see docs/renderer.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.render import edges_reference, fast, margin_reference, pytorch3d_backend, reference, shading_reference
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.fragments import FragmentList, join
from ganfoundry.render.topology import Topology

Silhouette = Literal["edge", "soft", "margin", "centre"]
Backend = Literal["auto", "numba", "torch", "pytorch3d"]


@dataclass(frozen=True, eq=False)
class Rendering:
    """Maps of N images, `size` pixels a side.

    Attributes
    ----------
    mask : Tensor, (N, size, size)
        Share of the pixel that the mesh covers, 0..1.
    image : Tensor, (N, C, size, size), or None
        The texture as seen, times the mask: `image + (1 - mask[:, None]) * background` puts it on a background.
    attributes : Tensor, (N, A, size, size), or None
        Vertex attributes as seen, times the mask.
    depth : Tensor, (N, size, size)
        Metres along the viewing axis at the pixel centres, 0 where there is no mesh.
    face : Tensor, int32 (N, size, size)
        Index of the face at the pixel centres, -1 where there is none.
    fragments : FragmentList
        All of it before it was summed up; `ganfoundry.render.maps` reads more off it.
    """

    mask: Tensor
    image: Tensor | None
    attributes: Tensor | None
    depth: Tensor
    face: Tensor
    fragments: FragmentList


def render(
    vertices: Tensor,
    faces: Tensor | Topology,
    cameras: Cameras,
    size: int,
    *,
    attributes: Tensor | None = None,
    texture: Tensor | None = None,
    uv: Tensor | None = None,
    uv_faces: Tensor | None = None,
    wrap_u: bool = False,
    silhouette: Silhouette = "edge",
    reach: float | None = None,
    backend: Backend = "auto",
) -> Rendering:
    """Draw a batch of meshes.

    Gradients flow to the vertices, the attributes, the texture, the UV coordinates and the cameras. All is computed in
    the vertices' precision, float32 at least, also under autocast.

    Parameters
    ----------
    vertices : Tensor, (N, V, 3) or (V, 3)
        World points, metres; one mesh is seen by all cameras.
    faces : Topology, or int Tensor (F, 3) or (N, F, 3)
        Vertex indices. Give a `Topology` when the same faces are drawn often: finding the edges takes longer than a
        small image. Faces must share vertices where the surface goes on.
    cameras : Cameras
        N cameras, or one for all meshes.
    size : int
        Image side in pixels.
    attributes : Tensor, (N, V, A) or (V, A)
        Values at the vertices: colours, part logits, normals.
    texture : Tensor, (N, C, H, W) or (C, H, W)
        Sampled bilinearly at the interpolated UV coordinates; the upper left corner is (0, 0).
    uv : Tensor, (N, T, 2) or (T, 2)
        UV coordinates; needed with a texture.
    uv_faces : Tensor, (F, 3)
        Rows of `uv` at the corners of the faces, where they differ from the vertices (seams).
    wrap_u : bool
        The texture goes round: its right border meets its left one. Else borders are repeated outside.
    silhouette : "edge", "soft", "margin" or "centre"
        How the outline takes gradients. "edge": pixels on outlines, against the background or what lies behind, get
        their exact share of both. "soft": the mask fades outside the mesh (DIB-R), so that it pulls from afar; colours
        take no gradient there. "margin": triangles fade over a margin in front of what they border on (Szabo et al.).
        "centre": pixels show what lies at their centres, and outlines take no gradients.
    reach : float, optional
        Pixels over which "soft" fades (to 1 / e; default: a sixteenth of the image) and "margin" (to 0; default: 1).
    backend : "auto", "numba", "torch" or "pytorch3d"
        "auto" takes the kernels on a CPU and PyTorch elsewhere; "pytorch3d" is PyTorch with its z-buffer.

    Raises
    ------
    InputError
        If shapes do not fit together or a vertex is not a finite number.
    """
    if backend not in get_args(Backend):
        raise InputError(f"there is no backend {backend!r}; choose auto, numba, torch or pytorch3d")
    if silhouette not in get_args(Silhouette):
        raise InputError(f"there is no silhouette mode {silhouette!r}; choose edge, soft, margin or centre")
    kind = vertices.device.type
    if backend == "numba" and kind != "cpu":
        raise InputError(f"the numba kernels run on a CPU and the vertices are on {kind}; choose backend torch")
    fast_cpu = backend == "numba" or (backend == "auto" and kind == "cpu")
    if reach is None:
        reach = 1.0 if silhouette == "margin" else size / 16.0
    with torch.autocast(kind, enabled=False):
        scene = _prepare(vertices, faces, cameras, size, attributes, texture, uv, uv_faces, wrap_u, fast_cpu=fast_cpu)
        if fast_cpu:
            return _draw_fast(scene, size, silhouette, reach)
        return _draw_reference(scene, size, silhouette, reach, backend)


def _draw_fast(scene: _Scene, size: int, silhouette: Silhouette, reach: float) -> Rendering:
    seen = fast.draw(
        scene.points,
        scene.topology,
        size,
        silhouette,
        reach,
        attributes=scene.attributes,
        uv=scene.uv,
        texture=scene.texture,
        wrap=scene.wrap,
    )
    image = None if scene.texture is None else seen.image
    attributes = None if scene.attributes is None else seen.attributes
    return Rendering(seen.mask, image, attributes, seen.depth, seen.face, seen.fragments)


def _draw_reference(scene: _Scene, size: int, silhouette: Silhouette, reach: float, backend: Backend) -> Rendering:
    n, points, topology = len(scene.points), scene.points, scene.topology
    find = pytorch3d_backend.visible_faces if backend == "pytorch3d" else reference.visible_faces
    face_map = find(points, topology, size)
    centres = reference.centre_fragments(points, topology, face_map)
    fragments = centres
    if silhouette == "edge":
        fragments = join(centres, edges_reference.border_fragments(points, topology, size))
    elif silhouette == "margin":
        fragments = margin_reference.margin_fragments(points, topology, centres, size, reach)
    mask, attributes, image = shading_reference.shade(
        fragments, n, size, attributes=scene.attributes, uv=scene.uv, texture=scene.texture, wrap=scene.wrap
    )
    if silhouette == "soft":
        mask = mask + margin_reference.halo(points, topology, face_map, reach)
    depths = shading_reference.interpolate(centres, points[..., 2:], topology.faces)
    depth = shading_reference.splat(centres, depths, n, size)[:, 0]
    return Rendering(mask, image, attributes, depth, face_map, fragments)


class _Scene(NamedTuple):
    """Checked inputs, all with a batch dimension; values with the faces that name them."""

    points: Tensor
    topology: Topology
    attributes: tuple[Tensor, Tensor] | None
    uv: tuple[Tensor, Tensor] | None
    texture: Tensor | None
    wrap: bool


def _prepare(
    vertices: Tensor,
    faces: Tensor | Topology,
    cameras: Cameras,
    size: int,
    attributes: Tensor | None,
    texture: Tensor | None,
    uv: Tensor | None,
    uv_faces: Tensor | None,
    wrap_u: bool,
    *,
    fast_cpu: bool,
) -> _Scene:
    if size < 1:
        raise InputError(f"an image of {size} pixels a side cannot be drawn; choose a positive size")
    vertices = _batched("vertices", vertices, 3, "(N, V, 3) or (V, 3)", last=3)
    topology = faces if isinstance(faces, Topology) else Topology.of(faces, vertices.shape[1])
    if topology.num_vertices != vertices.shape[1]:
        raise InputError(
            f"{vertices.shape[1]} vertices do not fit faces made for {topology.num_vertices}; use their own"
        )
    topology = topology.to(vertices.device)
    kind = torch.float64 if vertices.dtype == torch.float64 else torch.float32
    vertices, cameras = vertices.to(kind), cameras.to(kind)
    if len(vertices) != len(cameras) and 1 not in (len(vertices), len(cameras)):
        raise InputError(f"{len(vertices)} meshes do not fit {len(cameras)} cameras; give one for each, or one for all")
    points = fast.project(vertices, cameras, size) if fast_cpu else cameras.project(vertices, size)
    if not _finite(points):
        raise InputError(
            "vertices or cameras hold numbers that are not finite; the step before made them so (too large?)"
        )
    n = len(points)
    attributes, uv, texture = (None if x is None else x.to(kind) for x in (attributes, uv, texture))
    given: dict[str, Tensor] = {"faces": topology.faces}
    pair_attributes = pair_uv = None
    if attributes is not None:
        given["attributes"] = _batched("attributes", attributes, 3, "(N, V, A) or (V, A)")
        if given["attributes"].shape[1] != vertices.shape[1]:
            raise InputError(
                f"attributes {tuple(attributes.shape)} are not one row a vertex; there are {vertices.shape[1]}"
            )
        pair_attributes = given["attributes"], topology.faces
    if (texture is None) != (uv is None):
        raise InputError("a texture needs uv, and uv a texture; give both or neither")
    if texture is not None and uv is not None:
        given["texture"] = texture = _batched("texture", texture, 4, "(N, C, H, W) or (C, H, W)")
        given["uv"] = uv = _batched("uv", uv, 3, "(N, T, 2) or (T, 2)", last=2)
        if not _finite(uv):
            raise InputError("uv holds numbers that are not finite; the step before made them so")
        pair_uv = uv, topology.faces if uv_faces is None else _check_uv_faces(uv_faces, topology, uv.shape[1])
        if uv_faces is None and uv.shape[1] != vertices.shape[1]:
            raise InputError(f"uv {tuple(uv.shape)} is not one row a vertex; give uv_faces as well")
    for name, values in given.items():
        if len(values) not in (1, n):
            raise InputError(f"{name} come for {len(values)} images, vertices and cameras for {n}; make them fit")
    return _Scene(points, topology, pair_attributes, pair_uv, texture, wrap_u)


def _finite(values: Tensor) -> bool:
    # The sum tells at once, unless it overflows.
    values = values.detach()
    return math.isfinite(float(values.sum())) or bool(torch.isfinite(values).all())


def _batched(name: str, values: Tensor, ndim: int, wanted: str, last: int | None = None) -> Tensor:
    batched = values if values.ndim == ndim else values[None]
    if batched.ndim != ndim or (last is not None and batched.shape[-1] != last):
        raise InputError(f"{name} have the shape {tuple(values.shape)}; give {wanted}")
    return batched


def _check_uv_faces(uv_faces: Tensor, topology: Topology, rows: int) -> Tensor:
    if uv_faces.shape != topology.faces.shape[1:]:
        raise InputError(f"uv_faces {tuple(uv_faces.shape)} are not one row a face {tuple(topology.faces.shape[1:])}")
    if uv_faces.numel() and (int(uv_faces.min()) < 0 or int(uv_faces.max()) >= rows):
        raise InputError(f"uv_faces name a row outside 0..{rows - 1}; check them against uv")
    return uv_faces[None].to(topology.faces.device, torch.int32)
