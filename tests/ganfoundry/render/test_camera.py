"""Cameras against hand-computed cases and round trips."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.render import Camera

cameras = st.builds(
    Camera,
    azimuth=st.floats(-360.0, 720.0),
    elevation=st.floats(-85.0, 85.0),
    distance=st.floats(0.5, 50.0),
    fov=st.floats(5.0, 120.0),
    target=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    resolution=st.integers(1, 512),
)


@settings(deadline=None, max_examples=100)
@given(cameras, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 100.0))
def test_unproject_then_project_returns_pixel_and_depth(camera, u, v, depth):
    pixel = np.array([u, v]) * camera.resolution
    points = camera.unproject(pixel, depth)
    back, back_depth = camera.project(points)
    np.testing.assert_allclose(back, pixel, atol=1e-6 * camera.resolution + 1e-6)
    assert back_depth == pytest.approx(depth, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(cameras)
def test_rotation_is_orthonormal_and_right_handed(camera):
    rotation = camera.rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert np.linalg.norm(camera.position - np.array(camera.target)) == pytest.approx(camera.distance)


@settings(deadline=None, max_examples=100)
@given(cameras)
def test_from_position_finds_the_same_camera(camera):
    again = Camera.from_position(camera.position, camera.target, fov=camera.fov, resolution=camera.resolution)
    np.testing.assert_allclose(again.rotation, camera.rotation, atol=1e-6)
    np.testing.assert_allclose(again.position, camera.position, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(cameras)
def test_target_is_the_middle_of_the_image(camera):
    pixel, depth = camera.project(np.array(camera.target))
    np.testing.assert_allclose(pixel, camera.resolution / 2, atol=1e-6 * camera.resolution)
    assert depth == pytest.approx(camera.distance)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "position"),
    [(0, 0, (0, 0, 2)), (90, 0, (2, 0, 0)), (180, 0, (0, 0, -2)), (270, 0, (-2, 0, 0)), (0, 30, (0, 1, math.sqrt(3)))],
)
def test_azimuth_and_elevation_follow_the_conventions(azimuth, elevation, position):
    np.testing.assert_allclose(Camera(azimuth, elevation, 2.0).position, position, atol=1e-12)


def test_front_view_shows_the_objects_left_on_the_right_and_up_above():
    camera = Camera(0.0, 0.0, 10.0, resolution=100)
    (left, _), _ = camera.project([1.0, 0.0, 0.0])
    (_, up), _ = camera.project([0.0, 1.0, 0.0])
    assert left > 50 > up


def test_focal_length_and_edge_of_the_field_of_view():
    camera = Camera(0.0, 0.0, 1.0, fov=90.0, resolution=64)
    assert camera.focal == pytest.approx(32.0)
    pixel, depth = camera.project([1.0, -1.0, 0.0])
    np.testing.assert_allclose(pixel, [64.0, 64.0], atol=1e-12)
    assert depth == pytest.approx(1.0)


def test_points_behind_the_camera_have_no_pixel():
    pixel, depth = Camera(0.0, 0.0, 1.0).project([0.0, 0.0, 2.0])
    assert np.isnan(pixel).all()
    assert depth < 0


def test_pixel_centres():
    centres = Camera(0.0, 0.0, 1.0, resolution=3).pixel_centres()
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[2, 1].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("change", [{"elevation": 90.0}, {"distance": 0.0}, {"fov": 180.0}, {"resolution": 0}])
def test_impossible_cameras_are_refused(change):
    with pytest.raises(InputError):
        Camera(**{"azimuth": 0.0, "elevation": 0.0, "distance": 1.0} | change)
    with pytest.raises(InputError, match="target"):
        Camera.from_position((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
