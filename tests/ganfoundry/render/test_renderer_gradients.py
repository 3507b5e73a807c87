"""Gradients against supersampled pictures, and shapes found by following them."""

import pytest
import torch

from benchmarks._render_gradients import covered, gradient_errors
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import icosphere
from ganfoundry.render.renderer import render
from ganfoundry.render.topology import Topology
from tests.ganfoundry.render.scenes import DOUBLE, ball


def test_gradients_are_those_of_supersampled_pictures():
    table = gradient_errors(48, 8, ("colour", "label"))
    for (kind, motion), found in table.items():
        if motion == "bump":
            assert 0.6 < found.slope < 1.4, (kind, motion, found)
        else:
            assert found.error < {"colour": 0.2, "label": 0.25}[kind], (kind, motion, found)


def test_mask_gradients_are_those_of_areas():
    table = gradient_errors(40, 2, ("mask",))
    assert max(found.error for (_, motion), found in table.items() if motion != "bump") < 0.1
    assert 0.8 < table["mask", "bump"].slope < 1.2


def test_areas_of_a_triangle_are_its_area():
    vertices = torch.tensor([[-0.9, -0.7, 0.0], [0.8, -0.5, 0.0], [0.1, 0.6, 0.0]], dtype=DOUBLE)
    angles = (torch.tensor(x, dtype=DOUBLE) for x in (0.0, 0.0, 3.0, 40.0))
    faces = Topology.of(torch.tensor([[0, 1, 2], [0, 2, 1]]), 3)
    area = covered((vertices, *angles), faces, 20, 400)
    seen = render(vertices, faces, Cameras.from_angles(torch.zeros(1, dtype=DOUBLE), 0.0, 3.0, 40.0), 20).mask
    torch.testing.assert_close(area, seen, rtol=0, atol=1e-4)


@pytest.mark.parametrize("silhouette", ["edge", "soft", "margin"])
def test_a_silhouette_pulls_a_ball_to_where_it_should_be(silhouette):
    vertices, topology = ball(2)
    cameras = Cameras.from_angles(torch.tensor([0.0, 90.0], dtype=DOUBLE), 0.0, 4.0, 45.0)
    # Far modes start beside the target, the others overlap it.
    wanted = torch.tensor([0.9, 0.3, -0.6] if silhouette == "soft" else [0.5, 0.2, -0.3], dtype=DOUBLE)
    offset = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    optimiser = torch.optim.Adam([offset], lr=0.05)
    for step in range(60):
        reach = (8.0 if step < 40 else 1.0) if silhouette == "soft" else None
        seen, target = (
            render(0.4 * vertices + place, topology, cameras, 32, silhouette=silhouette, reach=reach).mask
            for place in (offset, wanted)
        )
        loss = (seen - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float((offset.detach() - wanted).norm()) < 0.06


def test_camera_parameters_are_recovered():
    vertices, topology = ball(2, 0.3)
    vertices = vertices * torch.tensor([1.0, 0.5, 0.7], dtype=DOUBLE)
    true = torch.tensor([40.0, 15.0, 4.0, 40.0], dtype=DOUBLE)
    target = render(vertices, topology, Cameras.from_angles(*true), 48, attributes=vertices).attributes
    found = (true + torch.tensor([12.0, -8.0, 0.4, 0.0], dtype=DOUBLE)).requires_grad_()
    optimiser = torch.optim.Adam([found], lr=0.5)
    scale = torch.tensor([1.0, 1.0, 0.05, 0.0], dtype=DOUBLE)
    for step in range(80):
        optimiser.param_groups[0]["lr"] = 0.5 if step < 50 else 0.05
        values = true + (found - true) / scale.clamp(min=1e-9) * scale
        seen = render(vertices, topology, Cameras.from_angles(*values), 48, attributes=vertices).attributes
        loss = (seen - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.all((found.detach() - true).abs() < torch.tensor([0.5, 0.5, 0.05, 0.05], dtype=DOUBLE))


@pytest.mark.slow
def test_a_deformed_sphere_is_recovered_from_a_hundred_views():
    # Szabo et al.'s check of their renderer, with fewer and smaller views: shape and colours by gradient descent alone.
    sphere, faces = icosphere(3)
    topology = Topology.of(faces, len(sphere))
    true = sphere * torch.tensor([1.0, 0.6, 0.8])
    true = true * (1.0 + 0.15 * torch.sin(4.0 * true[:, :1]) * torch.cos(5.0 * true[:, 1:2]))
    colours = 0.5 + 0.5 * torch.sin(3.0 * true)
    random = torch.Generator().manual_seed(0)
    views = Cameras.from_angles(
        360.0 * torch.rand(100, generator=random), 120.0 * torch.rand(100, generator=random) - 60.0, 4.0, 36.0
    )
    with torch.no_grad():
        target = render(true, topology, views, 64, attributes=colours)
    edges = topology.edges[0].long()
    offset, paint = torch.zeros_like(sphere, requires_grad=True), torch.full_like(colours, 0.5).requires_grad_()
    optimiser = torch.optim.Adam([offset, paint], lr=0.01)
    steps = 300
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.01 * min(1.0, 2.0 * (1.0 - step / steps))
        rows = torch.randint(100, (8,), generator=random)
        vertices = 0.8 * sphere + offset
        seen = render(vertices, topology, views[rows], 64, attributes=paint)
        loss = (seen.mask - target.mask[rows]).square().mean() + (
            seen.attributes - target.attributes[rows]
        ).square().mean()
        smooth = (offset[edges[:, 0]] - offset[edges[:, 1]]).square().sum(1).mean()
        optimiser.zero_grad()
        (loss + 0.2 * smooth).backward()
        optimiser.step()
    with torch.no_grad():
        held_out = Cameras.from_angles(torch.tensor([17.0, 133.0, 251.0]), torch.tensor([8.0, -25.0, 40.0]), 4.0, 36.0)
        seen, wanted = (render(v, topology, held_out, 64, attributes=paint) for v in (0.8 * sphere + offset, true))
        both = torch.minimum(seen.mask, wanted.mask).sum() / torch.maximum(seen.mask, wanted.mask).sum()
        fine, _ = icosphere(5)
        fine = fine * torch.tensor([1.0, 0.6, 0.8])
        fine = fine * (1.0 + 0.15 * torch.sin(4.0 * fine[:, :1]) * torch.cos(5.0 * fine[:, 1:2]))
        distance = torch.cdist(0.8 * sphere + offset, fine)
    assert float(both) > 0.97
    assert float(distance.amin(1).mean()) < 0.03
