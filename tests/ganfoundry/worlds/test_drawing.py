"""What drawing gives every world: albedo, light, and shading by one direction."""

import numpy as np
import pytest

from ganfoundry.render import LabelledMesh, rasterise
from ganfoundry.render.camera import Camera
from ganfoundry.worlds import get_world
from ganfoundry.worlds.drawing import Placed, assemble, interpolate
from ganfoundry.worlds.shading import DirectionalLight, Light


def test_shading_of_one_direction_by_hand():
    light = DirectionalLight((0.0, 0.6, 0.8), 0.5, 0.3)
    normals = np.array([[0.0, 0.6, 0.8], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -0.6, -0.8]])
    np.testing.assert_allclose(light.shading(normals), [0.8, 0.7, 0.3, 0.3])
    assert light.shading(normals.reshape(2, 2, 3)).shape == (2, 2)


def test_values_at_corners_are_interpolated():
    vertices = np.array([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.5, 0.0]])
    faces = np.array([[0, 1, 2]], dtype=np.int32)
    camera = Camera(10.0, 5.0, 4.0, 30.0, resolution=17)
    found = rasterise(vertices, faces, camera)
    # The values are the positions themselves: interpolation gives the points that the pixels show.
    inside = interpolate(found, vertices[faces])
    hit = found.face >= 0
    np.testing.assert_allclose(inside, camera.unproject(camera.pixel_centres()[hit], found.depth[hit]), atol=1e-9)


def test_cars_have_albedo_and_light_too():
    world = get_world("cars")
    sample = world.render(2, 64)
    assert isinstance(sample.light, Light)
    covered = sample.parts > 0
    np.testing.assert_array_equal(covered, sample.albedo.any(-1))
    bonnet = sample.albedo[sample.parts == world.schema.part_id("bonnet")]
    paint = np.array(sample.attributes[0]["paint_rgb"])
    assert len(bonnet)
    assert np.median(np.abs(bonnet - paint).max(1)) < 1e-6
    assert not world.render_scene(0, 32, num_objects=0).albedo.any()


def test_placed_things_of_any_kind_are_assembled():
    class Thing:
        mesh = LabelledMesh(
            np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.array([[0, 1, 2]], dtype=np.int32),
            np.array([3], np.uint8), np.array([0], np.uint8), np.tile([0.0, 0.0, 1.0], (1, 3, 1)),
        )  # fmt: skip
        keypoints = np.zeros((1, 3))

    both = assemble([Placed(Thing()), Placed(Thing(), (0.0, 2.0, 0.0), 90.0)])
    assert both.owner.tolist() == [0, 1]
    assert both.mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_allclose(both.mesh.vertices[3], [1.0, 2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(both.mesh.corner_normals[1, 0], [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(both.object_normals[1, 0], [0.0, 0.0, 1.0])
    assert Placed(Thing(), yaw=30.0).view(Camera(10.0, 0.0, 2.0))["azimuth"] == pytest.approx(340.0)
