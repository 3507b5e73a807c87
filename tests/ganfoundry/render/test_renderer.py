"""The renderer: kernels against the PyTorch reference, exact coverage, closed forms, and what must not break it."""

import math

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.render.topology import Topology
from tests.ganfoundry.render.scenes import DOUBLE, ball, quad, two_balls

try:
    import pytorch3d  # noqa: F401

    OTHERS = ["numba", "pytorch3d"]
except ImportError:
    OTHERS = ["numba"]
MODES = ["edge", "soft", "margin", "centre"]


def scene(seed, *, own_meshes=False, wrap=False, dtype=DOUBLE):
    """Arguments of `render` for two images, and the leaves that take gradients."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=random, dtype=dtype)

    vertices, topology = two_balls(seed)
    vertices, n = vertices.to(dtype), 2 if own_meshes else 1
    if own_meshes:
        vertices = vertices + 0.1 * draw(n, 1, 3)
        topology = Topology.of(torch.stack([topology.faces[0], topology.faces[0].flip(0)]), vertices.shape[1])
    leaves = {
        "vertices": vertices,
        "attributes": draw(n, vertices.shape[-2], 2),
        "uv": 1.4 * draw(n, vertices.shape[-2], 2) - 0.2,
        "texture": draw(n, 3, 5, 7),
        "azimuth": 360.0 * draw(2),
        "distance": 4.0 + draw(2),
        "fov": 40.0 + draw(1),
        "shift": 0.1 * draw(2, 2),
    }
    leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    weights = [draw(2, 2, 14, 14), draw(2, 3, 14, 14), draw(2, 14, 14), draw(2, 14, 14)]

    def run(backend, silhouette):
        cameras = Cameras.from_angles(leaves["azimuth"], 15.0, leaves["distance"], leaves["fov"], shift=leaves["shift"])
        seen = render(
            leaves["vertices"], topology, cameras, 14, silhouette=silhouette, backend=backend, wrap_u=wrap,
            attributes=leaves["attributes"], uv=leaves["uv"], texture=leaves["texture"],
        )  # fmt: skip
        maps = [seen.attributes, seen.image, seen.mask, seen.depth]
        loss = sum((w * x).sum() for w, x in zip(weights, maps, strict=True))
        return seen.face, maps, torch.autograd.grad(loss, list(leaves.values()))

    return run


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("silhouette", MODES)
@pytest.mark.parametrize(("seed", "own_meshes", "wrap"), [(0, False, False), (1, True, True)])
def test_values_and_gradients_are_those_of_the_reference(backend, silhouette, seed, own_meshes, wrap):
    run = scene(seed, own_meshes=own_meshes, wrap=wrap)
    face, maps, grads = run(backend, silhouette)
    true_face, true_maps, true_grads = run("torch", silhouette)
    assert torch.equal(face, true_face)
    torch.testing.assert_close(maps, true_maps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grads, true_grads, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("silhouette", MODES)
def test_float32_is_near_the_reference_and_the_same_every_time(silhouette):
    run = scene(2, dtype=torch.float32)
    _, maps, grads = run("numba", silhouette)
    _, again, grads_again = run("numba", silhouette)
    assert all(torch.equal(a, b) for a, b in zip([*maps, *grads], [*again, *grads_again], strict=True))
    _, true_maps, true_grads = run("torch", silhouette)
    torch.testing.assert_close(maps, true_maps, rtol=1e-4, atol=1e-4)
    for grad, true in zip(grads, true_grads, strict=True):
        assert float((grad - true).norm()) < 1e-3 * float(true.norm()) + 1e-4


def clipped_area(polygon, x, y):
    """Area of a convex polygon inside the pixel (x, y): Sutherland-Hodgman, then the shoelace formula."""
    for axis, limit, sign in ((0, x, 1), (0, x + 1, -1), (1, y, 1), (1, y + 1, -1)):
        kept = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            inside = [sign * (point[axis] - limit) >= 0 for point in (p, q)]
            if inside[0]:
                kept.append(p)
            if inside[0] != inside[1]:
                t = (limit - p[axis]) / (q[axis] - p[axis])
                kept.append(tuple(a + t * (b - a) for a, b in zip(p, q, strict=True)))
        polygon = kept
        if not polygon:
            return 0.0
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return 0.5 * abs(sum(p[0] * q[1] - q[0] * p[1] for p, q in pairs))


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_edge_masks_are_exact_areas(seed, scale):
    # From triangles inside one pixel to triangles larger than the image.
    random = torch.Generator().manual_seed(seed)
    corners = scale * torch.randn(3, 2, generator=random, dtype=DOUBLE)
    vertices = torch.cat([corners, torch.zeros(3, 1, dtype=DOUBLE)], 1)
    cameras = Cameras.from_angles(torch.tensor([0.0], dtype=DOUBLE), 0.0, 3.0, 40.0)
    mask = render(vertices, torch.tensor([[0, 1, 2]]), cameras, 12).mask[0]
    polygon = [tuple(p) for p in cameras.project(vertices, 12)[0, :, :2].tolist()]
    area = [[clipped_area(polygon, x, y) for x in range(12)] for y in range(12)]
    torch.testing.assert_close(mask, torch.tensor(area, dtype=DOUBLE), rtol=0, atol=1e-10)


def test_edge_gradients_are_those_of_the_exact_area():
    vertices, topology = two_balls(3)
    cameras = Cameras.from_angles(torch.tensor([50.0], dtype=DOUBLE), 10.0, 4.0, 45.0)
    weights = torch.rand(16, 16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def loss(points):
        return (render(points, topology, cameras, 16).mask[0] * weights).sum()

    leaf = vertices.clone().requires_grad_()
    loss(leaf).backward()
    for direction in torch.randn(6, *vertices.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE):
        step = 1e-7
        difference = (loss(vertices + step * direction) - loss(vertices - step * direction)) / (2 * step)
        assert float((leaf.grad * direction).sum()) == pytest.approx(float(difference), rel=1e-4, abs=1e-5)


def test_one_surface_has_no_outline_inside():
    # All vertices are white: neither shared edges nor unwelded ones (every face with vertices of its own) may show.
    vertices, topology = ball(2)
    cameras = Cameras.from_angles(torch.tensor([33.0], dtype=DOUBLE), 12.0, 4.0, 40.0)
    whole = render(vertices, topology, cameras, 32).mask
    faces = topology.faces[0].long()
    apart = render(vertices[faces].flatten(0, 1), torch.arange(faces.numel()).view(-1, 3), cameras, 32).mask
    torch.testing.assert_close(apart, whole, rtol=0, atol=1e-9)
    assert float(whole.max()) <= 1.0 + 1e-9
    assert torch.all(whole[render(vertices, topology, cameras, 32, silhouette="centre").mask == 0] <= 1.0)
    assert float(whole[0, 12:20, 12:20].min()) == pytest.approx(1.0)


def test_sphere_depth_normals_and_area_match_the_closed_form():
    vertices, topology = ball(4)
    distance, fov, size = 5.0, 30.0, 64
    cameras = Cameras.from_angles(torch.tensor([33.0], dtype=DOUBLE), 21.0, distance, fov)
    seen = render(vertices, topology, cameras, size, attributes=vertices, silhouette="edge")
    focal = 0.5 * size / math.tan(math.radians(0.5 * fov))
    area = math.pi * (focal / math.sqrt(distance**2 - 1.0)) ** 2
    assert seen.mask.sum().item() == pytest.approx(area, rel=5e-3)
    rays = (torch.arange(size, dtype=DOUBLE) + 0.5 - size / 2) / focal
    squared = 1.0 + rays[:, None] ** 2 + rays[None] ** 2
    root = distance**2 - squared * (distance**2 - 1.0)
    depth = (distance - root.clamp(min=0.0).sqrt()) / squared
    inside = root > 0.5
    torch.testing.assert_close(seen.depth[0][inside], depth[inside], rtol=0, atol=4e-3)
    assert not seen.depth[0][root < 0.0].any()
    # A point of the unit sphere is its normal.
    normal = torch.nn.functional.normalize(seen.attributes[0], dim=0)
    y, x = torch.meshgrid(rays, rays, indexing="ij")
    local = torch.stack([x, y, torch.ones_like(x)], -1) * depth[..., None]
    true = (local @ cameras.rotation[0] + cameras.position[0]).permute(2, 0, 1)
    assert float((normal * true).sum(0)[inside].min()) > math.cos(math.radians(1.5))


def test_texture_is_sampled_like_grid_sample():
    vertices, faces = quad(0.0)
    cameras = Cameras.from_angles(torch.tensor([0.0], dtype=DOUBLE), 0.0, 2.0, 2 * math.degrees(math.atan(0.25)))
    texture = torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    uv = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], dtype=DOUBLE)
    seen = render(vertices, faces, cameras, 20, texture=texture, uv=uv)
    torch.testing.assert_close(seen.mask, torch.ones_like(seen.mask))
    grid = (2.0 * torch.arange(20, dtype=DOUBLE) + 1.0) / 20 - 1.0
    grid = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)[None]
    true = torch.nn.functional.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(seen.image, true)


def test_a_nearer_face_hides_and_the_outline_between_two_takes_both_colours():
    behind, faces = quad(0.0)
    front, _ = quad(0.5, 0.25)
    vertices, faces = torch.cat([behind, front]), torch.cat([faces, faces + 4])
    white = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=DOUBLE)[:, None]
    cameras = Cameras.from_angles(torch.tensor([0.0], dtype=DOUBLE), 0.0, 2.0, 40.0)
    seen = render(vertices, faces, cameras, 33, attributes=white)
    pixels = cameras.project(vertices, 33)[0]
    side = pixels[5, 0] - pixels[4, 0]
    assert float(seen.attributes.sum()) == pytest.approx(float(side**2))
    assert seen.mask.sum().item() == pytest.approx(float((pixels[1, 0] - pixels[0, 0]) ** 2))


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("silhouette", MODES)
def test_what_cannot_be_seen_leaves_an_empty_picture(silhouette, backend):
    cameras = Cameras.from_angles(torch.tensor([0.0, 90.0], dtype=DOUBLE), 0.0, 3.0, 40.0)
    vertices, faces = quad(0.0)
    line = vertices.clone()
    line[:, 1] = 0.0
    cases = {
        "behind the camera": (vertices + torch.tensor([5.0, 0.0, 5.0], dtype=DOUBLE), faces),
        "across the near plane": (vertices * 40.0, torch.tensor([[0, 1, 2]])),
        "without area": (line * torch.tensor([1.0, 1.0, 0.0], dtype=DOUBLE), faces),
        "one vertex three times": (vertices, torch.tensor([[1, 1, 1]])),
        "without faces": (vertices, torch.zeros(0, 3, dtype=torch.int64)),
        "beside the image": (vertices + torch.tensor([0.0, 90.0, 0.0], dtype=DOUBLE), faces),
    }
    for name, (points, corners) in cases.items():
        if name == "across the near plane":
            points = torch.tensor([[0.0, 0.0, 2.99], [0.3, 0.0, -9.0], [0.0, 0.3, 9.0]], dtype=DOUBLE)
        leaf = points.clone().requires_grad_()
        seen = render(leaf, corners, cameras[:1], 9, attributes=leaf, silhouette=silhouette, backend=backend)
        assert seen.mask.sum().item() == 0.0, name
        assert not seen.depth.any(), name
        assert torch.all(seen.face == -1), name
        (seen.mask.sum() + seen.depth.sum() + seen.attributes.sum()).backward()
        assert not leaf.grad.any(), name


@pytest.mark.parametrize("silhouette", MODES)
def test_huge_tiny_and_crossing_meshes_are_drawn(silhouette):
    cameras = Cameras.from_angles(torch.tensor([20.0], dtype=DOUBLE), 10.0, 4.0, 40.0)
    vertices, topology = ball(2)
    tiny = (1e-3 * vertices).requires_grad_()
    seen = render(tiny, topology, cameras, 16, silhouette=silhouette)
    assert torch.isfinite(seen.mask).all()
    if silhouette == "edge":  # a mesh within a pixel covers its area and can be pulled about
        area = math.pi * (8.0 / math.tan(math.radians(20.0)) * 1e-3 / 4.0) ** 2
        assert seen.mask.sum().item() == pytest.approx(area, rel=0.05)
        seen.mask.sum().backward()
        assert tiny.grad.norm().item() > 0.0
    wall, faces = quad(0.0, 1e9)
    seen = render(wall, faces, Cameras.from_angles(torch.tensor([0.0], dtype=DOUBLE), 0.0, 4.0), 16)
    torch.testing.assert_close(seen.mask, torch.ones_like(seen.mask))
    torch.testing.assert_close(seen.depth, torch.full_like(seen.depth, 4.0))
    # Two balls through each other: the nearer surface everywhere, no outline where they meet.
    pair = torch.cat([vertices, vertices + torch.tensor([0.7, 0.0, 0.0], dtype=DOUBLE)])
    joined = Topology.of(torch.cat([topology.faces[0], topology.faces[0] + len(vertices)]), len(pair))
    seen = render(pair, joined, cameras, 32, silhouette=silhouette)
    assert seen.mask.min().item() >= -1e-9
    assert seen.mask.max().item() <= 1.0 + 1e-9


@pytest.mark.parametrize("silhouette", MODES)
def test_gradients_in_traps_are_finite_and_those_of_the_reference(silhouette):
    vertices, topology = ball(1)
    pair = torch.cat([vertices, 0.8 * vertices + torch.tensor([0.7, 0.1, 0.0], dtype=DOUBLE)])
    crossing = Topology.of(torch.cat([topology.faces[0], topology.faces[0] + len(vertices)]), len(pair))
    wall, corners = quad(0.0, 1e9)
    cases = {
        "the camera is inside": (vertices, topology, 0.7),
        "within a pixel": (1e-3 * vertices, topology, 4.0),
        "through each other": (pair, crossing, 4.0),
        "beyond the image": (wall, Topology.of(corners, 4), 4.0),
        "almost flat": (vertices * torch.tensor([1.0, 1e-9, 1.0], dtype=DOUBLE), topology, 4.0),
    }
    weights = torch.rand(3, 15, 15, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for name, (points, mesh, distance) in cases.items():
        found = []
        for backend in ("numba", "torch"):
            leaf = points.clone().requires_grad_()
            cameras = Cameras.from_angles(torch.tensor([20.0], dtype=DOUBLE), 0.0, distance, 40.0)
            seen = render(leaf, mesh, cameras, 15, attributes=leaf, silhouette=silhouette, backend=backend)
            loss = (weights[0] * seen.mask).sum() + (weights[1] * seen.depth).sum() + (weights * seen.attributes).sum()
            found.append((seen.mask.detach(), seen.depth.detach(), torch.autograd.grad(loss, leaf)[0]))
            assert all(torch.isfinite(x).all() for x in found[-1]), name
        # An almost flat mesh has faces so thin that it is up to rounding which of them a pixel shows.
        for ours, true in () if name == "almost flat" else zip(*found, strict=True):
            assert float((ours - true).norm()) <= 1e-6 * float(true.norm()) + 1e-9, name


def test_a_mesh_within_a_pixel_grows_as_its_area_does():
    vertices, topology = ball(2)
    scale = torch.tensor(1e-3, dtype=DOUBLE, requires_grad=True)
    cameras = Cameras.from_angles(torch.tensor([20.0], dtype=DOUBLE), 10.0, 4.0, 40.0)
    area = render(scale * vertices, topology, cameras, 16).mask.sum()
    area.backward()
    assert float(scale.grad) == pytest.approx(2.0 * area.item() / 1e-3, rel=1e-2)


def test_the_reference_depends_on_no_default_device():
    # What does not say where it is made would be made without memory here, and could not be mixed with the rest.
    vertices, topology = ball(1)
    leaf, uv, texture = vertices.clone().requires_grad_(), vertices[:, :2] / 2 + 0.5, torch.rand(3, 4, 4, dtype=DOUBLE)
    azimuth = torch.tensor([20.0], dtype=DOUBLE)
    for silhouette in MODES:
        with torch.device("meta"):
            cameras = Cameras.from_angles(azimuth, 10.0, 4.0)
            seen = render(
                leaf, topology, cameras, 12, attributes=leaf, texture=texture, uv=uv, uv_faces=topology.faces[0],
                silhouette=silhouette, backend="torch",
            )  # fmt: skip
        assert {x.device.type for x in (seen.mask, seen.image, seen.attributes, seen.depth, seen.face)} == {"cpu"}
        assert torch.isfinite(torch.autograd.grad(seen.image.sum() + seen.mask.sum(), leaf)[0]).all()


@pytest.mark.gpu
@pytest.mark.parametrize("silhouette", MODES)
def test_a_gpu_draws_what_a_cpu_draws(silhouette):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    vertices, topology = two_balls()
    found = []
    for device in ("cpu", "cuda"):
        leaf = vertices.to(device).requires_grad_()
        cameras = Cameras.from_angles(torch.tensor([20.0, 110.0], dtype=DOUBLE, device=device), 10.0, 4.0, 40.0)
        seen = render(leaf, topology, cameras, 24, attributes=leaf, silhouette=silhouette)
        loss = seen.mask.square().sum() + seen.attributes.square().sum() + seen.depth.sum()
        found.append([x.cpu() for x in (seen.mask, seen.depth, seen.face, torch.autograd.grad(loss, leaf)[0])])
    torch.testing.assert_close(found[1], found[0], rtol=1e-7, atol=1e-8)


def test_backends_that_cannot_run_say_so():
    vertices, topology = ball(1)
    cameras = Cameras.from_angles(torch.zeros(1, dtype=DOUBLE), 0.0, 4.0)
    with pytest.raises(InputError, match="run on a CPU and the vertices are on meta; choose backend torch"):
        render(vertices.to("meta"), topology, cameras, 8, backend="numba")
    if "pytorch3d" not in OTHERS:
        with pytest.raises(InputError, match=r"pytorch3d is not installed; .* choose another backend"):
            render(vertices, topology, cameras, 8, backend="pytorch3d")


def test_bad_input_is_named():
    vertices, topology = ball(1)
    cameras = Cameras.from_angles(torch.zeros(1, dtype=DOUBLE), 0.0, 4.0)
    broken = vertices.clone()
    broken[3, 1] = math.nan
    cases = [
        (dict(vertices=broken), "not finite"),
        (dict(cameras=Cameras.from_angles(torch.tensor([math.nan], dtype=DOUBLE), 0.0, 4.0)), "not finite"),
        (dict(texture=torch.zeros(3, 4, 4, dtype=DOUBLE), uv=broken[:, :2]), "uv holds numbers that are not finite"),
        (dict(vertices=vertices[:-1]), "do not fit"),
        (dict(vertices=vertices[:, :2]), "give \\(N, V, 3\\)"),
        (dict(faces=torch.tensor([[0, 1, 99]])), "outside 0"),
        (dict(faces=torch.tensor([[0.0, 1.0, 2.0]])), "whole numbers"),
        (dict(size=0), "positive size"),
        (dict(silhouette="hard"), "no silhouette mode"),
        (dict(backend="opengl"), "no backend"),
        (dict(texture=torch.zeros(3, 4, 4, dtype=DOUBLE)), "needs uv"),
        (dict(attributes=vertices[:5]), "one row a vertex"),
        (dict(attributes=vertices.expand(3, -1, -1)), "attributes come for 3"),
        (dict(vertices=vertices.expand(3, -1, -1), cameras=Cameras.from_angles(torch.zeros(2), 0.0, 4.0)), "3 meshes"),
    ]
    for change, message in cases:
        arguments = dict(vertices=vertices, faces=topology, cameras=cameras, size=8) | change
        with pytest.raises(InputError, match=message):
            render(**arguments)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_half_precision_of_a_network_is_taken(backend):
    vertices, topology = ball(1)
    uv, texture = vertices[:, :2].float() / 2 + 0.5, torch.rand(3, 8, 8)
    leaves = [vertices.float().bfloat16().requires_grad_(), texture.bfloat16().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16):
        seen = render(
            leaves[0], topology, Cameras.from_angles(20.0, 10.0, 4.0), 16, texture=leaves[1], uv=uv, backend=backend
        )
    assert seen.image.dtype == torch.float32
    whole = render(
        leaves[0].float(), topology, Cameras.from_angles(20.0, 10.0, 4.0), 16, texture=leaves[1].float(), uv=uv
    )
    torch.testing.assert_close(seen.image, whole.image, rtol=1e-4, atol=1e-4)
    seen.image.sum().backward()
    assert all(leaf.grad.dtype == torch.bfloat16 and leaf.grad.any() for leaf in leaves)


def test_topology_of_a_ball_and_of_a_batch():
    vertices, topology = ball(2)
    v, e, f = len(vertices), topology.edges.shape[1], topology.faces.shape[1]
    assert v - e + f == 2
    assert np.all(np.bincount(topology.face_edges.flatten().numpy()) == 2)
    edges = topology.edges[0].long()[topology.face_edges[0].long()]
    corners = topology.faces[0]
    for k in range(3):
        wanted = torch.stack([corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]], 1).sort(1).values
        assert torch.equal(edges[:, k].int(), wanted)
    padded = torch.stack([corners, torch.cat([corners[:5], torch.zeros(f - 5, 3, dtype=torch.int32)])])
    both = Topology.of(padded, v)
    assert both.edges.shape == (2, e, 2)
    cameras = Cameras.from_angles(torch.zeros(2, dtype=DOUBLE), 20.0, 4.0)
    few = render(vertices, corners[:5], cameras, 16).mask
    torch.testing.assert_close(render(vertices, both, cameras, 16).mask[1], few[1])
