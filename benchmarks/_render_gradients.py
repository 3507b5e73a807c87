"""Gradients of the renderer against central differences of pictures that a simpler program draws.

An outline of flat faces has corners, and as it turns its edges take turns on it: what it covers has kinks. A difference
over a degree mixes what lies on both sides of them, so steps must be small, and then areas exact. Masks are therefore
drawn as areas, from lines whose covered parts are known exactly; colours and labels from samples. How far the
differences themselves are from converged is measured with coarser ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import icosphere
from ganfoundry.render.renderer import Silhouette, render
from ganfoundry.render.topology import Topology
from ganfoundry.render.zbuffer import rasterise_points

SAMPLES, STEP = 12, 1e-2
"""Samples along a pixel's side, and the step of the differences, for colours and labels."""
LINES, LINE_STEP = 400, 1e-3
"""Lines through a pixel, and the step, for masks."""
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


class Comparison(NamedTuple):
    """Of derivatives over some views.

    Attributes
    ----------
    error : float
        Root of the summed squares of the errors over that of the differences.
    slope : float
        Of the regression on the differences; 1 is unbiased.
    own_error : float
        Like `error`, of differences with twice the step and half as fine against those that are compared with.
    """

    error: float
    slope: float
    own_error: float


@numba.njit(cache=True)
def _covered(points, faces, size, lines):  # type: ignore[no-untyped-def]
    area = np.zeros((size, size))
    number, first = np.zeros(size * lines + 1, np.int64), np.zeros(size * lines + 1, np.int64)
    starts, ends = np.empty(0), np.empty(0)
    for count_only in (True, False):
        if not count_only:
            first[1:] = np.cumsum(number[:-1])
            starts, ends = np.empty(first[-1]), np.empty(first[-1])
            number[:] = 0
        for f in range(len(faces)):
            low, high = points[faces[f], 1].min(), points[faces[f], 1].max()
            for line in range(max(0, int(np.ceil(low * lines - 0.5))), min(size * lines, int(high * lines + 0.5))):
                y, left, right = (line + 0.5) / lines, np.inf, -np.inf
                for k in range(3):
                    a, b = points[faces[f, k]], points[faces[f, (k + 1) % 3]]
                    if (a[1] <= y) != (b[1] <= y):
                        x = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
                        left, right = min(left, x), max(right, x)
                if left < right:
                    if not count_only:
                        at = first[line] + number[line]
                        starts[at], ends[at] = left, right
                    number[line] += 1
    for line in range(size * lines):
        reached = 0.0
        some = slice(first[line], first[line] + number[line])
        for k in np.argsort(starts[some]):
            left, right = max(starts[some][k], reached), min(ends[some][k], float(size))
            reached = max(reached, right)
            while left < right:
                border = min(np.floor(left) + 1.0, right)
                area[line // lines, int(left)] += (border - left) / lines
                left = border
    return area


def covered(pose: Pose, topology: Topology, size: int, lines: int) -> Tensor:
    """Share (1, size, size) of the pixels that a mesh covers, exact along some lines through each."""
    points = Cameras.from_angles(*pose[1:]).project(pose[0], size)[0].numpy()
    return torch.from_numpy(_covered(points, topology.faces[0].numpy(), size, lines))[None]


def supersampled(pose: Pose, values: Tensor, topology: Topology, size: int, samples: int) -> Tensor:
    """Box-filtered picture (C, size, size)."""
    fine = size * samples
    points = Cameras.from_angles(*pose[1:]).project(pose[0], fine)[0].numpy()
    faces = topology.faces[0].numpy()
    found = rasterise_points(points[:, :2].copy(), points[:, 2].copy(), faces, fine)
    hit = found.face >= 0
    picture = np.zeros((fine, fine, values.shape[1]))
    picture[hit] = np.einsum("nc,ncd->nd", found.barycentric[hit], values.numpy()[faces[found.face[hit]]])
    return torch.from_numpy(picture.reshape(size, samples, size, samples, -1).mean((1, 3))).permute(2, 0, 1)


@torch.no_grad()
def difference(
    motion: Callable[[Tensor], Pose], kind: str, values: Tensor, rows: Tensor, faces: Topology, weights: Tensor,
    coarser: int = 1,
) -> float:  # fmt: skip
    """Central difference of a weighted picture along a motion, or one with a larger step and fewer samples."""
    step, size = coarser * (LINE_STEP if kind == "mask" else STEP), weights.shape[-1]
    sums = []
    for e in (step, -step):
        vertices, azimuth, elevation, distance, fov = motion(torch.tensor(e, dtype=torch.float64))
        pose = vertices[rows], azimuth, elevation, distance, fov
        if kind == "mask":
            picture = covered(pose, faces, size, LINES // coarser)
        else:
            picture = supersampled(pose, values, faces, size, SAMPLES // coarser)
        sums.append(float((weights * picture).sum()))
    return (sums[0] - sums[1]) / (2.0 * step)


def gradient_errors(
    size: int, trials: int, kinds: tuple[str, ...] = ("mask", "colour", "label"), silhouette: Silhouette = "edge"
) -> dict[tuple[str, str], Comparison]:
    """Compare derivatives of a random smooth weighting of the picture over random views, by kind and motion."""
    random = torch.Generator().manual_seed(3)
    vertices, topology = lumpy_ball()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
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
                fine, rough = (difference(motion, kind, values, rows, faces, weights, k) for k in (1, 2))
                found.setdefault((kind, name), []).append((float(ours), fine, rough))
    table = {}
    for key, triples in found.items():
        columns = torch.tensor(triples, dtype=torch.float64)
        true = columns[:, 1]
        error, _, own_error = ((columns - true[:, None]).norm(dim=0) / true.norm()).tolist()
        table[key] = Comparison(error, float((columns[:, 0] * true).sum() / true.square().sum()), own_error)
    return table
