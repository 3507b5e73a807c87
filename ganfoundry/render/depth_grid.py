"""Depth maps as meshes: every pixel a vertex, every square of four pixels two triangles (Unsup3d, GAN2Shape).

A depth map of the canonical view is lifted to points, moved, and drawn from the same camera with a z-buffer; the depth
drawn tells for every pixel of the new view where in the canonical view it came from.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import Backend, render
from ganfoundry.render.topology import Topology


@lru_cache(maxsize=8)
def grid_topology(height: int, width: int) -> Topology:
    """Faces of a grid of pixels, numbered row by row; seen from the camera all turn the same way."""
    index = torch.arange(height * width).view(height, width)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    quads = torch.stack([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)], 2)
    return Topology.of(quads.reshape(-1, 3), height * width)


def view_cameras(num: int, fov: float, like: Tensor) -> Cameras:
    """Cameras in their own frame: at the origin, looking along +z, x right and y down."""
    focal = 0.5 / torch.tan(torch.deg2rad(torch.tensor(0.5 * fov, dtype=like.dtype, device=like.device)))
    return Cameras(
        torch.eye(3, dtype=like.dtype, device=like.device).expand(num, 3, 3),
        like.new_zeros(num, 3),
        focal.expand(num),
        like.new_full((num, 2), 0.5),
    )


def lift(depth: Tensor, fov: float) -> Tensor:
    """Camera-frame points (N, H * W, 3) of square depth maps (N, H, W), metres; row by row."""
    if depth.ndim != 3 or depth.shape[1] != depth.shape[2]:
        raise InputError(f"depth maps are square, (N, size, size); these are {tuple(depth.shape)}")
    size = depth.shape[1]
    camera = view_cameras(1, fov, depth)
    centres = (torch.arange(size, dtype=depth.dtype, device=depth.device) + 0.5) / size - 0.5
    y, x = torch.meshgrid(centres / camera.focal, centres / camera.focal, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1)
    return (rays * depth[..., None]).flatten(1, 2)


class Motion(NamedTuple):
    """Rigid motions p -> R (p - c) + c + t of the camera frame.

    Attributes
    ----------
    rotation : Tensor, (N, 3, 3)
    translation : Tensor, (N, 3)
        Metres.
    centre : Tensor, (3,)
        What the rotation leaves where it is, metres; GAN2Shape and Unsup3d: (0, 0, 1).
    """

    rotation: Tensor
    translation: Tensor
    centre: Tensor

    @classmethod
    def from_view(cls, view: Tensor, centre_depth: float = 1.0) -> Motion:
        """Motions of views (N, 6): rotations about x, y, z in radians (R = Rz Ry Rx), then the translation."""
        rx, ry, rz = view[:, :3].unbind(-1)
        one, zero = torch.ones_like(rx), torch.zeros_like(rx)
        about_x = torch.stack([one, zero, zero, zero, rx.cos(), -rx.sin(), zero, rx.sin(), rx.cos()], -1)
        about_y = torch.stack([ry.cos(), zero, ry.sin(), zero, one, zero, -ry.sin(), zero, ry.cos()], -1)
        about_z = torch.stack([rz.cos(), -rz.sin(), zero, rz.sin(), rz.cos(), zero, zero, zero, one], -1)
        x, y, z = (turn.view(-1, 3, 3) for turn in (about_x, about_y, about_z))
        return cls(z @ y @ x, view[:, 3:], view.new_tensor([0.0, 0.0, centre_depth]))

    def apply(self, points: Tensor) -> Tensor:
        """Moved points (N, V, 3)."""
        return (points - self.centre) @ self.rotation.transpose(1, 2) + self.centre + self.translation[:, None]

    def undo(self, points: Tensor) -> Tensor:
        """Points (N, V, 3) before they were moved."""
        return (points - self.translation[:, None] - self.centre) @ self.rotation + self.centre


class Warp(NamedTuple):
    """A depth map seen from another view.

    Attributes
    ----------
    depth : Tensor, (N, size, size)
        Metres, 0 where nothing is seen; takes gradients.
    mask : Tensor, bool (N, size, size)
        Where something is seen.
    grid : Tensor, (N, size, size, 2)
        Where each pixel lies in the canonical view, x and y in [-1, 1] with the image's borders at the ends, for
        `grid_sample(..., align_corners=False)`; (2, 2), outside, where nothing is seen.
    """

    depth: Tensor
    mask: Tensor
    grid: Tensor

    def sample(self, canonical: Tensor) -> Tensor:
        """Images (N, C, size, size) of canonical images (N, C, size, size), 0 where nothing is seen."""
        seen = F.grid_sample(canonical, self.grid, mode="bilinear", padding_mode="border", align_corners=False)
        return seen * self.mask[:, None]


def warp(depth: Tensor, motion: Motion, fov: float = 10.0, *, backend: Backend = "auto") -> Warp:
    """See canonical depth maps after a motion.

    Parameters
    ----------
    depth : Tensor, (N, size, size)
        Metres, positive.
    motion : Motion
        N motions.
    fov : float
        Field of view in degrees from border to border of the image (GAN2Shape's spans pixel centres: for its angle a
        give 2 atan(size / (size - 1) tan(a / 2))).
    backend
        As in `render`.
    """
    size = depth.shape[1]
    cameras = view_cameras(len(depth), fov, depth)
    moved = motion.apply(lift(depth, fov))
    topology = grid_topology(size, size).to(depth.device)
    seen = render(moved, topology, cameras, size, silhouette="centre", backend=backend)
    mask = seen.face >= 0
    # Where nothing is seen, any positive depth will do: it is masked.
    back = cameras.project(motion.undo(lift(torch.where(mask, seen.depth, motion.centre[2]), fov)), size)[..., :2]
    grid = (2.0 * back / size - 1.0).view(*mask.shape, 2)
    return Warp(seen.depth, mask, torch.where(mask[..., None], grid, 2.0))
