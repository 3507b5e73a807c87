"""Faces: the ground truth agrees with itself, with the camera, the light and the mesh."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.render import Camera, occluder_depth, rasterise
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator_data import render_samples
from ganfoundry.worlds.face_look import DISTANCE, FOV, PITCH, YAW

WORLD = get_world("faces")
GOLDEN = Path(__file__).with_name("golden_faces.npz")


def camera(azimuth, elevation=3.0, resolution=64):
    return Camera(azimuth % 360.0, elevation, DISTANCE, FOV, resolution=resolution)


def part(name):
    return WORLD.schema.part_id(name)


def keypoint(name):
    return WORLD.schema.keypoints.index(name)


@pytest.fixture(scope="module")
def samples():
    return [WORLD.render(seed, 64) for seed in range(100)]


def digest(sample):
    state = hashlib.sha256()
    maps = (sample.image, sample.parts, sample.keypoints, sample.depth, sample.normals, sample.albedo)
    for field in maps:
        state.update(np.ascontiguousarray(field).tobytes())
    state.update(repr((sample.attributes, sample.light)).encode())
    return state.hexdigest()


def test_shapes_dtypes_and_ranges(samples):
    for sample in samples[:20]:
        assert sample.image.shape == sample.normals.shape == sample.albedo.shape == (64, 64, 3)
        assert sample.image.dtype == sample.parts.dtype == sample.instances.dtype == np.uint8
        assert sample.depth.dtype == sample.normals.dtype == sample.albedo.dtype == sample.keypoints.dtype == np.float32
        assert sample.keypoints.shape == (1, len(WORLD.schema.keypoints), 3)
        covered = sample.instances == 1
        np.testing.assert_array_equal(covered, sample.parts > 0)
        np.testing.assert_array_equal(covered, sample.depth > 0)
        np.testing.assert_array_equal(covered, sample.albedo.any(-1))
        assert sample.albedo.max() <= 0.95 + 1e-6
        lengths = np.linalg.norm(sample.normals, axis=-1)
        np.testing.assert_allclose(lengths[covered], 1.0, atol=1e-5)
        assert not lengths[~covered].any()


def test_the_face_fills_the_frame(samples):
    share = np.array([np.mean(sample.parts > 0) for sample in samples])
    print(f"share of the frame that the head fills: mean {share.mean():.3f}, least {share.min():.3f}")  # noqa: T201
    assert share.mean() > 0.75
    assert np.mean(share > 0.7) > 0.85
    assert share.min() > 0.55
    # Without hair, neck and ears it is still half of the frame.
    face = [np.isin(s.parts, [part("hair"), part("neck"), part("ear"), 0], invert=True).mean() for s in samples]
    assert np.mean(face) > 0.4


def test_every_part_style_and_expression_appears(samples):
    seen = np.unique(np.concatenate([np.unique(sample.parts) for sample in samples]))
    assert seen.tolist() == list(range(len(WORLD.schema.parts)))
    about = [sample.attributes[0] for sample in samples]
    assert {row["body_type"] for row in about} == set(WORLD.body_types)
    assert len({row["expression"] for row in about}) == 6
    assert len({row["hair_name"] for row in about}) == 6
    assert len({row["iris_name"] for row in about}) == 4
    assert np.ptp([np.mean(row["paint_rgb"]) for row in about]) > 0.45


def test_eyes_brows_and_lips_are_more_than_a_pixel_or_two():
    areas = {name: [] for name in ("brow", "iris", "eye_white", "upper_lip", "lower_lip", "nose")}
    for seed in range(15):
        parts = WORLD.render(seed, 64, camera=camera(0.0)).parts
        for name, found in areas.items():
            found.append((parts == part(name)).sum())
    medians = {name: np.median(found) for name, found in areas.items()}
    assert medians["iris"] >= 6
    assert medians["brow"] >= 20
    assert medians["upper_lip"] >= 15
    assert medians["lower_lip"] >= 20
    assert medians["nose"] >= 100


def test_cameras_and_lights_vary_as_stated(samples):
    azimuth = np.array([(s.camera.azimuth + 180.0) % 360.0 - 180.0 for s in samples])
    assert np.abs(azimuth).max() <= YAW
    assert np.histogram(azimuth, 4, (-YAW, YAW))[0].min() > 12
    for sample in samples:
        assert sample.attributes[0]["azimuth"] == pytest.approx(sample.camera.azimuth)
        assert PITCH[0] <= sample.camera.elevation <= PITCH[1]
        assert np.linalg.norm(sample.light.direction) == pytest.approx(1.0)
        assert 0.9 < sample.light.ambient + sample.light.diffuse <= 1.05
    directions = np.array([s.light.direction for s in samples])
    assert (directions.std(0) > [0.4, 0.25, 0.15]).all()


@pytest.mark.parametrize("seed", range(6))
def test_albedo_normals_and_light_give_the_image(seed):
    sample = WORLD.render(seed, 96, supersample=1)
    covered = sample.parts > 0
    lit = sample.albedo[covered] * sample.light.shading(sample.normals[covered])[:, None]
    np.testing.assert_allclose(sample.image[covered], 255.0 * lit, atol=0.51)
    # With several samples a pixel that holds on average.
    soft = WORLD.render(seed, 96, supersample=2).image[covered]
    assert np.median(np.abs(soft - 255.0 * lit)) < 2.0
    assert abs((soft - 255.0 * lit).mean()) < 3.0


def test_repeats_are_the_same_bytes_also_in_another_process(samples):
    assert digest(WORLD.render(7, 64)) == digest(samples[7])
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_faces as t; print(t.digest(t.WORLD.render(7, 64)))"
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert run.stdout.split() == [digest(samples[7])]


def test_maps_do_not_depend_on_supersampling(samples):
    other = WORLD.render(5, 64, supersample=1)
    for name in ("parts", "depth", "normals", "albedo", "keypoints"):
        np.testing.assert_array_equal(getattr(other, name), getattr(samples[5], name))


def test_another_camera_shows_the_same_face_in_the_same_light():
    first, second = WORLD.render(3, 64), WORLD.render(3, 64, camera=camera(-40.0))
    np.testing.assert_array_equal(first.mesh.vertices, second.mesh.vertices)
    np.testing.assert_array_equal(WORLD.mesh(3).vertices, first.mesh.vertices)
    assert first.light == second.light
    assert first.attributes[0]["paint_rgb"] == second.attributes[0]["paint_rgb"]
    assert second.attributes[0]["azimuth"] == pytest.approx(320.0)
    assert WORLD.render(3, 48, camera=camera(20.0)).camera.resolution == 48


def test_another_hair_style_keeps_the_person():
    first, second = WORLD.design(4, "bald"), WORLD.design(4, "long")
    np.testing.assert_array_equal(first.details, second.details)
    assert (first.skin, first.iris, first.expression) == (second.skin, second.iris, second.expression)
    assert not (WORLD.render(4, 64, body_type="bald").parts == part("hair")).any()
    assert (WORLD.render(4, 64, body_type="long").parts == part("hair")).mean() > 0.15


@pytest.mark.parametrize("style", WORLD.body_types)
def test_views_from_left_and_right_mirror_each_other(style):
    seed = next(s for s in range(50) if WORLD.design(s).expression == "neutral")
    design = replace(WORLD.design(seed, style), actions={}, gaze=(0.0, 0.0))
    world = type(WORLD)()
    world.design = lambda *_: design
    left, right = (world.render(seed, 96, camera=camera(a), supersample=1) for a in (40.0, -40.0))
    assert np.mean(left.parts == right.parts[:, ::-1]) > 0.985
    both = (left.depth > 0) & (right.depth[:, ::-1] > 0)
    difference = np.abs(left.depth - right.depth[:, ::-1])[both]
    assert np.median(difference) < 3e-4
    assert np.mean(difference < 3e-3) > 0.98
    order = WORLD.schema.flip_permutation()
    mirrored = right.keypoints[0][order] * [-1, 1, 1] + [96, 0, 0]
    np.testing.assert_allclose(mirrored[:, :2], left.keypoints[0][:, :2], atol=0.8)
    assert np.mean(mirrored[:, 2] == left.keypoints[0][:, 2]) > 0.85


@pytest.mark.parametrize("style", WORLD.body_types)
def test_maps_show_what_rays_meet_on_the_mesh(style):
    sample = WORLD.render(21, 128, camera=camera(35.0, 5.0), body_type=style, supersample=1)
    mesh, view = sample.mesh, sample.camera
    rng = np.random.default_rng(0)
    face = rng.integers(len(mesh.faces), size=6000)
    points = np.einsum("nc,ncd->nd", rng.dirichlet([1.0, 1.0, 1.0], size=6000), mesh.vertices[mesh.faces[face]])
    pixels, depth = view.project(points)
    inside = ((pixels > 0) & (pixels < 128)).all(1)
    seen = inside & (occluder_depth(pixels, mesh.vertices, mesh.faces, view) > depth - 1e-7)
    x, y = np.floor(pixels[seen]).astype(int).T
    assert seen.sum() > 500
    assert np.mean(sample.parts[y, x] == mesh.face_parts[face[seen]]) > 0.85
    assert np.median(np.abs(sample.depth[y, x] - depth[seen])) < 0.001


def test_depth_of_single_pixels_by_intersecting_every_triangle(samples):
    sample = samples[11]
    a, b, c = (sample.mesh.vertices[sample.mesh.faces[:, k]] for k in range(3))
    eye = sample.camera.position
    for row, column in ((32, 32), (20, 40), (50, 30), (30, 15)):
        through = sample.camera.unproject(np.array([column + 0.5, row + 0.5]), np.array(1.0))
        ray = through - eye  # reaches depth 1 at 1
        across = np.cross(ray, c - a)
        determinant = ((b - a) * across).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((eye - a) * across).sum(1) / determinant
            other = np.cross(eye - a, b - a)
            v, t = other @ ray / determinant, ((c - a) * other).sum(1) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        expected = t[hit].min() if hit.any() else 0.0
        assert sample.depth[row, column] == pytest.approx(expected, abs=1e-6)


def test_normals_face_the_camera_and_agree_with_the_depth(samples):
    tilted = total = 0
    errors = []
    for sample in samples[:30]:
        view = sample.camera
        hit = sample.depth > 0
        to_eye = view.position - view.unproject(view.pixel_centres()[hit], sample.depth[hit])
        cosine = (sample.normals[hit] * to_eye).sum(1) / np.linalg.norm(to_eye, axis=1)
        tilted += int((cosine < -0.1).sum())
        total += int(hit.sum())
        # The slope of the depth gives the normal too, where neighbours lie on one smooth surface.
        points = view.unproject(view.pixel_centres(), np.where(hit, sample.depth, np.nan))
        across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
        slope = np.cross(down, across)
        slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
        flat = (sample.parts[1:-1, 1:-1] == part("skin")) & np.isfinite(slope).all(-1)
        errors.append((slope * sample.normals[1:-1, 1:-1]).sum(-1)[flat])
    assert tilted / total < 0.01
    assert np.median(np.concatenate(errors)) > 0.98


def test_visible_triangles_face_the_camera(samples):
    away = total = 0
    for sample in samples[:30]:
        mesh, view = sample.mesh, sample.camera
        found = rasterise(mesh.vertices, mesh.faces, view)
        a, b, c = (mesh.vertices[mesh.faces[found.face[found.face >= 0], k]] for k in range(3))
        away += int(((np.cross(b - a, c - a) * (view.position - a)).sum(1) < 0).sum())
        total += len(a)
    assert away / total < 0.005


def test_keypoints_lie_on_the_mesh_and_on_their_parts():
    expected = {"eye_inner": ("eye_white", "skin", "iris"), "mouth_corner": ("upper_lip", "lower_lip", "skin"),
                "nose_tip": ("nose",), "upper_lip": ("upper_lip",), "lower_lip": ("lower_lip",), "chin": ("skin",),
                "nose_wing": ("nose",), "brow_inner": ("brow",), "ear_lobe": ("ear",)}  # fmt: skip
    hits, total = dict.fromkeys(expected, 0), dict.fromkeys(expected, 0)
    for seed in range(25):
        sample = WORLD.render(seed, 128, supersample=1, body_type="cropped")
        points = sample.camera.unproject(sample.keypoints[0, :, :2], np.ones(len(WORLD.schema.keypoints)))
        assert np.isfinite(points).all()
        for name, (x, y, visibility) in zip(WORLD.schema.keypoints, sample.keypoints[0], strict=True):
            stem = name.removesuffix("_left").removesuffix("_right")
            if stem in expected and visibility == 2:
                near = sample.parts[max(int(y) - 2, 0) : int(y) + 3, max(int(x) - 2, 0) : int(x) + 3]
                total[stem] += 1
                hits[stem] += int(np.isin(near, [part(p) for p in expected[stem]]).any())
    for stem, count in total.items():
        assert count >= 10, stem
        assert hits[stem] / count > 0.9, stem


def test_keypoints_are_in_order_on_a_frontal_face():
    for seed in range(10):
        points = WORLD.render(seed, 128, camera=camera(0.0)).keypoints[0, :, :2]
        x = {name: points[keypoint(name), 0] for name in WORLD.schema.keypoints}
        y = {name: points[keypoint(name), 1] for name in WORLD.schema.keypoints}
        # The person's left is on the right of the image.
        order = ("ear_lobe_right", "eye_outer_right", "eye_inner_right", "nose_tip", "eye_inner_left", "eye_outer_left",
                 "ear_lobe_left")  # fmt: skip
        assert all(x[a] < x[b] for a, b in pairwise(order))
        down = ("brow_inner_left", "eye_inner_left", "nose_tip", "upper_lip", "lower_lip", "chin")
        assert all(y[a] < y[b] for a, b in pairwise(down))


def test_the_far_side_is_hidden_in_half_profile():
    near = far = 0
    for seed in range(20):
        rows = WORLD.render(seed, 64, camera=camera(60.0), body_type="cropped").keypoints[0]
        near += int(rows[keypoint("ear_lobe_left"), 2] == 2) + int(rows[keypoint("eye_outer_left"), 2] == 2)
        far += int(rows[keypoint("ear_lobe_right"), 2] == 2) + int(rows[keypoint("eye_outer_right"), 2] == 2)
    assert near > 30
    assert far < 8


def test_annotators_can_learn_from_faces():
    renders = render_samples(WORLD, range(4), 32)
    assert renders.image.shape == (4, 32, 32, 3)
    assert renders.paint.shape == (4, 3)
    assert renders.body.max() < len(WORLD.body_types)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_number_of_faces_of_a_scene_can_be_fixed(count):
    for seed in range(3):
        scene = WORLD.render_scene(seed, 64, num_objects=count, supersample=1)
        assert len(scene.attributes) == count
        assert np.unique(scene.instances[scene.instances > 0]).tolist() == list(range(1, count + 1))
        np.testing.assert_array_equal(scene.instances > 0, scene.parts > 0)
        assert scene.keypoints.shape == (count, len(WORLD.schema.keypoints), 3)
        assert len(scene.boxes()) == count


def test_scenes_hold_none_one_and_several_faces_of_many_sizes():
    scenes = [WORLD.render_scene(seed, 48, supersample=1) for seed in range(40)]
    counts = np.array([len(scene.attributes) for scene in scenes])
    assert (np.bincount(counts, minlength=3)[:2] > 0).all()
    assert (counts >= 2).sum() > 3
    areas = [np.mean(scene.instances == 1) for scene in scenes if len(scene.attributes)]
    assert min(areas) < 0.15
    assert max(areas) > 0.7


@pytest.mark.parametrize(
    "call",
    [
        lambda: WORLD.render(-1),
        lambda: WORLD.render(0, 0),
        lambda: WORLD.render(0, supersample=0),
        lambda: WORLD.render(0, body_type="mohican"),
        lambda: WORLD.render_scene(0, num_objects=-1),
        lambda: WORLD.render_scene(0, num_objects=99),
    ],
)
def test_bad_requests_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_images_are_those_that_the_shipped_networks_know():
    golden = np.load(GOLDEN)
    for index, seed in enumerate(golden["seeds"].tolist()):
        sample = WORLD.render(seed, 32)
        assert np.abs(sample.image.astype(float) - golden["images"][index]).mean() < 0.5
        assert np.mean(sample.parts == golden["parts"][index]) > 0.99
        np.testing.assert_allclose(sample.keypoints, golden["keypoints"][index], atol=0.01)
    scene = WORLD.render_scene(4, 48, num_objects=3)
    assert np.abs(scene.image.astype(float) - golden["scene"]).mean() < 0.5
    assert np.mean(scene.instances == golden["scene_instances"]) > 0.99


def test_unknown_hair_styles_and_sizes_are_refused():
    with pytest.raises(InputError, match="no hair style 'mohawk'; choose one of"):
        WORLD.render(0, 32, body_type="mohawk")
    with pytest.raises(InputError, match="give positive numbers"):
        WORLD.render(0, 0)
