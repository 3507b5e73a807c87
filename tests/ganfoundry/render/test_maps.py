"""Maps at the pixel centres, and the template they are used with."""

import math

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.icosphere import equirectangular_uv, icosphere
from ganfoundry.render.maps import centre_map, normal_map, vertex_normals
from ganfoundry.render.renderer import render
from ganfoundry.render.topology import Topology
from tests.ganfoundry.render.scenes import DOUBLE, ball


def test_normals_of_a_ball_point_away_from_its_centre():
    vertices, topology = ball(3)
    torch.testing.assert_close(vertex_normals(2.0 * vertices, topology)[0], vertices, rtol=0, atol=0.015)
    cameras = Cameras.from_angles(torch.tensor([70.0, 10.0], dtype=DOUBLE), 30.0, 4.0, 40.0)
    seen = render(vertices, topology, cameras, 24)
    normals, places = normal_map(seen, vertices, topology), centre_map(seen, vertices, topology.faces)
    hit = (seen.face >= 0)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(normals[hit], torch.nn.functional.normalize(places, dim=1)[hit], rtol=0, atol=0.02)
    assert not normals[~hit].any()


def test_normals_take_gradients():
    vertices, topology = ball(0)
    weights = torch.rand(1, 12, 3, dtype=DOUBLE)
    leaf = vertices.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: (weights * vertex_normals(v, topology)).sum(), leaf)


@pytest.mark.parametrize(("level", "count"), [(0, 20), (3, 1280)])
def test_icospheres_are_round_closed_and_face_outwards(level, count):
    vertices, faces = icosphere(level)
    assert faces.shape == (count, 3)
    torch.testing.assert_close(vertices.norm(dim=1), torch.ones(len(vertices)))
    topology = Topology.of(faces, len(vertices))
    assert topology.edges.shape[1] == 3 * count // 2
    a, b, c = vertices[faces].unbind(1)
    assert float((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(1).min()) > 0.0
    with pytest.raises(InputError, match="0 to 8"):
        icosphere(9)


def test_uv_gives_back_the_direction_even_across_the_seam():
    vertices, faces = icosphere(4)
    uv, uv_faces = equirectangular_uv(vertices, faces)
    spread = uv[uv_faces].amax(1) - uv[uv_faces].amin(1)
    polar = (vertices[faces][..., 1].abs() > 0.97).any(1)
    assert float(spread[~polar].max()) < 0.2
    u, v = uv[: len(vertices)].unbind(1)
    azimuth, polar_angle = 2.0 * math.pi * (u - 0.5), math.pi * v
    back = torch.stack([polar_angle.sin() * azimuth.sin(), polar_angle.cos(), polar_angle.sin() * azimuth.cos()], 1)
    torch.testing.assert_close(back, vertices, rtol=0, atol=2e-3)
    # Seen from behind, a texture that shows its own u has no jump but the one it has itself, at the seam.
    texture = torch.cos(2.0 * math.pi * (torch.arange(64) + 0.5) / 64).expand(1, 8, 64)
    seen = render(
        vertices, faces, Cameras.from_angles(180.0, 0.0, 4.0, 20.0), 32,
        texture=texture, uv=uv, uv_faces=uv_faces, wrap_u=True,
    )  # fmt: skip
    assert seen.image is not None
    assert float((seen.image[0, 0, 8:24, 1:] - seen.image[0, 0, 8:24, :-1]).abs().max()) < 0.12
