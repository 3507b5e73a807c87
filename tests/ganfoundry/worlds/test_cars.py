"""Cars: the ground truth agrees with itself, with the camera and with the mesh."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.render import Camera, occluder_depth, rasterise
from ganfoundry.worlds import get_world
from ganfoundry.worlds.look import DISTANCE, ELEVATION, FOV

WORLD = get_world("cars")
GOLDEN = Path(__file__).with_name("golden_cars.npz")


def camera(azimuth, elevation=12.0, resolution=64):
    return Camera(azimuth, elevation, 11.1, FOV, resolution=resolution)


@pytest.fixture(scope="module")
def samples():
    return [WORLD.render(seed, 64) for seed in range(200)]


def digest(sample):
    state = hashlib.sha256()
    for field in (sample.image, sample.parts, sample.instances, sample.keypoints, sample.depth, sample.normals):
        state.update(np.ascontiguousarray(field).tobytes())
    state.update(repr(sample.attributes).encode())
    return state.hexdigest()


def test_shapes_dtypes_and_ranges(samples):
    for sample in samples[:20]:
        assert sample.image.shape == (64, 64, 3)
        assert sample.image.dtype == sample.parts.dtype == sample.instances.dtype == np.uint8
        assert sample.parts.shape == sample.instances.shape == sample.depth.shape == (64, 64)
        assert sample.keypoints.shape == (1, len(WORLD.schema.keypoints), 3)
        assert sample.keypoints.dtype == sample.depth.dtype == sample.normals.dtype == np.float32
        assert set(np.unique(sample.keypoints[..., 2])) <= {0.0, 1.0, 2.0}
        covered = sample.instances == 1
        np.testing.assert_array_equal(covered, sample.parts > 0)
        np.testing.assert_array_equal(covered, sample.depth > 0)
        lengths = np.linalg.norm(sample.normals, axis=-1)
        np.testing.assert_allclose(lengths[covered], 1.0, atol=1e-5)
        assert not lengths[~covered].any()


def test_every_part_body_type_and_paint_appears(samples):
    seen = np.unique(np.concatenate([np.unique(sample.parts) for sample in samples]))
    assert seen.tolist() == list(range(len(WORLD.schema.parts)))
    assert {sample.attributes[0]["body_type"] for sample in samples} == set(WORLD.body_types)
    assert len({sample.attributes[0]["paint_name"] for sample in samples}) == 10


def test_framing_is_tight_and_never_cropped(samples):
    boxes = np.stack([sample.boxes()[0] for sample in samples])
    assert boxes[:, :2].min() >= 1
    assert boxes[:, 2:].max() <= 63
    azimuth = np.array([sample.attributes[0]["azimuth"] for sample in samples])
    side = np.abs(azimuth % 180 - 90) < 10
    width = (boxes[side, 2] - boxes[side, 0]) / 64
    assert width.min() > 0.76
    assert 0.85 < width.mean() < 0.95


def test_cameras_cover_all_azimuths_evenly(samples):
    views = [sample.attributes[0] for sample in samples]
    counts = np.bincount([int(view["azimuth"] // 60) for view in views], minlength=6)
    assert counts.min() > 200 / 6 * 0.6
    assert all(ELEVATION[0] <= view["elevation"] <= ELEVATION[1] for view in views)
    assert all(DISTANCE[0] <= view["distance"] <= DISTANCE[1] for view in views)


def test_few_cars_are_nearly_black(samples):
    dark = [max(sample.attributes[0]["paint_rgb"]) < 0.3 for sample in samples]
    assert np.mean(dark) < 0.08


def test_repeats_are_the_same_bytes_also_in_another_process(samples):
    assert digest(WORLD.render(7, 64)) == digest(samples[7])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_cars; "
        "print(test_cars.digest(test_cars.WORLD.render(7, 64)), test_cars.digest(test_cars.WORLD.render_scene(3, 48)))"
    )
    folder = str(Path(__file__).parent)
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == [digest(samples[7]), digest(WORLD.render_scene(3, 48))]


def test_images_are_those_that_the_shipped_networks_know():
    golden = np.load(GOLDEN)
    for index, seed in enumerate(golden["seeds"]):
        sample = WORLD.render(int(seed), 32)
        difference = np.abs(sample.image.astype(float) - golden["images"][index])
        assert difference.mean() < 0.5
        assert np.mean(sample.parts == golden["parts"][index]) > 0.99


def test_maps_do_not_depend_on_supersampling(samples):
    for supersample in (1, 3):
        other = WORLD.render(5, 64, supersample=supersample)
        np.testing.assert_array_equal(other.parts, samples[5].parts)
        np.testing.assert_array_equal(other.depth, samples[5].depth)
        assert np.abs(other.image.astype(float) - samples[5].image).mean() < 6


def test_another_camera_shows_the_same_car():
    first, second = WORLD.render(3, 64), WORLD.render(3, 64, camera=camera(200.0))
    np.testing.assert_array_equal(first.mesh.vertices, second.mesh.vertices)
    np.testing.assert_array_equal(WORLD.mesh(3).vertices, first.mesh.vertices)
    assert first.attributes[0]["paint_rgb"] == second.attributes[0]["paint_rgb"]
    assert second.attributes[0]["azimuth"] == pytest.approx(200.0)
    assert WORLD.render(3, 48, camera=camera(200.0, resolution=64)).camera.resolution == 48


def test_mesh_is_centred_symmetric_and_on_the_ground():
    for body_type in WORLD.body_types:
        mesh = WORLD.render(1, 16, body_type=body_type).mesh
        np.testing.assert_allclose(mesh.bounds.sum(0), 0.0, atol=1e-9)
        tyres = mesh.part(WORLD.schema.part_id("tyre"))
        assert mesh.vertices[tyres.faces][..., 1].min() == mesh.bounds[0, 1]
        left, right = mesh.vertices[mesh.vertices[:, 0] > 0.01], mesh.vertices[mesh.vertices[:, 0] < -0.01]
        assert len(left) == len(right)
        assert left[:, 0].sum() == pytest.approx(-right[:, 0].sum())


@pytest.mark.parametrize("body_type", WORLD.body_types)
def test_views_from_left_and_right_mirror_each_other(body_type):
    left = WORLD.render(11, 96, camera=camera(50.0), body_type=body_type)
    right = WORLD.render(11, 96, camera=camera(-50.0), body_type=body_type)
    assert np.mean(left.parts == right.parts[:, ::-1]) > 0.995
    both = (left.depth > 0) & (right.depth[:, ::-1] > 0)
    assert np.median(np.abs(left.depth - right.depth[:, ::-1])[both]) < 1e-4
    order = WORLD.schema.flip_permutation()
    mirrored = right.keypoints[0][order] * [-1, 1, 1] + [96, 0, 0]
    np.testing.assert_allclose(mirrored[:, :2], left.keypoints[0][:, :2], atol=1e-3)
    assert np.mean(mirrored[:, 2] == left.keypoints[0][:, 2]) > 0.9


@pytest.mark.parametrize("body_type", WORLD.body_types)
def test_part_map_shows_the_parts_of_the_mesh(body_type):
    sample = WORLD.render(21, 256, camera=camera(215.0, 20.0), body_type=body_type, supersample=1)
    mesh, view = sample.mesh, sample.camera
    rng = np.random.default_rng(0)
    face = rng.integers(len(mesh.faces), size=4000)
    weights = rng.dirichlet([1.0, 1.0, 1.0], size=4000)
    points = np.einsum("nc,ncd->nd", weights, mesh.vertices[mesh.faces[face]])
    pixels, depth = view.project(points)
    seen = occluder_depth(pixels, mesh.vertices, mesh.faces, view) > depth - 1e-6
    x, y = np.floor(pixels[seen]).astype(int).T
    assert seen.sum() > 300
    assert np.mean(sample.parts[y, x] == mesh.face_parts[face[seen]]) > 0.85
    assert np.median(np.abs(sample.depth[y, x] - depth[seen])) < 0.02


def test_depth_and_camera_give_back_points_of_the_mesh(samples):
    for sample in samples[:10]:
        hit = sample.depth > 0
        points = sample.camera.unproject(sample.camera.pixel_centres()[hit], sample.depth[hit])
        low, high = sample.mesh.bounds
        assert (points > low - 1e-4).all()
        assert (points < high + 1e-4).all()


def test_visible_surfaces_and_normals_face_the_camera(samples):
    away = total = tilted = 0
    for sample in samples[:40]:
        mesh, view = sample.mesh, sample.camera
        found = rasterise(mesh.vertices, mesh.faces, view)
        hit = found.face >= 0
        a, b, c = (mesh.vertices[mesh.faces[found.face[hit], k]] for k in range(3))
        away += int(((np.cross(b - a, c - a) * (view.position - a)).sum(1) < 0).sum())
        points = view.unproject(view.pixel_centres()[hit], found.depth[hit])
        to_eye = view.position - points
        cosine = (sample.normals[hit] * to_eye).sum(1) / np.linalg.norm(to_eye, axis=1)
        tilted += int((cosine < -0.1).sum())
        total += int(hit.sum())
    assert away / total < 0.01
    assert tilted / total < 0.01


def test_keypoint_visibility_agrees_with_the_depth_map(samples):
    checked = wrong = 0
    flat = ("front_plate", "rear_plate", "front_wheel_left", "front_wheel_right", "rear_wheel_left", "rear_wheel_right")
    parts = [WORLD.schema.part_id(name) for name in ("rim", "tyre", "number_plate")]
    for sample in samples[:80]:
        for name, (x, y, visibility) in zip(WORLD.schema.keypoints, sample.keypoints[0], strict=True):
            row, column = int(y), int(x)
            around = sample.depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            # Plates and hubs have flat surroundings: away from depth edges their own pixel shows what is seen.
            if name in flat and (around > 0).all() and np.ptp(around) < 0.25:
                checked += 1
                wrong += (sample.parts[row, column] in parts) != (visibility == 2)
    assert checked > 150
    assert wrong / checked < 0.06


def test_keypoints_lie_on_their_parts():
    expected = {"headlamp": "headlamp", "tail_lamp": "tail_lamp", "front_wheel": "rim", "rear_wheel": "rim",
                "front_plate": "number_plate", "rear_plate": "number_plate", "mirror": "mirror"}  # fmt: skip
    hits, total = dict.fromkeys(expected, 0), dict.fromkeys(expected, 0)
    for seed in range(40):
        sample = WORLD.render(seed, 128, supersample=1)
        for name, (x, y, visibility) in zip(WORLD.schema.keypoints, sample.keypoints[0], strict=True):
            stem = name.removesuffix("_left").removesuffix("_right")
            if stem in expected and visibility == 2:
                near = sample.parts[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
                total[stem] += 1
                hits[stem] += int((near == WORLD.schema.part_id(expected[stem])).any())
    for stem, count in total.items():
        assert count >= 10, stem
        assert hits[stem] / count > 0.9, stem


def test_front_and_rear_lamps_are_where_they_belong():
    front, rear = WORLD.schema.part_id("headlamp"), WORLD.schema.part_id("tail_lamp")
    for body_type in WORLD.body_types:
        ahead = WORLD.render(2, 96, camera=camera(0.0), body_type=body_type).parts
        behind = WORLD.render(2, 96, camera=camera(180.0), body_type=body_type).parts
        assert (ahead == front).sum() > 20
        assert not (ahead == rear).any()
        assert (behind == rear).sum() > 20
        assert not (behind == front).any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: WORLD.render(-1),
        lambda: WORLD.render(0, 0),
        lambda: WORLD.render(0, supersample=0),
        lambda: WORLD.render(0, body_type="tank"),
        lambda: get_world("planes"),
        lambda: WORLD.render_scene(0, num_objects=-1),
    ],
)
def test_bad_requests_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_camera_outside_its_usual_range_still_gives_a_sample():
    sample = WORLD.render(0, 32, camera=replace(camera(10.0), distance=60.0, elevation=-20.0))
    assert 0 < (sample.parts > 0).mean() < 0.1
