"""Meshes, a supersampled oracle and a comparison that tests of the differentiable renderer share."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import icosphere
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import rasterise_points

DOUBLE = torch.float64


def ball(level: int = 1, bumps: float = 0.0) -> tuple[Tensor, Topology]:
    """Icosphere of radius 1, with bumps on request, in float64."""
    vertices, faces = icosphere(level)
    vertices = vertices.double()
    if bumps:
        vertices = vertices * (1.0 + bumps * torch.sin(4.0 * vertices[:, :1]) * torch.cos(5.0 * vertices[:, 1:2]))
    return vertices, Topology.of(faces, len(vertices))


def two_balls(seed: int = 0) -> tuple[Tensor, Topology]:
    """A dented ball in front of another one."""
    vertices, topology = ball()
    noise = torch.randn(len(vertices), 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    first = vertices + 0.08 * noise
    second = 0.5 * first + torch.tensor([0.4, 0.2, 1.3], dtype=DOUBLE)
    faces = torch.cat([topology.faces[0], topology.faces[0] + len(vertices)])
    return torch.cat([first, second]), Topology.of(faces, 2 * len(vertices))


def quad(z: float, half: float = 0.5, x: float = 0.0) -> tuple[Tensor, Tensor]:
    """Square of side 2 half, parallel to the image of a camera at azimuth 0, and its two faces."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=DOUBLE) * half
    vertices = torch.cat([corners, torch.full((4, 1), z, dtype=DOUBLE)], 1) + torch.tensor([x, 0.0, 0.0], dtype=DOUBLE)
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]])


def supersampled(vertices: Tensor, values: Tensor, topology: Topology, cameras: Cameras, size: int, k: int) -> Tensor:
    """Box-filtered picture (C, size, size) of vertex values (V, C): the mean of k x k point samples a pixel."""
    points = cameras.project(vertices, size * k)[0].numpy()
    faces = topology.faces[0].numpy()
    found = rasterise_points(np.ascontiguousarray(points[:, :2]), np.ascontiguousarray(points[:, 2]), faces, size * k)
    hit = found.face >= 0
    fine = np.zeros((size * k, size * k, values.shape[1]))
    fine[hit] = np.einsum("nc,ncd->nd", found.barycentric[hit], values.numpy()[faces[found.face[hit]]])
    return torch.from_numpy(fine.reshape(size, k, size, k, -1).mean((1, 3))).permute(2, 0, 1)


def central_difference(function: Callable[[float], float], step: float) -> float:
    """Derivative at 0."""
    return (function(step) - function(-step)) / (2.0 * step)
