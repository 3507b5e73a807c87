"""The rasteriser against a naive one, closed forms and its own camera."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.render import Camera, corner_normals, occluder_depth, rasterise
from tests.ganfoundry.render.shapes import sphere


def naive(vertices, faces, camera):
    """For every pixel centre: intersect its ray with every triangle by solving a linear system."""
    size = camera.resolution
    face, depth, bary = np.full((size, size), -1), np.zeros((size, size)), np.zeros((size, size, 3))
    local = camera.world_to_camera(vertices)
    for y in range(size):
        for x in range(size):
            ray = np.array([(x + 0.5 - size / 2) / camera.focal, (y + 0.5 - size / 2) / camera.focal, 1.0])
            for index, triangle in enumerate(faces):
                corners = local[triangle]
                if abs(np.linalg.det(corners)) < 1e-12:
                    continue
                # ray * depth = weights @ corners with weights that sum to one
                weights = np.linalg.solve(corners.T, ray)
                z = 1.0 / weights.sum()
                weights = weights * z
                if weights.min() >= 0 and z > 0 and (face[y, x] < 0 or z < depth[y, x]):
                    face[y, x], depth[y, x], bary[y, x] = index, z, weights
    return face, bary, depth


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_agrees_with_the_naive_rasteriser(seed, count):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1.0, 1.0, (3 * count, 3))
    faces = np.arange(3 * count, dtype=np.int32).reshape(count, 3)
    camera = Camera(rng.uniform(0, 360), rng.uniform(-60, 60), 4.0, 40.0, resolution=9)
    face, bary, depth = naive(vertices, faces, camera)
    found = rasterise(vertices, faces, camera)
    np.testing.assert_array_equal(found.face, face)
    np.testing.assert_allclose(found.depth, depth, rtol=1e-6)
    np.testing.assert_allclose(found.barycentric, bary, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_order_and_winding_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1.0, 1.0, (24, 3))
    faces = np.arange(24, dtype=np.int32).reshape(8, 3)
    camera = Camera(20.0, 10.0, 4.0, 40.0, resolution=24)
    order = rng.permutation(8)
    plain = rasterise(vertices, faces, camera)
    shuffled = rasterise(vertices, np.ascontiguousarray(faces[order][:, ::-1]), camera)
    np.testing.assert_array_equal(np.where(shuffled.face >= 0, order[shuffled.face], -1), plain.face)
    np.testing.assert_allclose(shuffled.depth, plain.depth, rtol=1e-9)


def test_sphere_depth_normals_and_area_match_the_closed_form():
    radius, camera = 1.0, Camera(33.0, 21.0, 5.0, 30.0, resolution=128)
    vertices, faces = sphere(radius, 128, 192)
    found = rasterise(vertices, faces, camera)
    hit = found.face >= 0
    rays = (camera.pixel_centres() - 64.0) / camera.focal
    rays = np.concatenate([rays, np.ones((128, 128, 1))], axis=-1)
    # |t ray - (0, 0, d)| = r
    a, b, c = (rays**2).sum(-1), -2.0 * camera.distance, camera.distance**2 - radius**2
    discriminant = b**2 - 4 * a * c
    depth = np.where(discriminant > 0, (-b - np.sqrt(np.maximum(discriminant, 0))) / (2 * a), 0)
    inside = discriminant > 0.5
    assert hit[inside].all()
    assert not hit[discriminant < 0].any()
    np.testing.assert_allclose(found.depth[inside], depth[inside], atol=2e-3)
    # The outline of a sphere: tan of its half angle is r / sqrt(d^2 - r^2).
    area = math.pi * (camera.focal * radius / math.sqrt(camera.distance**2 - radius**2)) ** 2
    assert hit.sum() == pytest.approx(area, rel=0.01)
    normals = np.einsum("nc,ncd->nd", found.barycentric[hit], corner_normals(vertices, faces)[found.face[hit]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = camera.unproject(camera.pixel_centres()[hit], found.depth[hit])
    assert (normals * points / radius).sum(1).min() > np.cos(np.radians(3.0))


def test_barycentrics_give_back_the_point_on_the_ray():
    vertices, faces = sphere(1.0, 12, 16)
    camera = Camera(120.0, -30.0, 4.0, 35.0, resolution=40)
    found = rasterise(vertices, faces, camera)
    hit = found.face >= 0
    np.testing.assert_allclose(found.barycentric[hit].sum(1), 1.0)
    points = np.einsum("nc,ncd->nd", found.barycentric[hit], vertices[faces[found.face[hit]]])
    pixels, depth = camera.project(points)
    np.testing.assert_allclose(pixels, camera.pixel_centres()[hit], atol=1e-8)
    np.testing.assert_allclose(depth, found.depth[hit], atol=1e-9)


def test_occluder_depth_agrees_with_the_maps_at_pixel_centres():
    vertices, faces = sphere(1.0, 12, 16)
    camera = Camera(120.0, -30.0, 4.0, 35.0, resolution=20)
    found = rasterise(vertices, faces, camera)
    nearest = occluder_depth(camera.pixel_centres().reshape(-1, 2), vertices, faces, camera).reshape(20, 20)
    np.testing.assert_array_equal(np.isfinite(nearest), found.face >= 0)
    np.testing.assert_allclose(nearest[found.face >= 0], found.depth[found.face >= 0], rtol=1e-12)


def test_nothing_in_view():
    camera = Camera(0.0, 0.0, 3.0, resolution=8)
    vertices = np.array([[0.0, 0.0, 4.0], [1.0, 0.0, 4.0], [0.0, 1.0, 4.0]])
    for faces in (np.zeros((0, 3), dtype=np.int32), np.array([[0, 1, 2]], dtype=np.int32)):
        found = rasterise(vertices, faces, camera)
        assert (found.face == -1).all()
        assert not found.depth.any()
        assert not found.barycentric.any()
        assert np.isinf(occluder_depth(np.array([[4.0, 4.0], [np.nan, 1.0]]), vertices, faces, camera)).all()
