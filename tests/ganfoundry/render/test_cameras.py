"""Batched cameras against the single one."""

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.render import Camera
from ganfoundry.render.cameras import Cameras, _Orbit, _orbit


def some() -> list[Camera]:
    random = np.random.default_rng(0)
    return [
        Camera(random.uniform(0, 360), random.uniform(-80, 80), random.uniform(2, 5), random.uniform(10, 60),
               tuple(random.uniform(-1, 1, 3)), 48)
        for _ in range(5)
    ]  # fmt: skip


def test_projects_as_single_cameras_do():
    singles = some()
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (7, 3))
    ours = Cameras.from_cameras(singles, torch.float64).project(torch.from_numpy(points), 48)
    for found, camera in zip(ours.numpy(), singles, strict=True):
        pixels, depth = camera.project(points)
        np.testing.assert_allclose(found[:, :2], pixels, atol=1e-9)
        np.testing.assert_allclose(found[:, 2], depth, atol=1e-9)


def test_positions_give_the_same_cameras_as_angles():
    singles = some()
    angles = Cameras.from_cameras(singles, torch.float64)
    targets = torch.tensor([c.target for c in singles], dtype=torch.float64)
    fov = torch.tensor([c.fov for c in singles], dtype=torch.float64)
    placed = Cameras.from_positions(angles.position, targets, fov)
    torch.testing.assert_close(placed.rotation, angles.rotation)
    torch.testing.assert_close(placed.focal, angles.focal)


def test_shift_moves_the_picture():
    plain = Cameras.from_angles(10.0, 5.0, 3.0)
    moved = Cameras.from_angles(10.0, 5.0, 3.0, shift=(0.25, -0.125))
    point = torch.tensor([[0.1, 0.2, 0.3]])
    difference = moved.project(point, 64) - plain.project(point, 64)
    torch.testing.assert_close(difference, torch.tensor([[[16.0, -8.0, 0.0]]]))


def test_gradients_reach_every_parameter():
    values = [torch.tensor([x], dtype=torch.float64) for x in (30.0, 10.0, 4.0, 35.0)]
    target, shift = torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    point = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (*values, target, shift)]
    assert torch.autograd.gradcheck(
        lambda *x: Cameras.from_angles(*x[:4], target=x[4], shift=x[5]).project(point, 32), leaves
    )


def test_no_cameras_are_named():
    with pytest.raises(InputError, match="at least one"):
        Cameras.from_cameras([])


@pytest.mark.parametrize("shared", [False, True])
def test_the_kernel_has_the_values_and_gradients_of_the_reference(shared):
    random = torch.Generator().manual_seed(0)
    n = 1 if shared else 4
    inputs = [
        (360.0 * torch.rand(4, generator=random, dtype=torch.float64)),
        (120.0 * torch.rand(n, generator=random, dtype=torch.float64) - 60.0),
        (3.0 + torch.rand(n, generator=random, dtype=torch.float64)),
        (30.0 + torch.rand(n, generator=random, dtype=torch.float64)),
        torch.randn(n, 3, generator=random, dtype=torch.float64),
    ]
    inputs = [x.requires_grad_() for x in inputs]
    weights = [torch.randn(4, *rest, generator=random, dtype=torch.float64) for rest in ((3, 3), (3,), ())]
    results = []
    for function in (_orbit, _Orbit.apply):
        found = function(*inputs)
        loss = sum((w * x).sum() for w, x in zip(weights, found, strict=True))
        results.append((found, torch.autograd.grad(loss, inputs)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_numbers_of_cameras_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="come for 3, 2, 1, 1, 1 cameras"):
        Cameras.from_angles(torch.zeros(3), torch.zeros(2), 4.0)
