"""Shading and backgrounds in cases that can be computed by hand."""

import numpy as np
import pytest

from ganfoundry.render import Camera, LabelledMesh, corner_normals, rasterise
from ganfoundry.worlds.drawing import keypoint_rows, to_image
from ganfoundry.worlds.shading import MATERIAL_FIELDS, Background, Footprint, Light, draw_background, shade

LIGHT = Light((0.0, 1.0, 0.0), 0.4, 0.5, (0.6, 0.8, 1.0), (0.9, 0.9, 0.9), (0.3, 0.3, 0.3))
PLAIN = Background("plain", (0.5, 0.6, 0.7), (0.1, 0.1, 0.1), np.zeros((9, 9)))


def plate(height, facing_up):
    """A square on the plane y = height."""
    vertices = np.array([[-1.0, height, -1.0], [-1.0, height, 1.0], [1.0, height, 1.0], [1.0, height, -1.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]] if facing_up else [[0, 2, 1], [0, 3, 2]], dtype=np.int32)
    ids = np.ones(2, dtype=np.uint8)
    return LabelledMesh(vertices, faces, ids, ids * 0, corner_normals(vertices, faces))


def shaded(mesh, camera, row):
    image = np.zeros((camera.resolution, camera.resolution, 3))
    found = rasterise(mesh.vertices, mesh.faces, camera)
    materials = np.zeros((1, MATERIAL_FIELDS))
    materials[0] = row
    shade(image, found, mesh, camera, materials, LIGHT, ground=mesh.vertices[0, 1] - 2.0)
    return image[camera.resolution // 2, camera.resolution // 2]


def test_lambert_under_the_open_sky():
    colour = shaded(plate(0.0, True), Camera(0.0, 60.0, 5.0, resolution=9), (0.8, 0.4, 0.2, 0, 1, 0, 0))
    # Sun overhead on a horizontal plate: own colour times (ambient + sun).
    np.testing.assert_allclose(colour, np.array([0.8, 0.4, 0.2]) * (0.5 + 0.4), atol=1e-9)


def test_the_sun_does_not_reach_a_plate_that_faces_down():
    colour = shaded(plate(0.0, False), Camera(0.0, -60.0, 5.0, resolution=9), (0.8, 0.4, 0.2, 1.0, 5, 0, 0))
    np.testing.assert_allclose(colour, np.array([0.8, 0.4, 0.2]) * 0.5 * (0.76 - 0.24), atol=1e-9)


def test_a_mirror_shows_the_sky_and_a_lamp_its_own_light():
    camera = Camera(0.0, 89.9, 5.0, resolution=9)
    np.testing.assert_allclose(shaded(plate(0.0, True), camera, (0, 0, 0, 0, 1, 1.0, 0)), LIGHT.sky, atol=0.01)
    np.testing.assert_allclose(shaded(plate(0.0, True), camera, (0.9, 0.1, 0, 0, 1, 0, 1)), (0.9, 0.1, 0), atol=1e-9)


def test_shading_leaves_the_background_alone():
    camera = Camera(0.0, 30.0, 30.0, resolution=32)
    image = np.full((32, 32, 3), 0.25)
    mesh = plate(0.0, True)
    found = rasterise(mesh.vertices, mesh.faces, camera)
    shade(image, found, mesh, camera, np.ones((1, MATERIAL_FIELDS)), LIGHT)
    assert (image[found.face < 0] == 0.25).all()


def test_plain_background_and_gradient():
    camera = Camera(0.0, 10.0, 10.0, resolution=16)
    plain = draw_background(camera, PLAIN, LIGHT, -1.0, [])
    np.testing.assert_allclose(plain, np.broadcast_to(PLAIN.top, (16, 16, 3)))
    gradient = draw_background(camera, Background("gradient", PLAIN.top, PLAIN.bottom, PLAIN.noise), LIGHT, -1.0, [])
    v = (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(gradient[:, 3, 0], 0.5 + (0.1 - 0.5) * v)


def test_the_horizon_is_level_with_the_camera():
    camera = Camera(30.0, 0.0, 10.0, resolution=64)
    kind = Background("horizon", (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), np.zeros((9, 9)))
    image = draw_background(camera, kind, LIGHT, -1.0, [])
    assert (image[:30, :, 2] > 0.7).all()
    assert (image[34:, :, 1] > 0.7).all()


def test_the_shadow_lies_on_the_ground_under_the_car():
    camera = Camera(0.0, 25.0, 12.0, resolution=64)
    foot = Footprint(0.0, 0.0, 0.9, 2.0, 0.0, 1.4)
    image = draw_background(camera, PLAIN, LIGHT, -0.7, [foot])[..., 0]
    (x, y), _ = camera.project(np.array([0.0, -0.7, 0.0]))
    assert image[int(y), int(x)] < 0.4 * 0.5
    (x, y), _ = camera.project(np.array([2.2, -0.7, 0.0]))
    assert image[int(y), int(x)] == pytest.approx(0.5)
    # Turned by 90 degrees the long side lies across.
    turned = draw_background(camera, PLAIN, LIGHT, -0.7, [Footprint(0.0, 0.0, 0.9, 2.0, np.pi / 2, 1.4)])[..., 0]
    (x, y), _ = camera.project(np.array([1.6, -0.7, 0.0]))
    assert turned[int(y), int(x)] < 0.4 * 0.5 < image[int(y), int(x)]


def test_images_are_averaged_over_blocks():
    fine = np.zeros((4, 4, 3))
    fine[:2, :2] = [[[1.0, 0.5, 0.0]] * 2, [[0.0, 0.5, 0.0]] * 2]
    image = to_image(fine, 2)
    assert image.shape == (2, 2, 3)
    assert image[0, 0].tolist() == [128, 128, 0]
    assert image[1, 1].tolist() == [0, 0, 0]


def test_keypoints_behind_a_plate_are_hidden():
    mesh = plate(0.0, True)
    camera = Camera(0.0, 80.0, 5.0, resolution=32)
    points = np.array([[0.0, 0.01, 0.0], [0.0, -0.5, 0.0], [0.0, -0.02, 0.0], [50.0, 0.0, 0.0], [0.0, 90.0, 0.0]])
    rows = keypoint_rows(points, mesh, camera)
    # On it, below it, below it by less than the tolerance, beside the image, behind the camera.
    assert rows[:, 2].tolist() == [2, 1, 2, 0, 0]
    assert np.isfinite(rows).all()
