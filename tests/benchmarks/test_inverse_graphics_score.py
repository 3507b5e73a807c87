"""Measures of the inverse-graphics benchmark: a network that knows the truth has no error, whatever its frame."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmarks import _inverse_data as data
from benchmarks import _inverse_score as judge
from benchmarks._inverse_data import Shots, Solid, Unseen
from ganfoundry.render.camera import Camera
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw
from ganfoundry.shape.networks import CameraGuess, InverseGraphicsNetwork, NetworkConfig, Surface
from ganfoundry.shape.surface_error import Similarity
from ganfoundry.shape.template import sphere_template
from tests.ganfoundry.shape.toys import toy_views

LEVEL, COUNT = 3, 5
TEMPLATE = sphere_template(LEVEL)
KEYPOINTS = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
SIMILARITY = Similarity(2.4, Rotation.from_euler("y", 12, degrees=True).as_matrix(), np.array([0.05, 0.2, -0.1]))


@pytest.fixture(autouse=True, scope="module")
def _small():
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "POINTS", 1500)
        yield


def body(index: int) -> np.ndarray:
    """Vertices of an egg-shaped 'car' in the world's frame; its front is pointed."""
    radii = np.array([0.9, 0.7, 1.8 + 0.1 * index])
    points = TEMPLATE.vertices.astype(float)
    return points * radii * (1 - 0.3 * np.clip(points[:, 2:], 0, 1) * [1, 1, 0])


def front(points: np.ndarray) -> np.ndarray:
    """Part ids of points on the unit sphere: 2 at the front, 3 on the left, else 1."""
    return np.where(points[..., 2] > 0.6, 2, np.where(points[..., 0] > 0.5, 3, 1)).astype(np.uint8)


def painted(height: int = 64) -> np.ndarray:
    """The same in texture space, from the layout's description in words: u from the back over the right side."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(2 * height) + 0.5) / (2 * height), indexing="ij")
    turn, ring = 2 * np.pi * (u - 0.5), np.sin(np.pi * v)
    return front(np.stack([np.sin(turn) * ring, np.cos(np.pi * v), np.cos(turn) * ring], -1))


@pytest.fixture(scope="module")
def knowing() -> SimpleNamespace:
    """A network that knows all bodies, in a frame of its own: a picture's first pixel says which body it shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = InverseGraphicsNetwork(NetworkConfig(num_parts=12, num_keypoints=3, level=LEVEL, width=8))
    turn = SIMILARITY.rotation

    def read(images: np.ndarray, masks: np.ndarray | None = None) -> Reading:
        ids, azimuths = images[:, 0, 0, 0].astype(int), np.radians(2.0 * images[:, 0, 0, 1])
        own = [(body(i) - SIMILARITY.translation) @ turn / SIMILARITY.scale for i in ids]
        points = [(KEYPOINTS - SIMILARITY.translation) @ turn / SIMILARITY.scale for _ in ids]
        seen_from = np.stack([np.sin(azimuths), np.zeros(len(ids)), np.cos(azimuths)], 1) @ turn
        logits = 10.0 * (torch.from_numpy(painted())[None] == torch.arange(1, 12)[:, None, None])
        surface = Surface(
            torch.zeros(len(ids), 3, 64, 128), logits.float().expand(len(ids), -1, -1, -1), torch.zeros(1)
        )
        zero = torch.zeros(len(ids))
        guess = CameraGuess(torch.from_numpy(seen_from[:, [0, 2]]).float(), zero, zero, torch.zeros(len(ids), 2))
        shape = SimpleNamespace(
            vertices=torch.from_numpy(np.stack(own)).float(), keypoints=torch.from_numpy(np.stack(points)).float()
        )
        return Reading(shape, surface, guess)

    return SimpleNamespace(network=network, read=read, description={})


@pytest.fixture(scope="module")
def unseen(knowing: SimpleNamespace) -> Unseen:
    """The bodies, truly measured, and drawn by the renderer in the world's frame."""
    azimuths = np.array([0, 40, 100, 190, 330])
    solids = [
        Solid.of_mesh(body(i), TEMPLATE.faces, front(TEMPLATE.vertices[TEMPLATE.faces].mean(1)), KEYPOINTS, seed=9 + i)
        for i in range(COUNT)
    ]
    cameras = [Camera(float(a), 12.0, 11.0, 26.0) for a in azimuths]
    several = Cameras.from_cameras(cameras)
    vertices = torch.from_numpy(np.stack([body(i) for i in range(COUNT)])).float()
    colours = torch.zeros(COUNT, 3, 64, 128)
    drawn = draw(knowing.network, Mesh.of_level(LEVEL), vertices, colours, several, 64)
    assert drawn.image is not None
    masks = (drawn.mask > 0.5).numpy()
    white = ((drawn.image + (1 - drawn.mask)[:, None]).clamp(-1, 1) + 1) * 127.5
    places = several.project(torch.from_numpy(KEYPOINTS).float(), 64).numpy()
    places[..., 2] = 2.0
    table = np.array([[c.azimuth, c.elevation, c.distance, c.fov] for c in cameras])
    novel = Shots(white.round().byte().permute(0, 2, 3, 1).numpy(), masks.astype(np.uint8), places, table)
    shown = novel.image.copy()
    shown[:, 0, 0, 0], shown[:, 0, 0, 1] = np.arange(COUNT), azimuths // 2
    return Unseen(replace(novel, image=shown), novel, solids)


def test_a_network_that_knows_has_no_error_in_a_frame_of_its_own(knowing, unseen):
    found = judge.similarity_of(knowing, unseen.shown, unseen.solids)
    assert found.scale == pytest.approx(SIMILARITY.scale, rel=0.01)
    assert np.allclose(found.translation, SIMILARITY.translation, atol=0.03)
    figures = judge.score(judge.network_method(knowing, found), unseen)
    assert figures["iou3d"] > 0.95
    assert figures["chamfer"] < 0.02
    assert figures["f_score"] > 0.9
    assert figures["normal_consistency"] > 0.95
    assert figures["azimuth_error"] < 1.5
    assert figures["turned_around"] == 0
    assert figures["part_miou"] > 0.9
    assert figures["pck5"] == 1.0
    assert figures["keypoint_error_3d"] < 0.01
    assert figures["novel_iou"] > 0.95
    assert figures["novel_psnr"] > 18
    assert figures["novel_features"] < 0.1


def test_each_kind_of_error_shows_in_its_own_figure(knowing, unseen):
    good = judge.score(judge.network_method(knowing, SIMILARITY), unseen)
    turned = replace(SIMILARITY, rotation=SIMILARITY.rotation @ Rotation.from_euler("y", 180, degrees=True).as_matrix())
    figures = judge.score(judge.network_method(knowing, turned), unseen, "x_")
    assert figures["x_azimuth_error"] == pytest.approx(180, abs=3)
    assert figures["x_turned_around"] == 1
    assert figures["x_part_miou"] < 0.5
    assert figures["x_keypoint_error_3d"] > 0.2
    assert figures["x_pck5"] < 0.5
    assert figures["x_iou3d"] > 0.7  # eggs are much alike from both ends
    larger = judge.score(judge.network_method(knowing, replace(SIMILARITY, scale=1.1 * SIMILARITY.scale)), unseen)
    assert larger["iou3d"] == pytest.approx(1 / 1.1**3, abs=0.05)
    assert larger["azimuth_error"] == good["azimuth_error"]
    assert larger["novel_psnr"] < good["novel_psnr"]


def test_parts_are_compared_in_the_coarser_classes_and_unknown_ones_do_not_count(unseen):
    names, outer = data.SCHEMA.names(data.LEVEL), data.SCHEMA.names(data.OUTER_LEVEL)
    wheel, roof = names.index("wheel"), names.index("roof")
    said = np.full(data.POINTS, outer.index("body"), np.uint8)
    said[::3] = data.UNKNOWN
    true = replace(unseen.solids[0], parts=said, level=data.OUTER_LEVEL)
    found = replace(unseen.solids[0], parts=np.full(data.POINTS, roof, np.uint8))
    _, pair = judge.compare_solids(found, true)
    assert np.array_equal(pair[0], said)
    assert (pair[1] == outer.index("body")).all()
    assert (
        data.parts_at(data.OUTER_LEVEL, replace(found, parts=np.full(2, wheel, np.uint8))) == outer.index("wheel")
    ).all()
    _, same = judge.compare_solids(true, true)
    assert np.array_equal(same[0], same[1])


def test_keypoints_that_are_not_known_do_not_count(unseen):
    true = replace(unseen.solids[0], known=np.array([True, False, False]))
    points = true.keypoints.copy()
    points[1:] += 5
    figures, _ = judge.compare_solids(replace(true, keypoints=points), true)
    assert figures["keypoint_error_3d"] == 0
    none, _ = judge.compare_solids(true, replace(true, known=np.zeros(3, bool)))
    assert "keypoint_error_3d" not in none


def test_the_camera_table_comes_back_from_the_description():
    rows = [[10.0, 5.0, 0.05, 0.01, -0.02], [200.0, -3.0, -0.1, 0.0, 0.03]]
    config = NetworkConfig(num_parts=3, num_keypoints=0)
    table = judge.table_of(SimpleNamespace(description={"cameras": rows}, network=SimpleNamespace(config=config)))
    assert np.allclose(table.parameters_of(torch.arange(2)).detach().numpy(), rows, atol=1e-5)


def test_table_error_forgives_one_turn_for_all_and_nothing_else():
    rows = [[azimuth + 100.0, 0.0, 0.0, 0.0, 0.0] for azimuth in (0, 30, 60, 350)]
    config = NetworkConfig(num_parts=3, num_keypoints=0)
    table = judge.table_of(SimpleNamespace(description={"cameras": rows}, network=SimpleNamespace(config=config)))
    assert judge.table_error(table, range(4), [0, 30, 60, 350]) == pytest.approx(0, abs=1e-3)
    assert judge.table_error(table, [0, 1, 2], [0, 38, 56]) == pytest.approx(4, abs=1e-3)
    assert judge.table_error(table, [1, 2], [30, 56]) <= 4


def test_the_nearest_of_what_was_learnt_is_itself():
    views = toy_views(3, size=64)
    figures = judge.neighbour_views(views, views, objects=6)
    assert figures == pytest.approx({"iou2d_input": 1, "iou2d_novel": 1, "part_miou": 1, "pck5": 1})
    others = judge.neighbour_views(*views.split(0.34), objects=6)
    assert others["iou2d_novel"] < 1


def test_the_mean_volume_is_what_most_have(unseen):
    solids = unseen.solids
    assert judge.mean_volume([solids[0]] * 3, replace(unseen, solids=[solids[0]])) == 1.0
    outvoted = judge.mean_volume([solids[0]] * 5 + [solids[4]], replace(unseen, solids=[solids[4]]))
    assert outvoted == pytest.approx(judge.voxel_iou(solids[0].voxels, solids[4].voxels))


def test_a_mean_shape_is_the_same_for_every_image():
    config = NetworkConfig(num_parts=3, num_keypoints=2, level=2, width=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = InverseGraphicsNetwork(config).eval()
    images = toy_views(2, size=32).images
    with torch.inference_mode():
        own = network.shape(network.encode(judge.network_images(images)))
        judge.keep_mean_shape(network, images)
        found = network.shape(network.encode(judge.network_images(images[:3])))
    assert own.vertices.std(0).max() > 1e-5
    assert torch.allclose(found.vertices, own.vertices.mean(0).expand(3, -1, -1), atol=1e-6)
    assert torch.allclose(found.keypoint_weights.sum(2), torch.ones(3, 2))


def test_pictures_are_compared_on_white():
    images = np.full((2, 64, 64, 3), 90, np.uint8)
    mask = np.zeros((2, 64, 64), bool)
    mask[:, 16:48, 16:48] = True
    white = judge.on_white(images, mask)
    assert (white[~mask] == 255).all()
    assert judge.compare_pictures(white, white) == pytest.approx({"novel_psnr": 60, "novel_features": 0}, abs=1e-6)
    darker = np.where(mask[..., None], white - np.uint8(51), white)  # a fifth of the range on a quarter of the image
    assert judge.compare_pictures(darker, white)["novel_psnr"] == pytest.approx(20, abs=0.01)
