"""Batches of pinhole cameras whose parameters take gradients; `camera.Camera` is a single one, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ganfoundry.errors import InputError
from ganfoundry.render import kernels
from ganfoundry.render.camera import Camera

Angle = Tensor | float | Sequence[float]


@dataclass(frozen=True, eq=False)
class Cameras:
    """Where N cameras stand, where they look and how far they zoom, independent of the image size.

    Attributes
    ----------
    rotation : Tensor, (N, 3, 3)
        World to camera; the rows are the camera's right, down and forward directions (OpenCV).
    position : Tensor, (N, 3)
        World points, metres.
    focal : Tensor, (N,)
        Focal length in image sides: 0.5 / tan(fov / 2).
    centre : Tensor, (N, 2)
        Principal point x, y in image sides; (0.5, 0.5) is the middle of the image.
    """

    rotation: Tensor
    position: Tensor
    focal: Tensor
    centre: Tensor

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Cameras:
        """Some of the cameras."""
        return Cameras(self.rotation[rows], self.position[rows], self.focal[rows], self.centre[rows])

    def to(self, dtype: torch.dtype) -> Cameras:
        """The same in another precision."""
        values = self.rotation, self.position, self.focal, self.centre
        return self if all(x.dtype == dtype for x in values) else Cameras(*(x.to(dtype) for x in values))

    @classmethod
    def from_angles(
        cls,
        azimuth: Angle,
        elevation: Angle,
        distance: Angle,
        fov: Angle = 30.0,
        *,
        target: Tensor | Sequence[float] = (0.0, 0.0, 0.0),
        shift: Tensor | Sequence[float] = (0.0, 0.0),
    ) -> Self:
        """Cameras that look at a target.

        Parameters
        ----------
        azimuth, elevation : Tensor (N,) or float
            Degrees, as in docs/conventions.md.
        distance : Tensor (N,) or float
            Metres from the target.
        fov : Tensor (N,) or float
            Field of view in degrees.
        target : Tensor (N, 3) or (3,)
            World points that are in the middle of the image, metres.
        shift : Tensor (N, 2) or (2,)
            Moves the picture right and down, in image sides.

        All of them take gradients; those of one camera are shared by all.
        """
        like = next((x for x in (azimuth, elevation, distance, fov, target, shift) if isinstance(x, Tensor)), None)
        dtype, device = (torch.float32, None) if like is None else (like.dtype, like.device)

        def tensor(x: Angle) -> Tensor:
            return torch.as_tensor(x, dtype=dtype, device=device)

        goal = torch.atleast_2d(tensor(target))
        given = [*(tensor(x).reshape(-1) for x in (azimuth, elevation, distance, fov)), goal]
        n = max(len(x) for x in given)
        if any(len(x) not in (1, n) for x in given):
            sizes = ", ".join(str(len(x)) for x in given)
            raise InputError(f"azimuth, elevation, distance, fov and target come for {sizes} cameras; make them fit")
        orbit = _Orbit.apply if goal.device.type == "cpu" and dtype in _KERNEL_TYPES else _orbit
        rotation, position, focal = orbit(*given)
        return cls(rotation, position, focal, (0.5 + tensor(shift)).expand(n, 2))

    @classmethod
    def from_positions(
        cls, position: Tensor, target: Tensor | Sequence[float] = (0.0, 0.0, 0.0), fov: Angle = 30.0
    ) -> Self:
        """Cameras at world points (N, 3), metres, looking at a target with the image's up as near +Y as can be."""
        goal = torch.as_tensor(target, dtype=position.dtype, device=position.device)
        forward = goal - position
        forward = forward / forward.norm(dim=-1, keepdim=True)
        # right = forward x up, with up = +Y
        right = torch.stack([-forward[:, 2], torch.zeros_like(forward[:, 0]), forward[:, 0]], -1)
        right = right / right.norm(dim=-1, keepdim=True)
        rotation = torch.stack([right, torch.linalg.cross(forward, right, dim=-1), forward], 1)
        view = torch.deg2rad(torch.as_tensor(fov, dtype=position.dtype, device=position.device))
        focal = (0.5 / torch.tan(0.5 * view)).expand(len(position))
        return cls(rotation, position, focal, position.new_full((len(position), 2), 0.5))

    @classmethod
    def from_cameras(cls, cameras: Sequence[Camera], dtype: torch.dtype = torch.float32) -> Self:
        """The same cameras as `Camera` objects, which may differ in all but the resolution."""
        if not cameras:
            raise InputError("there is no camera to render from; give at least one")
        columns = [torch.tensor([getattr(c, name) for c in cameras], dtype=dtype) for name in _ANGLES]
        return cls.from_angles(*columns, target=torch.tensor([c.target for c in cameras], dtype=dtype))

    def world_to_camera(self, points: Tensor) -> Tensor:
        """Camera-frame points (N, V, 3) of world points (N, V, 3) or (V, 3), metres."""
        return (points - self.position[:, None]) @ self.rotation.transpose(1, 2)

    def project(self, points: Tensor, resolution: int) -> Tensor:
        """Project world points.

        Parameters
        ----------
        points : Tensor, (N, V, 3) or (V, 3)
            Metres.
        resolution : int
            Image side in pixels.

        Returns
        -------
        Tensor, (N, V, 3)
            x right and y down in pixels, the centre of the top-left pixel at (0.5, 0.5); depth in metres along the
            viewing axis. x and y mean nothing where the depth is not positive; they are finite there.
        """
        local = self.world_to_camera(points)
        depth = local[..., 2:]
        safe = torch.where(depth > 0.0, depth, 1.0)
        pixels = resolution * (self.focal[:, None, None] * local[..., :2] / safe + self.centre[:, None])
        return torch.cat([pixels, depth], -1)


_ANGLES = ("azimuth", "elevation", "distance", "fov")
_KERNEL_TYPES = (torch.float32, torch.float64)


def _orbit(azimuth: Tensor, elevation: Tensor, distance: Tensor, fov: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Rotations (N, 3, 3), positions (N, 3) and focal lengths (N,) of cameras that look at targets (1 or N, 3)."""
    n = max(len(x) for x in (azimuth, elevation, distance, fov, target))
    a, e, d, view = (x.expand(n) for x in (torch.deg2rad(azimuth), torch.deg2rad(elevation), distance, fov))
    sin_a, cos_a, sin_e, cos_e = a.sin(), a.cos(), e.sin(), e.cos()
    rows = (cos_a, torch.zeros_like(a), -sin_a, sin_e * sin_a, -cos_e, sin_e * cos_a)
    backward = torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], -1)
    rotation = torch.cat([torch.stack(rows, -1), -backward], -1).unflatten(-1, (3, 3))
    return rotation, target + d[:, None] * backward, 0.5 / torch.tan(0.5 * torch.deg2rad(view))


class _Orbit(torch.autograd.Function):
    """`_orbit` on a CPU: its thirty small steps, and as many backward, take as long as a small image."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [x.detach().contiguous().numpy() for x in inputs]
        n, dtype = max(len(x) for x in arrays), arrays[0].dtype
        out = np.empty((n, 3, 3), dtype), np.empty((n, 3), dtype), np.empty(n, dtype)
        kernels.orbit(*arrays, *out)
        ctx.arrays = arrays
        return tuple(torch.from_numpy(x) for x in out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        given = [x.contiguous().numpy() for x in grads]
        n = len(given[2])
        of_angles, of_target = np.empty((4, n), given[0].dtype), np.empty((n, 3), given[0].dtype)
        kernels.orbit_backward(*ctx.arrays[:4], *given, of_angles, of_target)
        back = (torch.from_numpy(x) for x in (*of_angles, of_target))
        return tuple(g if len(x) == n else g.sum(0, keepdim=True) for g, x in zip(back, ctx.arrays, strict=True))
