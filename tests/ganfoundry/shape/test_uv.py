"""Texture space: texels lie where their coordinates say, textures wrap, and what is seen comes back."""

import numpy as np
import pytest
import torch

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.uv import mirrored_texture, spread_colours, texel_map, unproject


@pytest.mark.parametrize(("level", "height", "width"), [(1, 8, 16), (2, 16, 32), (3, 32, 64)])
def test_every_texel_lies_on_its_face_at_its_coordinates(level: int, height: int, width: int) -> None:
    texels, template = texel_map(level, height, width), sphere_template(level)
    weights = texels.barycentric
    assert torch.allclose(weights.sum(2), torch.ones(height, width), atol=1e-5)
    assert float(weights.min()) > -1e-6
    uv = (torch.from_numpy(template.uv)[torch.from_numpy(template.face_uv)[texels.face]] * weights[..., None]).sum(2)
    v, u = np.mgrid[0:height, 0:width] + 0.5
    rows = slice(2, -2)  # the poles' corners are given to the nearest face
    assert np.abs((uv[rows, :, 0].numpy() * width - u[rows] + width / 2) % width - width / 2).max() < 1e-3
    assert np.abs(uv[rows, :, 1].numpy() * height - v[rows]).max() < 1e-3


def test_texel_points_of_the_sphere_are_where_the_angles_are() -> None:
    texels, template = texel_map(3, 16, 32), sphere_template(3)
    points = texels.points(torch.from_numpy(template.vertices)[None], torch.from_numpy(template.faces))[0]
    v, u = np.mgrid[0:16, 0:32] + 0.5
    polar, angle = v / 16 * np.pi, (u / 32 - 0.5) * 2 * np.pi
    place = np.stack([np.sin(polar) * np.sin(angle), np.cos(polar), np.sin(polar) * np.cos(angle)], 2)
    assert np.abs(points.numpy() - place).max() < 0.05


def test_mirroring_a_texture_swaps_left_and_right() -> None:
    texture = torch.zeros(1, 1, 4, 8)
    texture[..., 6] = 1.0  # u = 0.81: the left side
    assert torch.equal(mirrored_texture(texture)[..., 1], torch.ones(1, 1, 4))


@pytest.mark.parametrize("azimuth", [0.0, 70.0, 180.0, 265.0])
def test_unprojecting_a_render_gives_its_texture_back(azimuth: float) -> None:
    template, texels = sphere_template(3), texel_map(3, 16, 32)
    faces = torch.from_numpy(template.faces)
    vertices = torch.from_numpy(template.vertices)[None] * torch.tensor([0.5, 0.5, 0.9])
    texture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0)), (16, 32), mode="bilinear"
    )
    cameras = Cameras.from_angles(azimuth, 10.0, 4.0)
    uv, uv_faces = torch.from_numpy(template.uv), torch.from_numpy(template.face_uv)
    drawn = render(vertices, faces, cameras, 128, texture=texture, uv=uv, uv_faces=uv_faces, wrap_u=True)
    assert drawn.image is not None
    colours, seen = unproject(drawn.image, vertices, faces, cameras, drawn.depth, texels)
    sure = seen[0, 0] > 0.9
    assert 0.08 < float(sure.float().mean()) < 0.6
    assert float((colours - texture)[0, :, sure].abs().mean()) < 0.02


def test_hidden_texels_are_not_seen() -> None:
    """A second, nearer body hides the first."""
    template, texels = sphere_template(2), texel_map(2, 8, 16)
    faces = torch.from_numpy(template.faces)
    vertices = torch.from_numpy(template.vertices)[None] * 0.5
    cameras = Cameras.from_angles(0.0, 0.0, 4.0)
    depth = torch.full((1, 32, 32), 2.0)
    _, seen = unproject(torch.zeros(1, 3, 32, 32), vertices, faces, cameras, depth, texels)
    assert float(seen.max()) == 0.0
    own = render(vertices, faces, cameras, 32).depth
    _, seen = unproject(torch.zeros(1, 3, 32, 32), vertices, faces, cameras, own, texels)
    assert float(seen[0, 0, 3:5, 7:9].min()) == 1.0
    assert float(seen[0, 0, :, [0, 1, 14, 15]].max()) == 0.0


def test_a_mesh_larger_than_the_object_takes_no_colour_of_the_background() -> None:
    """A white disc on black, smaller than the mesh that it is laid on; next to its outline colours mix."""
    template, size = sphere_template(3), 64
    vertices, faces = torch.from_numpy(template.vertices)[None], torch.from_numpy(template.faces)
    cameras = Cameras.from_angles(torch.zeros(1), torch.zeros(1), torch.tensor(5.0), 30.0)
    depth = render(vertices, faces, cameras, size).depth
    y, x = np.mgrid[0:size, 0:size] + 0.5
    disc = torch.from_numpy((x - 32) ** 2 + (y - 32) ** 2 < 14**2)
    image = (disc * 2.0 - 1).expand(1, 3, -1, -1)
    texels = texel_map(3, 32, 64)
    colours, all_seen = unproject(image, vertices, faces, cameras, depth, texels)
    assert float(colours[all_seen.expand_as(colours) > 0.5].min()) == -1
    colours, seen = unproject(image, vertices, faces, cameras, depth, texels, disc[None])
    assert float(colours[seen.expand_as(colours) > 0].min()) > 0.99
    assert 0.1 * float((all_seen > 0).sum()) < float((seen > 0).sum()) < 0.6 * float((all_seen > 0).sum())
    everything = torch.ones(1, size, size)
    assert torch.equal(unproject(image, vertices, faces, cameras, depth, texels, everything)[1], all_seen)


def test_spread_colours_keep_what_is_known_and_fill_the_rest_from_nearby() -> None:
    colours = torch.zeros(1, 2, 16, 32)
    colours[:, 0, :, :16], colours[:, 1, :, 16:] = 0.5, -0.25
    known = torch.zeros(1, 1, 16, 32)
    known[..., 2, 2] = known[..., 14, 30] = 1
    filled = spread_colours(colours, known)
    assert filled[0, :, 2, 2].tolist() == [0.5, 0.0]
    assert torch.allclose(filled[0, :, 4, 5], torch.tensor([0.5, 0.0]))
    assert torch.allclose(filled[0, :, 12, 26], torch.tensor([0.0, -0.25]))
    assert not spread_colours(colours, torch.zeros_like(known)).any()
    assert torch.equal(spread_colours(colours, torch.ones_like(known)), colours)


def test_spread_colours_lie_between_the_known_ones() -> None:
    random = torch.Generator().manual_seed(0)
    colours, known = torch.rand(3, 3, 8, 16, generator=random), torch.rand(3, 1, 8, 16, generator=random)
    filled = spread_colours(colours, known * (known > 0.7))
    assert float(filled.min()) >= 0
    assert float(filled.max()) <= 1
