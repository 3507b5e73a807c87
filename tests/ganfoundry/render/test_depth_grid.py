"""Depth maps seen from other views, against closed forms and differences."""

import math

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.render.depth_grid import Motion, grid_topology, lift, view_cameras, warp
from tests.ganfoundry.render.scenes import DOUBLE

SIZE = 16


def bowl() -> torch.Tensor:
    """Smooth depth map (1, SIZE, SIZE) around 1 m."""
    axis = torch.linspace(-1.0, 1.0, SIZE, dtype=DOUBLE)
    return (1.0 - 0.04 * torch.cos(1.3 * axis)[:, None] * torch.cos(axis)[None])[None]


def view(*values: float) -> Motion:
    return Motion.from_view(torch.tensor([values], dtype=DOUBLE))


def test_no_motion_gives_the_depth_map_back():
    depth = bowl()
    seen = warp(depth, view(0, 0, 0, 0, 0, 0))
    assert seen.mask.all()
    torch.testing.assert_close(seen.depth, depth, rtol=0, atol=1e-12)
    texture = torch.rand(1, 3, SIZE, SIZE, dtype=DOUBLE)
    torch.testing.assert_close(seen.sample(texture), texture, rtol=0, atol=1e-9)


def test_points_are_on_the_rays_of_their_pixels():
    depth = bowl()
    pixels = view_cameras(1, 10.0, depth).project(lift(depth, 10.0), SIZE)
    centres = torch.arange(SIZE, dtype=DOUBLE) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    torch.testing.assert_close(pixels[0, :, :2], torch.stack([x, y], -1).view(-1, 2))
    torch.testing.assert_close(pixels[0, :, 2], depth.flatten())


def test_a_turned_plane_has_the_depth_of_the_turned_plane():
    depth = torch.ones(1, SIZE, SIZE, dtype=DOUBLE)
    angle = 0.4
    seen = warp(depth, view(0, angle, 0, 0, 0, 0))
    x = (torch.arange(SIZE, dtype=DOUBLE) + 0.5 - SIZE / 2) / (0.5 * SIZE / math.tan(math.radians(5.0)))
    # The plane through (0, 0, 1) with normal (sin, 0, cos): z (x sin + cos) = cos
    true = (math.cos(angle) / (x * math.sin(angle) + math.cos(angle))).expand(SIZE, SIZE)
    assert 0 < int(seen.mask.sum()) < SIZE * SIZE
    torch.testing.assert_close(seen.depth[seen.mask], true[None][seen.mask], rtol=0, atol=1e-12)


def test_gradients_are_exact():
    depth, motion = bowl(), torch.tensor([[0.1, -0.25, 0.05, 0.003, -0.002, 0.01]], dtype=DOUBLE)
    random = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, SIZE, SIZE, dtype=DOUBLE, generator=random)
    smooth = torch.nn.functional.avg_pool2d(texture, 5, 1, 2)
    weights = torch.rand(1, SIZE, SIZE, dtype=DOUBLE, generator=random)
    kept = warp(depth, Motion.from_view(motion)).mask

    def loss(d, m):
        seen = warp(d, Motion.from_view(m))
        return (weights * kept * (seen.depth + seen.sample(smooth).sum(1))).sum()

    leaves = [depth.clone().requires_grad_(), motion.clone().requires_grad_()]
    grads = torch.autograd.grad(loss(*leaves), leaves)
    for trial in range(4):
        steps = [torch.randn(x.shape, dtype=DOUBLE, generator=random) * s for x, s in ((depth, 1e-9), (motion, 1e-8))]
        after, before = (loss(*(x + sign * s for x, s in zip(leaves, steps, strict=True))) for sign in (1, -1))
        ours = sum((g * s).sum() for g, s in zip(grads, steps, strict=True))
        assert float(ours) == pytest.approx((after - before).item() / 2, rel=1e-4), trial


def test_motions_can_be_undone():
    motion = view(0.3, -0.2, 0.5, 0.01, 0.02, -0.03)
    points = torch.rand(1, 7, 3, dtype=DOUBLE)
    torch.testing.assert_close(motion.undo(motion.apply(points)), points)


def test_grids_and_bad_maps():
    assert grid_topology(3, 4).faces.shape == (1, 2 * 2 * 3, 3)
    with pytest.raises(InputError, match="square"):
        lift(torch.ones(1, 4, 5), 10.0)
