"""Gradients of the renderer against central differences of pictures with 144 samples a pixel."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import icosphere
from ganfoundry.render.renderer import Silhouette, render
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import rasterise_points

SAMPLES = 12
STEP = 1e-2
Pose = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Vertices, azimuth, elevation, distance, field of view."""


def lumpy_ball(level: int = 3) -> tuple[Tensor, Topology]:
    """Ellipsoid with bumps and dents, float64."""
    vertices, faces = icosphere(level)
    vertices = vertices.double() * torch.tensor([1.0, 0.6, 0.8], dtype=torch.float64)
    vertices = vertices * (1.0 + 0.15 * torch.sin(4.0 * vertices[:, :1]) * torch.cos(5.0 * vertices[:, 1:2]))
    return vertices, Topology.of(faces, len(vertices))


def motions(vertices: Tensor, azimuth: Tensor, centre: Tensor) -> dict[str, Callable[[Tensor], Pose]]:
    """What may change, by how much for a parameter of 1; "bump" is the one that is not global."""
    rest = (azimuth, azimuth.new_tensor(15.0), azimuth.new_tensor(4.0), azimuth.new_tensor(40.0))
    right = vertices.new_tensor([1.0, 0.0, 0.0])
    near = torch.exp(-(vertices - centre).square().sum(1, keepdim=True) / 0.1)

    def turned(e: Tensor) -> Tensor:
        x, y, z = vertices.unbind(1)
        return torch.stack([x * e.cos() - y * e.sin(), x * e.sin() + y * e.cos(), z], 1)

    return {
        "translate": lambda e: (vertices + e * right, *rest),
        "scale": lambda e: (vertices * (1.0 + e), *rest),
        "rotate": lambda e: (turned(e), *rest),
        "azimuth": lambda e: (vertices, rest[0] + torch.rad2deg(e), *rest[1:]),
        "elevation": lambda e: (vertices, rest[0], rest[1] + torch.rad2deg(e), *rest[2:]),
        "distance": lambda e: (vertices, *rest[:2], rest[2] * (1.0 + e), rest[3]),
        "fov": lambda e: (vertices, *rest[:3], rest[3] * (1.0 + e)),
        "bump": lambda e: (vertices * (1.0 + e * near), *rest),
    }


def channels(
    kind: str, vertices: Tensor, topology: Topology, random: torch.Generator
) -> tuple[Tensor, Tensor, Topology]:
    """Values (T, C), the vertices (T,) that they belong to, and the faces of those.

    "mask" is one everywhere, "colour" has smooth waves, "label" one of four parts for each face, one-hot: faces with
    values of their own have vertices of their own.
    """
    rows = torch.arange(len(vertices))
    if kind == "mask":
        return torch.ones(len(vertices), 1, dtype=vertices.dtype), rows, topology
    waves = torch.sin(2.0 * vertices @ torch.randn(3, 4, generator=random, dtype=vertices.dtype))
    if kind == "colour":
        return 0.5 * waves[:, :3] + 0.5, rows, topology
    faces = topology.faces[0].long()
    parts = F.one_hot(waves[faces].mean(1).argmax(1), 4).to(vertices).repeat_interleave(3, 0)
    return parts, faces.flatten(), Topology.of(torch.arange(faces.numel()).view(-1, 3), faces.numel())


def supersampled(pose: Pose, values: Tensor, topology: Topology, size: int) -> Tensor:
    """Box-filtered picture (C, size, size)."""
    fine = size * SAMPLES
    points = Cameras.from_angles(*pose[1:]).project(pose[0], fine)[0].numpy()
    faces = topology.faces[0].numpy()
    found = rasterise_points(points[:, :2].copy(), points[:, 2].copy(), faces, fine)
    hit = found.face >= 0
    picture = np.zeros((fine, fine, values.shape[1]))
    picture[hit] = np.einsum("nc,ncd->nd", found.barycentric[hit], values.numpy()[faces[found.face[hit]]])
    return torch.from_numpy(picture.reshape(size, SAMPLES, size, SAMPLES, -1).mean((1, 3))).permute(2, 0, 1)


def gradient_errors(
    size: int, trials: int, kinds: tuple[str, ...] = ("mask", "colour", "label"), silhouette: Silhouette = "edge"
) -> dict[tuple[str, str], tuple[float, float]]:
    """Compare derivatives of a random smooth weighting of the picture over random views.

    Returns
    -------
    dict
        By kind of channel and motion: relative error (root of the summed squares over that of the differences) and
        slope of the regression on the differences (1 is unbiased).
    """
    random = torch.Generator().manual_seed(3)
    vertices, topology = lumpy_ball()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(trials):
        azimuth = 360.0 * torch.rand((), generator=random, dtype=torch.float64)
        centre = vertices[torch.randint(len(vertices), (), generator=random)]
        for kind in kinds:
            values, rows, faces = channels(kind, vertices, topology, random)
            coarse = torch.randn(1, values.shape[1], 6, 6, generator=random, dtype=torch.float64)
            weights = F.interpolate(coarse, size=(size, size), mode="bicubic")[0]
            for name, motion in motions(vertices, azimuth, centre).items():
                e = torch.zeros((), dtype=torch.float64, requires_grad=True)
                pose = motion(e)
                cameras = Cameras.from_angles(*pose[1:])
                seen = render(pose[0][rows], faces, cameras, size, attributes=values, silhouette=silhouette)
                assert seen.attributes is not None
                ours = torch.autograd.grad((weights * seen.attributes[0]).sum(), e)[0]
                with torch.no_grad():
                    moved = (motion(e + step) for step in (STEP, -STEP))
                    after, before = (
                        (weights * supersampled((p[0][rows], *p[1:]), values, faces, size)).sum() for p in moved
                    )
                found.setdefault((kind, name), []).append((float(ours), float((after - before) / (2.0 * STEP))))
    table = {}
    for key, pairs in found.items():
        ours, true = torch.tensor(pairs, dtype=torch.float64).unbind(1)
        table[key] = (float((ours - true).norm() / true.norm()), float((ours * true).sum() / true.square().sum()))
    return table
