"""Texture space of a template: which surface point each texel is, and what an image shows there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.regularisers import face_normals
from ganfoundry.shape.template import Template, sphere_template

_FACING = (0.15, 0.45)  # cosines to the viewing ray between which a texel goes from not seen to seen
_DEPTH_SLACK = 0.03  # of the distance to the mesh's centre: what hides a texel is at least that much nearer


@dataclass(frozen=True, eq=False)
class TexelMap:
    """The surface point of every texel centre of an H x W texture.

    Attributes
    ----------
    face : Tensor, int64 (H, W)
    barycentric : Tensor, float32 (H, W, 3)
        Weights of the face's corners.
    """

    face: Tensor
    barycentric: Tensor

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """Surface points (N, H, W, 3) of meshes with vertices (N, V, 3) and faces (F, 3)."""
        corners = vertices[:, faces[self.face]]  # (N, H, W, 3 corners, 3)
        return (corners * self.barycentric[..., None]).sum(3)


@lru_cache(maxsize=8)
def texel_map(level: int, height: int, width: int) -> TexelMap:
    """Texels of the icosphere of a level; those that no face covers, at the poles, belong to the nearest face.

    Parameters
    ----------
    level : int
    height, width : int
        Of the texture, in texels; texel (i, j) is at u = (j + 0.5) / width, v = (i + 0.5) / height.
    """
    template = sphere_template(level)
    face, weights = np.full((height, width), -1), np.zeros((height, width, 3))
    for index, corners in enumerate(template.uv[template.face_uv].astype(np.float64)):
        _cover(face, weights, index, corners * [width, height])
    _fill(face, weights, template)
    return TexelMap(torch.from_numpy(face), torch.from_numpy(weights.astype(np.float32)))


def _cover(
    face: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], index: int, corners: npt.NDArray[np.float64]
) -> None:
    """Give the texels inside a triangle (3, 2), in texels, to a face; columns beyond the width wrap around."""
    height, width = face.shape
    first, last = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    rows, columns = np.mgrid[first[1] : min(last[1], height), first[0] : last[0]]
    (ax, ay), (bx, by), (cx, cy) = corners
    x, y = columns + 0.5, rows + 0.5
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    inside = (wa >= -1e-9) & (wb >= -1e-9) & (wa + wb <= 1 + 1e-9)
    row, column = rows[inside], columns[inside] % width
    face[row, column] = index
    weights[row, column] = np.stack([wa[inside], wb[inside], 1 - wa[inside] - wb[inside]], 1)


def _fill(face: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], template: Template) -> None:
    height, width = face.shape
    row, column = np.nonzero(face < 0)
    angle, polar = ((column + 0.5) / width - 0.5) * 2 * np.pi, (row + 0.5) / height * np.pi
    place = np.stack([np.sin(polar) * np.sin(angle), np.cos(polar), np.sin(polar) * np.cos(angle)], 1)
    corners = template.vertices[template.faces].astype(np.float64)
    nearest = (place @ corners.mean(1).T).argmax(1)
    solved = np.linalg.solve(corners[nearest].transpose(0, 2, 1), place[:, :, None])[..., 0].clip(min=0)
    face[row, column], weights[row, column] = nearest, solved / solved.sum(1, keepdims=True)


def mirrored_texture(texture: Tensor) -> Tensor:
    """The texture (N, C, H, W) of the mesh mirrored in the plane x = 0."""
    return texture.flip(3)


def spread_colours(colours: Tensor, known: Tensor) -> Tensor:
    """Colours everywhere, of those known nearby: means over ever larger squares (pull-push, Gortler et al. 1996).

    Parameters
    ----------
    colours : Tensor, (N, C, H, W)
    known : Tensor, (N, 1, H, W), 0..1

    Returns
    -------
    Tensor, (N, C, H, W); 0 if nothing is known
    """
    if min(colours.shape[2:]) > 1:
        weights = F.avg_pool2d(known, 2)
        means = F.avg_pool2d(colours * known, 2) / weights.clamp(min=1e-6)
        coarse = spread_colours(means, weights.mul(4).clamp(max=1))
    else:
        coarse = (colours * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1e-6)
        coarse = coarse.expand_as(colours)
    if coarse.shape != colours.shape:
        coarse = F.interpolate(coarse, size=colours.shape[2:])
    return colours * known + coarse * (1 - known)


def unproject(
    image: Tensor,
    vertices: Tensor,
    faces: Tensor,
    cameras: Cameras,
    depth: Tensor,
    texels: TexelMap,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What an image shows of the surface: its colours in texture space, and where they were seen.

    Parameters
    ----------
    image : Tensor, (N, C, S, S)
    vertices : Tensor, (N, V, 3)
    faces : Tensor, int64 (F, 3)
    cameras : Cameras
        N cameras.
    depth : Tensor, (N, S, S)
        Of the mesh from these cameras, metres, 0 where there is none; what it hides is not seen.
    texels : TexelMap
    masks : Tensor, (N, S, S) 0..1, optional
        Where the image shows the object. A mesh that is larger than the object would take colours of the background;
        pixels at the outline are a mixture of both and count as background.

    Returns
    -------
    colours : Tensor, (N, C, H, W); 0 where the image ends
    seen : Tensor, (N, 1, H, W), 0..1; takes no gradient
    """
    size = image.shape[-1]
    points = texels.points(vertices, faces)
    height, width = points.shape[1:3]
    projected = cameras.project(points.flatten(1, 2), size).unflatten(1, (height, width))
    grid = projected[..., :2] / size * 2 - 1
    colours = F.grid_sample(image, grid, align_corners=False)
    with torch.no_grad():
        normal = face_normals(vertices, faces)[:, texels.face]
        ray = F.normalize(cameras.position[:, None, None] - points, dim=-1)
        facing = ((normal * ray).sum(-1) - _FACING[0]) / (_FACING[1] - _FACING[0])
        # The nearest of the pixels around would let texels through next to an outline: the farthest of a 3 x 3 window
        # is what a texel of the visible surface must not lie behind.
        far = F.max_pool2d(depth[:, None], 3, 1, 1)
        surface = F.grid_sample(far, grid, align_corners=False, mode="nearest")[:, 0]
        slack = _DEPTH_SLACK * cameras.position.norm(dim=-1)[:, None, None]
        shown = (surface > 0) & (projected[..., 2] <= surface + slack) & (grid.abs() <= 1).all(-1)
        seen = facing.clamp(0, 1) * shown
        if masks is not None:
            inside = 1 - F.max_pool2d(1 - masks[:, None].float(), 3, 1, 1)
            seen = seen * F.grid_sample(inside, grid, align_corners=False, mode="nearest")[:, 0]
    return colours, seen[:, None]
