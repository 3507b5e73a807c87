"""Scenes: numbers, occlusion, borders, sizes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.render import Camera, rasterise
from ganfoundry.worlds import get_world
from ganfoundry.worlds.car import build_car
from ganfoundry.worlds.car_design import sample_design
from ganfoundry.worlds.drawing import Placed, draw
from ganfoundry.worlds.look import sample_background, sample_light, stream
from ganfoundry.worlds.scenes import KINDS, _overlap, aim, sample_scene

WORLD = get_world("cars")


@pytest.fixture(scope="module")
def plans():
    return [sample_scene(stream(seed, 3), 64) for seed in range(100)]


@pytest.fixture(scope="module")
def scenes(plans):
    light, background = sample_light(stream(0, 1)), sample_background(stream(1, 1))
    return [draw(plan.placed, plan.camera, light, background, 1) for plan in plans]


def test_instances_boxes_keypoints_and_attributes_match(scenes):
    for scene in scenes:
        count = len(scene.attributes)
        assert np.unique(scene.instances).tolist() in ([*range(count + 1)], [*range(1, count + 1)])
        assert scene.keypoints.shape == (count, len(WORLD.schema.keypoints), 3)
        np.testing.assert_array_equal(scene.instances > 0, scene.parts > 0)
        boxes = scene.boxes()
        assert boxes.shape == (count, 4)
        for index, (left, top, right, bottom) in enumerate(boxes.astype(int)):
            mask = scene.instances == index + 1
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert mask[top].any()
            assert mask[:, right - 1].any()


def test_the_mixture_has_everything_that_the_filter_must_know(plans, scenes):
    kinds = Counter(plan.kind for plan in plans)
    assert set(kinds) == set(KINDS)
    assert kinds["centred"] >= 0.4 * len(plans)
    counts = np.bincount([len(scene.attributes) for scene in scenes], minlength=5)
    assert counts[0] > 2
    assert counts[1] > 50
    assert counts[2:].sum() > 10
    areas = [np.mean(scene.instances == 1) for scene in scenes if len(scene.attributes) == 1]
    assert np.mean(np.array(areas) < 0.1) > 0.05
    edges = [mask[:, 0].any() or mask[:, -1].any() or mask[0].any() or mask[-1].any()
             for mask in (scene.instances > 0 for scene in scenes)]  # fmt: skip
    assert np.mean(edges) > 0.05


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_number_of_cars_can_be_fixed(count):
    for seed in range(3):
        scene = WORLD.render_scene(seed, 64, num_objects=count, supersample=1)
        assert len(scene.attributes) <= count
        assert len(scene.attributes) >= count - (count > 2)
        assert scene.keypoints.shape[1:] == (len(WORLD.schema.keypoints), 3)


def test_render_scene_draws_the_scene_of_its_seed(plans):
    for seed in range(3):
        sample = WORLD.render_scene(seed, 64, supersample=1)
        assert sample.camera == plans[seed].camera
        assert len(sample.attributes) <= len(plans[seed].placed)
        assert len(sample.mesh.faces) == sum(len(placed.thing.mesh.faces) for placed in plans[seed].placed)


def test_a_nearer_car_hides_a_farther_one():
    look = stream(0, 1)
    light, background = sample_light(look), sample_background(look)
    cars = [build_car(sample_design(stream(seed, 0))) for seed in range(2)]
    near = Placed(cars[0], (0.0, -cars[0].ground, 0.0), 90.0)
    far = Placed(cars[1], (0.5, -cars[1].ground, -4.0), 60.0)
    camera = Camera(0.0, 6.0, 14.0, 30.0, (0.0, 0.7, 0.0), 96)
    both = draw([near, far], camera, light, background, 1)
    alone = [draw([placed], camera, light, background, 1) for placed in (near, far)]
    first, second = (sample.instances == 1 for sample in alone)
    overlap = first & second
    assert overlap.sum() > 50
    np.testing.assert_array_equal(both.instances == 1, first)
    np.testing.assert_array_equal(both.instances == 2, second & ~overlap)
    np.testing.assert_array_equal(both.depth[first], alone[0].depth[first])
    np.testing.assert_allclose(both.normals[first], alone[0].normals[first], atol=1e-6)
    # What the nearer car hides of the farther one's keypoints becomes hidden, nothing becomes visible.
    assert (both.keypoints[1, :, 2] <= alone[1].keypoints[0, :, 2]).all()
    assert (both.keypoints[1, :, 2] < alone[1].keypoints[0, :, 2]).any()


def test_a_car_behind_another_is_left_out():
    look = stream(0, 1)
    light, background = sample_light(look), sample_background(look)
    car = build_car(sample_design(stream(0, 0)))
    hidden = Placed(car, (0.0, 0.0, -30.0), 90.0)
    camera = Camera(0.0, 0.5, 10.0, 30.0, resolution=64)
    sample = draw([hidden, Placed(car, yaw=90.0)], camera, light, background, 1)
    assert len(sample.attributes) == len(sample.keypoints) == 1
    assert sample.attributes[0]["yaw"] == 90.0
    assert set(np.unique(sample.instances)) == {0, 1}


def test_turning_the_car_is_turning_the_camera_backwards():
    car = build_car(sample_design(stream(4, 0)))
    look = stream(0, 1)
    light, background = sample_light(look), sample_background(look)
    camera = Camera(40.0, 10.0, 11.0, 26.0, resolution=64)
    turned = draw([Placed(car, yaw=25.0)], camera, light, background, 1)
    plain = draw([Placed(car)], replace(camera, azimuth=15.0), light, background, 1)
    assert np.mean(turned.parts == plain.parts) > 0.995
    assert turned.attributes[0]["azimuth"] == pytest.approx(15.0)
    assert turned.attributes[0]["elevation"] == pytest.approx(10.0)
    np.testing.assert_allclose(turned.keypoints, plain.keypoints, atol=1e-3)
    same = turned.parts == plain.parts
    # Normals are those of the object's frame, whichever way it stands.
    np.testing.assert_allclose(turned.normals[same], plain.normals[same], atol=0.02)


@settings(deadline=None, max_examples=40)
@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(0.0, 360.0), st.floats(-60.0, 60.0))
def test_aim_moves_the_old_target(u, v, azimuth, elevation):
    camera = Camera(azimuth, elevation, 9.0, 26.0, (0.3, -0.2, 0.5), 100)
    pixel, depth = aim(camera, u, v).project(np.array(camera.target))
    np.testing.assert_allclose(pixel, [50.0 * (1 + u), 50.0 * (1 + v)], atol=1e-6)
    assert depth == pytest.approx(9.0)


def test_cars_do_not_stand_in_each_other():
    for seed in range(4):
        scene = sample_scene(stream(seed, 3), 48, 4)
        for index, first in enumerate(scene.placed):
            for second in scene.placed[:index]:
                assert not _overlap(first, second)
    car = build_car(sample_design(stream(0, 0)))
    assert _overlap(Placed(car), Placed(car, (1.0, 0.0, 2.0), 45.0))
    assert not _overlap(Placed(car), Placed(car, (2.6, 0.0, 0.0)))


def test_cut_cars_are_cut_and_the_rest_is_inside(plans):
    found = 0
    for scene in plans:
        if scene.kind != "cut":
            continue
        found += 1
        mesh = scene.placed[0].thing.mesh
        wide = replace(scene.camera, resolution=192, fov=2 * np.degrees(np.arctan(3 * np.tan(np.radians(13.0)))))
        all_of_it = rasterise(mesh.vertices, mesh.faces, wide).face >= 0
        share = all_of_it[64:128, 64:128].sum() / all_of_it.sum()
        assert 0.1 < share < 0.95
    assert found >= 3
